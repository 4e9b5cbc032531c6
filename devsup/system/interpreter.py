"""The Python that runs a service: where it is found, and the environment that goes with it."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from devsup.errors import UsageError

_NAMES = ("python", "python3")


@dataclass(frozen=True)
class Interpreter:
    """A Python and how it was found.

    `path` is absolute and keeps its symlinks: the target of a virtual environment's python is outside of it.
    `reason` is "--python", "VIRTUAL_ENV", ".venv", "PATH" or "devsup's own".
    `bin` is the folder to put first on PATH, or None where PATH may stay as it is.
    """

    path: str
    reason: str
    bin: str | None


def find(cwd: Path, explicit: str | None, environ: Mapping[str, str]) -> Interpreter:
    """The Python for a service that runs in `cwd`.

    The first of: `explicit` (a path, a virtual environment's folder, or a name on PATH), VIRTUAL_ENV, the nearest
    .venv from `cwd` up to a folder with a .git, `python3` or `python` on PATH, devsup's own.
    A VIRTUAL_ENV or .venv without a Python is passed over. Raises UsageError when `explicit` is none of the three.
    """
    cwd = cwd.resolve()
    if explicit is not None:
        return _explicit(cwd, explicit, environ)
    if active := environ.get("VIRTUAL_ENV"):
        found = _in_folder(cwd / active, "VIRTUAL_ENV")
        if found:
            return found
    for folder in _up_to_repository(cwd):
        found = _in_folder(folder / ".venv", ".venv")
        if found:
            return found
    for name in reversed(_NAMES):
        found = _on_path(name, "PATH", environ)
        if found:
            return found
    if not sys.executable:
        problem = "No Python was found: there is no VIRTUAL_ENV, no .venv, and none on PATH."
        raise UsageError(problem, "Name one, as in --python /usr/bin/python3.")
    return _executable(Path(sys.executable), "devsup's own")


def is_python(program: Path) -> bool:
    """Whether to run this file is to run Python and nothing before it: an interpreter, or a script that names one."""
    try:
        with program.open("rb") as file:
            first, second = file.readline(512), file.readline(512)
    except OSError:
        return False
    if not first.startswith(b"#!"):
        return program.resolve().name.startswith("python")
    return b"python" in first or second.startswith(b"'''exec' ")  # pip's way around a path with spaces


def environment(found: Interpreter, environ: Mapping[str, str]) -> dict[str, str]:
    """A copy of `environ` in which `python` and the tools beside it are those of `found`.

    VIRTUAL_ENV is set for a virtual environment and dropped for any other Python, where it would name the wrong one.
    PYTHONHOME is dropped, as activating does: it would point the interpreter at another standard library.
    """
    result = {key: value for key, value in environ.items() if key not in {"PYTHONHOME", "VIRTUAL_ENV"}}
    if found.bin is None:
        return result
    rest = (environ.get("PATH") or os.defpath).split(os.pathsep)
    result["PATH"] = os.pathsep.join([found.bin, *(entry for entry in rest if entry != found.bin)])
    if _is_virtual(Path(found.bin)):
        result["VIRTUAL_ENV"] = str(Path(found.bin).parent)
    return result


def _explicit(cwd: Path, wanted: str, environ: Mapping[str, str]) -> Interpreter:
    # Joining "" gives cwd itself, which would quietly be taken for a virtual environment.
    path = cwd / _expanded(wanted, environ) if wanted else None
    found = path and _in_folder(path, "--python")
    # A bare name is looked for on PATH alone, as a shell does.
    if path and not found and os.sep in wanted and _runs(path):
        found = _executable(path, "--python")
    if wanted and not found and os.sep not in wanted:
        found = _on_path(wanted, "--python", environ)
    if found:
        return found
    if path and path.is_dir():
        problem = f'The folder "{wanted}" has no Python that runs in bin.'
        raise UsageError(problem, f'Make it a virtual environment with "python3 -m venv --clear {wanted}".')
    if path and path.is_file():
        raise UsageError(f'"{wanted}" is a file that cannot be run.', "Name a Python, as in --python /usr/bin/python3.")
    problem = f'No Python was found for "{wanted}": it is no file, no folder and no command on PATH.'
    raise UsageError(problem, "Give a path, a virtual environment's folder or a command, as in --python .venv.")


def _expanded(wanted: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME")
    return home + wanted[1:] if home and wanted.startswith("~/") else wanted


def _up_to_repository(cwd: Path) -> Iterator[Path]:
    for folder in (cwd, *cwd.parents):
        yield folder
        if (folder / ".git").exists():
            return


def _in_folder(folder: Path, reason: str) -> Interpreter | None:
    for name in _NAMES:
        if _runs(folder / "bin" / name):
            return Interpreter(str(folder / "bin" / name), reason, str(folder / "bin"))
    return None


def _on_path(name: str, reason: str, environ: Mapping[str, str]) -> Interpreter | None:
    found = shutil.which(name, path=environ.get("PATH") or os.defpath)
    return _executable(Path(found).absolute(), reason) if found else None


def _executable(path: Path, reason: str) -> Interpreter:
    return Interpreter(str(path), reason, str(path.parent) if _is_virtual(path.parent) else None)


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _is_virtual(folder: Path) -> bool:
    return (folder.parent / "pyvenv.cfg").is_file()
