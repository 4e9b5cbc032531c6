"""Bytecode that Python would run although its source says something else, or is gone."""

from __future__ import annotations

import importlib.util
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from devsup.doctor.finding import Finding, first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devsup.doctor.project import Project

_HEAD = 16  # bytes: magic number, flags, and a hash of eight or time and size
_UNCHECKED = 0b01  # hash-based (PEP 552), and not to be compared with its source


def stale(project: Project) -> Iterator[Finding]:
    """What stands in the place of a source that is gone, and what is out of date and never looked at again."""
    bare = [path for path in project.files.bare if not _has_source(path)]
    yield from first(
        Finding(
            "bytecode",
            "warn",
            f"{project.short(path)} is imported as a module although its source is gone.",
            f"rm {shlex.quote(path)}",
        )
        for path in bare
    )
    old = [path for path in project.files.cached if _is_out_of_date(path)]
    yield from first(
        Finding(
            "bytecode",
            "warn",
            f"{project.short(path)} is run in place of its source, which has changed: it is marked as never to be checked.",
            f"rm {shlex.quote(path)}",
        )
        for path in old
    )
    if not bare and not old:
        yield Finding("bytecode", "ok", "No bytecode stands for a source that is gone or has changed.")


def _has_source(path: str) -> bool:
    """Whether Python would take something else: the source beside it, or a package of that name."""
    stem = path.removesuffix(".pyc")
    return Path(f"{stem}.py").is_file() or Path(stem, "__init__.py").is_file()


def _is_out_of_date(path: str) -> bool:
    """Of bytecode of devsup's own Python: another's hash cannot be computed here."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
        if head[:4] != importlib.util.MAGIC_NUMBER or int.from_bytes(head[4:8], "little") != _UNCHECKED or len(head) < _HEAD:
            return False
        source = importlib.util.source_from_cache(path)
        return os.path.isfile(source) and importlib.util.source_hash(Path(source).read_bytes()) != head[8:]  # noqa: PTH113
    except (OSError, ValueError):
        return False
