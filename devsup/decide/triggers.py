"""Which saved file reloads a worker (DESIGN 6, 'What triggers'). Paths are absolute strings; contents are somebody else's."""

from __future__ import annotations

import fnmatch
import itertools
import posixpath
from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec.structs import replace

Verdict = Literal["reload", "name", "ignore"]
_SCRATCH = ("*~", ".#*", "*.swp", "*.swx", "*.tmp", "4913", "*.pyc", "___jb_*")
NEVER = frozenset(
    {".devsup", "__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules"}
)


_UVICORN_DEFAULTS = (".*", ".py[cod]", ".sw.*", "~*", "*.py")  # ours cover them


class Rules(msgspec.Struct, frozen=True):
    """What a service watches. Globs are relative to `root` unless absolute; `only` narrows Python files to folders.

    `python` is false where only what is named reloads.
    """

    root: str
    watch: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    watch_mode: Literal["imported", "all"] = "imported"
    exact: frozenset[str] = frozenset()  # .env and the env files
    only: tuple[str, ...] = ()
    python: bool = True


class Loaded(msgspec.Struct, frozen=True):
    """What the worker (while none runs, the last one) has imported: its files, and the folders of its packages."""

    files: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    running: bool = False


def judge(path: str, rules: Rules, loaded: Loaded, is_ignored: Callable[[str], bool] = lambda _: False) -> Verdict:
    """Whether a change of `path` reloads, is worth a line, or is nothing. `is_ignored` tells what git ignores."""
    name, inside = posixpath.basename(path), path.removeprefix(rules.root.rstrip("/") + "/")
    if any(fnmatch.fnmatchcase(name, scratch) for scratch in _SCRATCH) or NEVER & set(inside.split("/")[:-1]):
        return "ignore"
    if path in rules.exact:
        return "reload"
    if matches(path, rules.ignore, rules.root):
        return "ignore"
    if matches(path, rules.watch, rules.root):
        return "reload"
    outside = rules.only and not any(path.startswith(folder.rstrip("/") + "/") for folder in rules.only)
    if not rules.python or (outside and loaded.running):
        return "ignore"
    if path in loaded.files:
        return "reload"
    hidden = inside != path and any(part.startswith(".") for part in inside.split("/"))
    if not name.endswith(".py") or hidden or is_ignored(path):
        return "ignore"
    known = rules.watch_mode == "all" or not loaded.running or posixpath.dirname(path) in loaded.packages
    return "reload" if known else "name"


def fixed(glob: str, root: str) -> str:
    """The path that a glob's files are or lie below; '' where they may be anywhere."""
    parts = glob.removeprefix("./").split("/")
    plain = list(itertools.takewhile(lambda part: not set(part) & set("*?["), parts))
    return posixpath.normpath(posixpath.join(root, "/".join(plain))) if any(plain) else ""


def adopted(rules: Rules, dirs: tuple[str, ...], includes: tuple[str, ...], excludes: tuple[str, ...]) -> Rules:
    """These rules with those of the app's own reloader, as uvicorn documents them; `dirs` are absolute.

    Its folders narrow, its includes add files in them, its excludes win; to exclude `*.py` takes away that default. An include
    that names a folder means the Python files in it.
    """
    only = () if any(rules.root == folder or rules.root.startswith(folder.rstrip("/") + "/") for folder in dirs) else dirs
    globs = [f"{glob.rstrip('/')}/**/*.py" if glob.endswith("/") else glob for glob in includes if glob != "*.py"]
    if only:
        globs = [glob if glob.startswith("/") else f"{folder}/**/{glob}" for folder in only for glob in globs]
    excluded = tuple(glob for glob in excludes if glob not in _UVICORN_DEFAULTS)
    return replace(
        rules, only=only, watch=(*rules.watch, *globs), ignore=(*rules.ignore, *excluded), python="*.py" not in excludes
    )


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
