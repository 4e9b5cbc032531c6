"""Which saved file reloads a worker (DESIGN 6, 'What triggers'). Paths are absolute strings; contents are somebody else's."""

from __future__ import annotations

import fnmatch
import posixpath
from typing import Literal

import msgspec

Verdict = Literal["reload", "name", "ignore"]
_SCRATCH = ("*~", ".#*", "*.swp", "*.swx", "*.tmp", "4913", "*.pyc", "___jb_*")
NEVER = frozenset(
    {".devsup", "__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules"}
)


class Rules(msgspec.Struct, frozen=True):
    """What a service watches. Globs are relative to `root` unless absolute; `only` narrows the imported files to folders."""

    root: str
    watch: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    watch_mode: Literal["imported", "all"] = "imported"
    exact: frozenset[str] = frozenset()  # .env and the env files
    only: tuple[str, ...] = ()


class Loaded(msgspec.Struct, frozen=True):
    """What the worker has imported: its files, and the folders of its packages. None of it while no worker runs."""

    files: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    running: bool = False


def judge(path: str, rules: Rules, loaded: Loaded) -> Verdict:
    """Whether a change of `path` reloads, is worth a line, or is nothing."""
    name, inside = posixpath.basename(path), path.removeprefix(rules.root.rstrip("/") + "/")
    if any(fnmatch.fnmatchcase(name, scratch) for scratch in _SCRATCH) or NEVER & set(inside.split("/")[:-1]):
        return "ignore"
    if path in rules.exact:
        return "reload"
    if matches(path, rules.ignore, rules.root):
        return "ignore"
    if matches(path, rules.watch, rules.root):
        return "reload"
    if not name.endswith(".py") and path not in loaded.files:
        return "ignore"
    if rules.watch_mode == "all" or not loaded.running:
        return "reload"
    if path in loaded.files or posixpath.dirname(path) in loaded.packages:
        narrowed = rules.only and not any(path.startswith(folder.rstrip("/") + "/") for folder in rules.only)
        return "ignore" if narrowed else "reload"
    return "name"


def matches(path: str, globs: tuple[str, ...], root: str) -> bool:
    """Whether any glob matches: by whole path, by path below `root`, by name where it has no slash, or a folder above it."""
    inside = path.removeprefix(root.rstrip("/") + "/")
    for glob in globs:
        pattern = glob.removeprefix("./").rstrip("/")
        candidates = [path, inside] if "/" in pattern else [*inside.split("/")]
        folders = [inside[:at] for at, char in enumerate(inside) if char == "/"] + [
            path[:at] for at, char in enumerate(path) if char == "/"
        ]
        if any(_match(candidate, pattern) for candidate in candidates + ([] if "/" not in pattern else folders)):
            return True
    return False


def _match(path: str, pattern: str) -> bool:
    """Fnmatch in which `**/` may also be nothing, as everybody expects of it."""
    return fnmatch.fnmatchcase(path, pattern) or ("**/" in pattern and fnmatch.fnmatchcase(path, pattern.replace("**/", "")))
