"""A project for the doctor, and its checks one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devsup.doctor import Finding, Project

Check = Callable[[Project], Iterator[Finding]]
Examine = Callable[..., list[Finding]]


@pytest.fixture(autouse=True)
def active(monkeypatch: pytest.MonkeyPatch) -> None:
    """The virtual environment of the tests is the one in use."""
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(project: Path) -> Path:
    """A project; its .git keeps the search from leaving it."""
    (project / ".git").mkdir()
    return project


@pytest.fixture
def examine(folder: Path) -> Examine:
    """`examine(check, "uvicorn", "main:app")` is what this check finds in the project."""

    def run(check: Check, *words: str, python: str | None = None, start: Path = folder) -> list[Finding]:
        return list(check(Project(start, words, python)))

    return run
