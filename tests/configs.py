"""Configs as tests write and read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from devsup.config import Service, load
from devsup.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "config.example.toml"


def write(folder: Path, text: str, name: str = "devsup.toml") -> Path:
    """A file of this text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def service(folder: Path, lines: str) -> Service:
    """The service that these lines make."""
    write(folder, f"[services.web]\n{lines}")
    return load(folder).services["web"]


def refusal(folder: Path) -> str:
    """What is said of the folder's config, which is wrong."""
    with pytest.raises(UsageError) as caught:
        load(folder)
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    return str(caught.value)
