"""The config, and the variables that it and the project count on. Values are never told, names alone."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv.parser import parse_stream

from devsup.config.writing import literal
from devsup.doctor.finding import Finding, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devsup.doctor.project import Project, Run

_EXAMPLES = (".env.example", ".env.sample", ".env.template")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash"})
# Of `sh -c`: what single quotes keep from the shell, what a backslash does, and each variable that has no default.
_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*\"""")
_VARIABLE = re.compile(r"(?<!\\)\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:\}|:?\?|[#%/^,@]))")
_SET_HERE = re.compile(r"(?:^|[\s;&|({])(?:for\s+|read\s+(?:-\w+\s+)*)?([A-Za-z_]\w*)(?==|\s+in\b|\s*(?:;|$))")


def configs(project: Project) -> Iterator[Finding]:
    """Whether there is a config, and it can be understood."""
    if project.problem is not None:
        yield Finding("config", "fail", project.problem.problem, project.problem.remedy)
        return
    path = project.config.path
    if path is None:
        yield Finding("config", "ok", f"There is no devsup.toml; the folder {project.folder} is looked at.")
        return
    missing = [run for run in project.runs if not run.folder.is_dir()]
    for run in missing:
        where = project.config.origin(run.name, "cwd")
        text = f"{where}: services.{run.name}.cwd is {run.folder}, which is no folder."
        yield Finding("config", "fail", text, f"mkdir -p {shlex.quote(str(run.folder))}")
    if not missing:
        services = listed(list(project.config.services))
        yield Finding("config", "ok", f"{path}: services {services}." if services else f"{path} has no services.")


def environment(project: Project) -> Iterator[Finding]:
    """Env files that are not there; variables that the commands name, or an example of a .env lists, and nobody has set."""
    found = [
        *(each for run in project.possible for each in _env_files(project, run)),
        *(each for run in project.possible for each in _of_command(project, run)),
        *_of_examples(project),
    ]
    yield from found
    if not found:
        yield Finding("environment", "ok", "All env files are there, and all variables that are named somewhere are set.")


def _env_files(project: Project, run: Run) -> Iterator[Finding]:
    for name, path in zip(run.service.env_files, run.env_files, strict=True):
        if not path.is_file():
            where = project.config.origin(*_keys(project, run), "env_files")
            text = f"{where}: {run.label}there is no env file {path}."
            yield Finding("environment", "fail", text, f"Create it, or take {name} out of env_files.")
            continue
        try:
            broken = _broken_lines(path)
        except (OSError, ValueError) as exc:
            text = f"{run.label}{path} cannot be read: {exc}."
            yield Finding("environment", "fail", text, "Save it as UTF-8, readable by you.")
            continue
        if broken:
            where = f"{project.short(path)}:{listed(list(map(str, broken)))}"
            yield Finding("environment", "warn", f"{where} is no NAME=VALUE, and is passed over.", "Correct that line.")


def _keys(project: Project, run: Run) -> tuple[str, ...]:
    """Of the service that a run has its settings of."""
    return (run.name or next(iter(project.config.services), ""),)


def _of_command(project: Project, run: Run) -> Iterator[Finding]:
    if not run.name:  # the shell that has called us has seen to it
        return
    where = project.config.origin(run.name, "command")
    text = _for_a_shell(run.words)
    names = variables(text if text is not None else " ".join(run.words))
    if text is None and names:
        wrapped = f'command = ["sh", "-c", {literal("exec " + " ".join(run.words))}]'
        said = f"{where}: {run.label}the command has ${names[0]}, and no shell is there to put its value in."
        yield Finding("environment", "warn", said, f"Let one: {wrapped}")
        return
    unset = [name for name in names if name not in run.environ]
    if unset:
        said = f"{where}: {run.label}the command has {listed([f'${name}' for name in unset])}, and nothing sets that."
        yield Finding("environment", "warn", said, f'Set it: env = {{ {unset[0]} = "…" }}, or a line in a file of env_files.')


def _for_a_shell(words: tuple[str, ...]) -> str | None:
    """What a shell is to read; None where there is no shell."""
    if words and Path(words[0]).name in _SHELLS:
        return next((text for option, text in pairwise(words) if re.fullmatch(r"-\w*c", option)), "")
    return None


def variables(text: str) -> list[str]:
    """The names of the variables that a shell would replace in this, but for those with a default or set in it."""
    bare = _QUOTED.sub(lambda found: "''" if found[0].startswith("'") else found[0], text)
    own = set(_SET_HERE.findall(bare))
    return list(dict.fromkeys(name for pair in _VARIABLE.findall(bare) if (name := pair[0] or pair[1]) not in own))


def _of_examples(project: Project) -> Iterator[Finding]:
    folders = dict.fromkeys([project.folder, *(run.folder for run in project.possible)])
    for path in [folder / name for folder in folders for name in _EXAMPLES]:
        if not path.is_file():
            continue
        dotenv = path.with_name(".env")
        try:
            names, known = _names(path), _known(project, path.parent, dotenv)
        except (OSError, ValueError) as exc:
            yield Finding("environment", "warn", f"{project.short(path)} or its .env cannot be read: {exc}.", "Save it as UTF-8.")
            continue
        unset = [name for name in names if name not in known]
        if unset:
            text = f"{project.short(path)} lists what nothing sets: {listed(unset)}."
            copy = f"cp {shlex.quote(str(path))} {shlex.quote(str(dotenv))}"
            remedy = f"Add it to {dotenv}" if dotenv.is_file() else f"{copy}, then give it your values"
            yield Finding("environment", "warn", text, remedy)


def _known(project: Project, folder: Path, dotenv: Path) -> set[str]:
    """What is set for the programs of a folder, by whatever means."""
    environs: list[Mapping[str, str]] = [run.environ for run in project.possible if run.folder.is_relative_to(folder)]
    return {name for each in environs for name in each} | set(_names(dotenv) if dotenv.is_file() else ())


def _names(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [binding.key for binding in parse_stream(file) if binding.key]


def _broken_lines(path: Path) -> list[int]:
    with path.open(encoding="utf-8") as file:
        return [binding.original.line for binding in parse_stream(file) if binding.error]
