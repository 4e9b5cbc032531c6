"""A service that a project seems to have, and the folders in which one is looked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SKIPPED = frozenset("node_modules site-packages venv env build dist test tests docs migrations __pycache__".split())
_DEPTH = 4  # folders below the project's
_MOST = 1000  # folders


@dataclass(frozen=True)
class Found:
    """What to write into the config, and why. `{port}` in the command is the port; a `fixed` one the program has chosen."""

    name: str
    why: str
    command: str
    cwd: str = "."
    port: int = 0
    fixed: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of its table."""
        keys: dict[str, Any] = {"command": self.command.replace("{port}", str(self.port))}
        if self.cwd != ".":
            keys["cwd"] = self.cwd
        if self.port and self.fixed:
            keys["port"] = self.port
        return {**keys, **self.more}


def folders(project: Path) -> Iterator[Path]:
    """The project's folder and those below it that may hold its own code, the upper ones first."""
    level, left = [project], _MOST
    for _ in range(_DEPTH + 1):
        yield from level[:left]
        left = max(0, left - len(level))
        level = [inner for folder in level for inner in _inside(folder)]


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _is_own(path))
    except OSError:
        return []


def _is_own(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in _SKIPPED
    return not hidden and not path.is_symlink() and path.is_dir() and not (path / "pyvenv.cfg").exists()


def text_of(path: Path) -> str:
    """A file's text; empty where there is none that can be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
