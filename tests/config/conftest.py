"""A project for a config."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project; its .git keeps the search from leaving it."""
    (tmp_path / ".git").mkdir()
    return tmp_path
