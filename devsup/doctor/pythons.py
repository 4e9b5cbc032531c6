"""Which Python the project gets, whether it runs, and the virtual environments around it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import devsup
from devsup.doctor.finding import Finding, first
from devsup.doctor.project import OLDEST
from devsup.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devsup.doctor.project import About, Project, Run
    from devsup.system.interpreter import Interpreter

_REASONS = {
    "VIRTUAL_ENV": "the virtual environment that is active",
    ".venv": "the nearest .venv",
    "PATH": "the first on PATH",
    "devsup's own": "devsup's own: there is no other",
}


class Environment(NamedTuple):
    """A virtual environment's folder; `comes_first`: it would be used, if its Python ran."""

    folder: Path
    comes_first: bool

    @property
    def link(self) -> Path:
        """What `python -m venv` makes a link to the Python that it is made of."""
        return self.folder / "bin" / "python"

    @property
    def has_python(self) -> bool:
        """Whether there is one; a link to nothing is none."""
        return self.link.exists() or self.link.with_name("python3").exists()

    @property
    def is_there(self) -> bool:
        """Whether it is one at all."""
        return (self.folder / "pyvenv.cfg").is_file() or self.link.is_symlink()


def versions(project: Project) -> Iterator[Finding]:
    """Devsup's, its Python's, and that of each interpreter of the project."""
    abouts = [project.about(python) for python, _ in project.pythons()]
    theirs = ", ".join(dict.fromkeys(each.text for each in abouts if each.version))
    text = f"devsup {devsup.__version__} on Python {platform.python_version()}"
    text += f"; the project on Python {theirs}" if theirs else ""
    yield Finding("versions", "ok", f"{text}; {platform.system()} {platform.release()}, {platform.machine()}.")


def interpreters(project: Project) -> Iterator[Finding]:
    """Each that is used, and why; then the environments that are broken, or passed over."""
    for message in {str(run.found): run.found for run in project.possible if isinstance(run.found, UsageError)}.values():
        yield Finding("interpreter", "fail", message.problem, message.remedy)
    used = list(project.pythons())
    for python, runs in used:
        who = f"{', '.join(run.name for run in runs)}: " if len(used) > 1 else ""
        yield _judged(python, project.about(python), who, _why(python, runs[0], project))
    yield from first(_around(project))


def _why(python: Interpreter, run: Run, project: Project) -> str:
    if python.reason == "--python":
        return "as the config says" if run.service.python == run.python and project.config.path else "as --python says"
    return _REASONS[python.reason]


def _judged(python: Interpreter, about: About, who: str, why: str) -> Finding:
    folder = Path(python.path).parent.parent
    is_virtual = (folder / "pyvenv.cfg").is_file()
    again = _recreate(folder) if is_virtual else "Name another: devsup doctor --python /usr/bin/python3"
    if about.problem:
        return Finding("interpreter", "fail", f"{who}{python.path} ({why}) does not run: {about.problem}.", again)
    if not about.runs:
        oldest = ".".join(map(str, OLDEST))
        text = f"{who}{python.path} ({why}) is Python {about.text}; devsup runs programs of Python {oldest} and later."
        return Finding("interpreter", "fail", text, again)
    library = folder / "lib" / "python{}.{}".format(*about.version)
    others = [each.name for each in (folder / "lib").glob("python3.*")] if is_virtual and not library.exists() else []
    if others:
        text = f"{who}{folder} was made for {others[0]}, and its Python is {about.text} now: it finds nothing that is installed."
        return Finding("interpreter", "fail", text, again)
    return Finding("interpreter", "ok", f"{who}Python {about.text}, {python.path} ({why}).")


def _around(project: Project) -> Iterator[Finding]:
    """What is wrong with the environments that are not used."""
    used = {Path(python.path).parent.parent.resolve(): python.path for python, _ in project.pythons()}
    in_use, active = ", ".join(used.values()) or "none", os.environ.get("VIRTUAL_ENV", "")
    for each in _environments(project):
        name = project.short(each.folder)
        if each.has_python and each.is_there:
            text = f"There is another virtual environment, {name}, and it is not the one in use ({in_use})."
            yield Finding("interpreter", "warn", text, f"To use it: devsup run --python {shlex.quote(name)} …")
        elif each.is_there:
            text = f"The virtual environment {name} is broken: its Python, {os.path.realpath(each.link)}, is gone."
            yield Finding("interpreter", "fail" if each.comes_first else "warn", text, _recreate(each.folder))
        elif active and each.folder == project.folder / active:
            text = f"VIRTUAL_ENV is {active}, where there is no virtual environment: it is passed over."
            yield Finding("interpreter", "warn", text, "Leave it (deactivate), or unset VIRTUAL_ENV")


def _environments(project: Project) -> list[Environment]:
    """What is not used: the active one, each .venv that the search comes by, and what else is in the folder."""
    found: dict[Path, Environment] = {}
    used = {Path(python.path).parent.parent.resolve() for python, _ in project.pythons()}
    beside = [Environment(config.parent, comes_first=False) for config in sorted(project.folder.glob("*/pyvenv.cfg"))]
    for each in [*(each for run in project.possible for each in _passed(run)), *beside]:
        known = found.setdefault(each.folder.resolve(), each)
        if each.comes_first and not known.comes_first:
            found[each.folder.resolve()] = each
    return [each for folder, each in found.items() if folder not in used]


def _passed(run: Run) -> Iterator[Environment]:
    """In the order of the search, which ends at what is used."""
    path, reason = ("", "") if isinstance(run.found, UsageError) else (run.found.path, run.found.reason)
    comes_first = reason not in {"--python", "VIRTUAL_ENV"}
    active = Environment(run.folder / os.environ.get("VIRTUAL_ENV", ""), comes_first)
    if active.folder != run.folder and not active.has_python:  # else it is used, or another was named
        yield active
    for folder in (run.folder, *run.folder.parents):
        comes_first = comes_first and not path.startswith(f"{folder}/.venv/")
        yield Environment(folder / ".venv", comes_first)
        if (folder / ".git").exists():
            return


def _recreate(folder: Path) -> str:
    """Make it anew, as it was made, and install again."""
    config = folder / "pyvenv.cfg"
    text = config.read_text(errors="replace") if config.is_file() else ""
    quoted, base = shlex.quote(str(folder)), shlex.quote(os.path.realpath(sys.executable))
    if any(line.startswith("uv =") for line in text.splitlines()):
        return f"Make it anew: uv venv --clear {quoted}, and install its packages again: uv sync"
    listed = folder.parent / "requirements.txt"
    what = f"-r {shlex.quote(str(listed))}" if listed.is_file() else "…"
    again = f"{shlex.quote(str(folder / 'bin' / 'python'))} -m pip install {what}"
    return f"Make it anew: {base} -m venv --clear {quoted} && {again}"
