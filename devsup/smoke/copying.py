"""A copy of a project in which a file may be saved, and the file that says that it was loaded."""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
import stat
import tokenize
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from devsup.decide.addresses import module_files, values
from devsup.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LEFT_OUT = frozenset({".devsup", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox"})
_LINKED = frozenset({".git", ".hg", "node_modules", "site-packages"})  # large, and nobody's own code; and virtual environments
_LARGEST = 500 << 20  # bytes of a copy


def copied(project: Path, to: Path) -> Path:
    """A copy of the project, all of it writable; what is large and no code of its own is linked.

    Links within the project lead to the copy. Raises UsageError where it is too large, or cannot be copied.
    """
    size, linked = 0, list[Path]()

    def ignored(folder: str, names: list[str]) -> Sequence[str]:
        nonlocal size
        inside, left = Path(folder), list[str]()
        for name in names:
            path = inside / name
            with suppress(OSError):
                about = path.lstat()
                size += about.st_size
                if name in _LINKED or (path / "pyvenv.cfg").is_file():
                    linked.append(path)
                    left.append(name)
                elif name in _LEFT_OUT or not _is_copied(about.st_mode, path):
                    left.append(name)
        if size > _LARGEST:
            problem = f"{project} has more than {_LARGEST >> 20} MiB, too much to be copied for --reload-test."
            raise UsageError(problem, "Name the folder of the code alone: --cwd FOLDER.")
        return left

    target = to / project.name
    try:
        shutil.copytree(project, target, symlinks=True, ignore=ignored)
        _settle(project, target)
        for each in linked:
            (target / each.relative_to(project)).symlink_to(each, target_is_directory=True)
    except (shutil.Error, OSError) as exc:
        first = exc.args[0][0][2] if isinstance(exc, shutil.Error) else exc.strerror
        raise UsageError(f"{project} cannot be copied for --reload-test: {first}.", "See what it names: ls -l") from exc
    return target


def _is_copied(mode: int, path: Path) -> bool:
    """Sockets, pipes and devices are not, nor what cannot be read."""
    if stat.S_ISLNK(mode):
        return True
    return (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and os.access(path, os.R_OK)


def _settle(project: Path, target: Path) -> None:
    """Everything may be written, and no link leads back into the project."""
    real = project.resolve()
    for folder, folders, files in os.walk(target):
        Path(folder).chmod(0o700)
        for name in [*folders, *files]:
            path = Path(folder, name)
            if path.is_symlink():
                there = (project / path.relative_to(target)).resolve()
                if there.is_relative_to(real):
                    path.unlink()
                    path.symlink_to(target / there.relative_to(real))
            elif name in files:
                path.chmod(path.stat().st_mode | stat.S_IRUSR | stat.S_IWUSR)


def moved(words: Iterable[str], project: Path, copy: Path) -> tuple[str, ...]:
    """A command of the project as one of its copy: absolute paths lead there."""
    old = re.compile(rf"(?<![\w/.-]){re.escape(str(project))}(?=/|$)")
    return tuple(old.sub(str(copy), word) for word in words)


def main_file(command: Sequence[str], cwd: Path, copy: Path) -> Path:
    """The file that the program itself is in. Raises UsageError where that cannot be told, or where it is not of the copy."""
    folders = [cwd, *(cwd / word for word in values(command, "--app-dir"))]
    names = [*module_files(command), *(["app.py", "wsgi.py"] if "flask" in {Path(word).name for word in command} else [])]
    for folder in folders:
        for name in names:
            path = (folder / name).resolve()
            if path.is_file() and path.is_relative_to(copy.resolve()):
                return path
    raise UsageError(
        "It cannot be told from the command which file of the project is to be saved.", "Name the app as MODULE:APP."
    )


def save(path: Path, marker: str) -> None:
    """As an editor does: the whole file, beside it, then renamed over it. Raises UsageError for one that is no Python."""
    data = path.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = marked(data.decode(encoding), marker).encode(encoding)
    except (SyntaxError, UnicodeError, LookupError) as exc:
        raise UsageError(f"{path.name} cannot be read as Python: {exc}.", "Check its encoding.") from exc
    beside = path.with_name(f".{path.name}.saving")
    beside.write_bytes(text)
    shutil.copymode(path, beside)
    beside.replace(path)


def marked(source: str, marker: str) -> str:
    """A module that prints the marker when it is loaded, before all else that it does. Raises SyntaxError for what is none."""
    # Lines as Python counts them, which are fewer than those of str.splitlines.
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", source)
    first = next(
        (number for number, line in enumerate(lines[:2]) if not line.startswith("#")), min(2, len(lines))
    )  # its encoding
    for number, each in enumerate(ast.parse(source.removeprefix("\ufeff")).body):
        is_docstring = number == 0 and isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
        if is_docstring or (isinstance(each, ast.ImportFrom) and each.module == "__future__"):
            first = each.end_lineno or 0
    if first and not lines[first - 1].endswith(("\r", "\n")):
        lines[first - 1] += "\n"
    return "".join([*lines[:first], f"print({marker!r}, flush=True)\n", *lines[first:]])
