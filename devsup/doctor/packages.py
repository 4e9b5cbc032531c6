"""What is installed for the project, and what of it does not fit together."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from devsup.doctor.asking import ask
from devsup.doctor.finding import Finding, counted, first

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from devsup.doctor.project import Project
    from devsup.system.interpreter import Interpreter

_SECONDS = 30.0


class Installed(NamedTuple):
    """A distribution, and where its metadata is."""

    name: str
    version: str
    requires: tuple[str, ...]
    path: str = ""

    @property
    def text(self) -> str:
        """As people write it."""
        return f"{self.name} {self.version}"


class Misfit(NamedTuple):
    """A requirement that is not met, whose it is, and the version that is installed instead, if one is."""

    who: str
    requirement: Requirement
    installed: str

    @property
    def wanted(self) -> str:
        """As pip takes it."""
        extras = f"[{','.join(sorted(self.requirement.extras))}]" if self.requirement.extras else ""
        return f"{self.requirement.name}{extras}{self.requirement.specifier}"

    @property
    def text(self) -> str:
        """In a sentence."""
        there = f"and {self.installed} is installed" if self.installed else "which is not installed"
        return f"{self.who} needs {self.wanted}, {there}."


def packages(project: Project) -> Iterator[Finding]:
    """For each interpreter: what is missing, of a wrong version, or there twice."""
    pythons = [(python, runs) for python, runs in project.pythons() if project.about(python).runs]
    if not pythons:
        yield Finding("packages", "warn", "No packages are looked at, as there is no Python for them that can be used.")
    for python, runs in pythons:
        answer = ask(python.path, "distributions", cwd=project.folder, env=runs[0].environ, seconds=_SECONDS)
        if not answer.lines:
            yield Finding("packages", "warn", f"{python.path} does not tell what is installed: {answer.last_line}.")
            continue
        found = [Installed(each["name"], each["version"], tuple(each["requires"]), each["path"]) for each in _named(answer.lines)]
        folders = {run.folder for run in runs} | ({project.folder} if len(pythons) == 1 else set())
        wanted = [each for folder in sorted(folders) for each in _wanted(folder, project)]
        bad = [*_misfitting(python, found, answer.lines[0]["markers"], wanted), *_twice(python, found)]
        yield from bad
        if not bad:
            text = f"{counted(len(found), 'package')} in {Path(python.path).parent.parent} fit each other"
            yield Finding("packages", "ok", f"{text}{' and the project' if wanted else ''}.")


def _named(lines: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """An interrupted installation leaves folders without a name."""
    yield from (each for each in lines[0]["found"] if each["name"] and each["version"])


def _misfitting(
    python: Interpreter, found: Sequence[Installed], markers: Mapping[str, str], wanted: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    yield from first(
        Finding("packages", "warn", each.text, _install(python, found, shlex.quote(each.wanted)))
        for each in misfits(found, markers, wanted)
    )


def misfits(found: Sequence[Installed], markers: Mapping[str, str], wanted: Iterable[tuple[str, str]] = ()) -> Iterator[Misfit]:
    """The requirements that are not met: those of all that is installed, and `wanted` ones of others, (who, requirement)."""
    known: dict[str, Installed] = {}
    for each in found:
        known.setdefault(canonicalize_name(each.name), each)
    open_: list[tuple[str, str, str]] = [(who, text, "") for who, text in wanted]
    open_ += [(each.text, text, "") for each in known.values() for text in each.requires]
    seen = set(open_)
    while open_:
        who, text, extra = open_.pop(0)
        requirement = _parsed(text, markers, extra)
        if requirement is None:
            continue
        there = known.get(canonicalize_name(requirement.name))
        if there is None or not _fits(requirement, there.version):
            yield Misfit(who, requirement, there.version if there else "")
        for name in requirement.extras if there else ():
            more = {(f"{there.name}[{name}]", each, name) for each in there.requires if "extra" in each} if there else set()
            open_ += sorted(more - seen)
            seen |= more


def _parsed(text: str, markers: Mapping[str, str], extra: str) -> Requirement | None:
    """None where it does not count here, or cannot be understood."""
    if "extra" in text and not extra and re.search(r";.*\bextra\b", text):
        return None
    try:
        requirement = Requirement(text)
        counts = requirement.marker is None or requirement.marker.evaluate({**markers, "extra": extra})
    except (InvalidRequirement, ValueError):
        return None
    return requirement if counts else None


def _fits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True  # who can tell


def _twice(python: Interpreter, found: Sequence[Installed]) -> Iterator[Finding]:
    """Two in one folder: what is imported is a mix of both, and only one of them can be uninstalled."""
    places: dict[tuple[str, str], list[Installed]] = {}
    for each in found:
        if each.path.endswith(".dist-info"):  # Debian puts an egg-info beside it
            places.setdefault((canonicalize_name(each.name), os.path.dirname(each.path)), []).append(each)  # noqa: PTH120
    for (name, folder), several in places.items():
        if len(several) > 1:
            text = f"{name} is installed twice in {folder}: {' and '.join(each.version for each in several)}."
            paths = " ".join(shlex.quote(each.path) for each in several)
            again = _install(python, found, f"--force-reinstall {name}")
            remedy = f"Remove both, and install one: rm -r {paths} && {again}"
            yield Finding("packages", "warn", text, remedy)


def _install(python: Interpreter, found: Sequence[Installed], what: str) -> str:
    """The command that does it: uv's environments have no pip."""
    path = shlex.quote(python.path)
    if not any(each.name == "pip" for each in found) and shutil.which("uv"):
        return f"uv pip install --python {path} {what}".replace("--force-reinstall", "--reinstall")
    return f"{path} -m pip install {what}"


def _wanted(folder: Path, project: Project) -> Iterator[tuple[str, str]]:
    """What the project itself says that it needs: the file's name, and a requirement."""
    yield from ((project.short(folder / "pyproject.toml"), each) for each in _of_pyproject(folder / "pyproject.toml"))
    path = folder / "requirements.txt"
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        text = re.split(r"\s#|\s--hash|\s*\\$", line)[0].strip()
        if text and not text.startswith(("-", "#")):
            yield project.short(path), text


def _of_pyproject(path: Path) -> list[str]:
    import tomllib  # noqa: PLC0415 - many have none

    try:
        table = tomllib.loads(path.read_text()) if path.is_file() else {}
    except ValueError:
        return []
    found = table.get("project", {}).get("dependencies", []) if isinstance(table.get("project", {}), dict) else []
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
