"""The project's own files: its Python sources, and the bytecode beside them."""

from __future__ import annotations

import os
from typing import NamedTuple

_SKIPPED = frozenset({"node_modules", "site-packages", "build", "dist"})
_CACHE = "__pycache__"
_MOST = 20_000  # sources
_MOST_FOLDERS = 50_000


class Files(NamedTuple):
    """Absolute paths. `bare` are the .pyc that stand where a source would, `cached` those in __pycache__ folders."""

    sources: list[str]
    bare: list[str]
    cached: list[str]
    folders: list[str]
    is_whole: bool = True


def walk(top: str) -> Files:
    """All below a folder but hidden folders, virtual environments, packages and what was built; no link is followed."""
    found = Files([], [], [], [])
    for folder, folders, names in os.walk(top):
        if "pyvenv.cfg" in names:
            folders.clear()
            continue
        if folder.endswith(f"/{_CACHE}"):
            folders.clear()
            found.cached.extend(f"{folder}/{name}" for name in names if name.endswith(".pyc"))
            continue
        if len(found.sources) >= _MOST or len(found.folders) >= _MOST_FOLDERS:
            return found._replace(is_whole=False)
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        found.folders.append(folder)
        shown = sorted(name for name in names if not name.startswith("."))
        found.sources.extend(f"{folder}/{name}" for name in shown if name.endswith(".py"))
        found.bare.extend(f"{folder}/{name}" for name in shown if name.endswith(".pyc"))
    return found
