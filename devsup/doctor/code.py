"""The project's own code: whether its app can be imported, and whether its files compile."""

from __future__ import annotations

import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from devsup.decide import stacks, tracebacks
from devsup.decide.addresses import after_options
from devsup.decide.project import Project as Own
from devsup.decide.rules import Evidence, diagnose
from devsup.doctor.asking import ISOLATED, ask
from devsup.doctor.finding import Finding, counted, first, listed
from devsup.errors import UsageError
from devsup.events import Exit
from devsup.system.interpreter import Interpreter, is_python

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devsup.doctor.asking import Answer
    from devsup.doctor.project import Project, Run

_IMPORT = 30.0  # seconds
_COMPILE = 60.0  # seconds
_SLACK = 5.0  # seconds for a script that ends itself in time
_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET = re.compile(rf"({_NAME}):({_NAME}(?:\(\))?)")
_FOLDER_OPTIONS = ("--app-dir", "--chdir", "--pythonpath")
_LAUNCHER = "devsup_agent.target"


class Target(NamedTuple):
    """What a server would import, and the folders that it would put on the path."""

    module: str
    attribute: str
    folders: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it is written on a command line."""
        return f"{self.module}:{self.attribute}"


def apps(project: Project) -> Iterator[Finding]:
    """Whether each command is there, and its app can be imported."""
    seen = set[tuple[Any, ...]]()
    for run in project.possible:
        if not run.words or isinstance(run.found, UsageError):  # the interpreter's check has told why
            continue
        if isinstance(run.command, UsageError):
            yield Finding("app", "fail", f"{run.label}{run.command.problem}", run.command.remedy)
            continue
        target = target_of(run.command, run.folder)
        what = (target, run.folder, run.found.path, tuple(sorted(run.environ.items()))) if target else (tuple(run.command),)
        if what not in seen:
            seen.add(what)
            yield from _examined(project, run, run.found, run.command, target)
    if not seen and not any(run.words for run in project.runs):
        yield Finding("app", "ok", "No command is named, so nothing is imported. To have it done: devsup doctor main:app")


def _examined(
    project: Project, run: Run, python: Interpreter, command: Sequence[str], target: Target | None
) -> Iterator[Finding]:
    program = Path(command[0])
    foreign = python.bin is not None and program.parent != Path(python.bin) and is_python(program)
    if foreign and not program.is_relative_to(run.folder):
        text = f"{run.label}{program.name} is {program}, which is not of the environment in use, {Path(str(python.bin)).parent}."
        yield Finding("app", "warn", text, f"{shlex.quote(python.path)} -m pip install {program.name}")
    script = _script(command)
    if not project.about(python).runs:
        yield Finding("app", "warn", f"{run.label}it is not imported, as its Python cannot be used.")
    elif target is not None:
        yield _imported(project, run, python, target)
    elif script:
        yield _compiled_script(project, run, python, script)
    else:
        yield Finding("app", "ok", f"{run.label}{program} is there; no app is imported for it.")


def target_of(command: Sequence[str], folder: Path) -> Target | None:
    """The MODULE:APP of a server's command line; None where it is no Python's, or names none."""
    if not is_python(Path(command[0])):
        return None
    words = list(command[1:])
    if Path(command[0]).name.startswith("python"):
        words = after_options(words)
        if words[:1] != ["-m"]:  # a script has words of its own
            return None
        words = words[2:] if words[1:2] != [_LAUNCHER] else words[2:3] + words[3:]
    found = next((matched for word in words if (matched := _TARGET.fullmatch(word))), None)
    if found is None:
        return None
    named = [value for option in _FOLDER_OPTIONS for value in _values(words, option)]
    return Target(found[1], found[2], tuple(os.path.normpath(folder / each) for each in [*named, "."]))


def _values(words: Sequence[str], option: str) -> Iterator[str]:
    yield from (following for word, following in pairwise(words) if word == option)
    yield from (word.partition("=")[2] for word in words if word.startswith(f"{option}="))


def _script(command: Sequence[str]) -> str:
    """The file that Python runs, or that `fastapi dev` imports."""
    words = list(command[1:])
    if Path(command[0]).name.startswith("python"):
        words = after_options(words)
        return words[0] if words and not words[0].startswith("-") else ""
    files = [word for word in words if word.endswith(".py")]
    return files[0] if files and Path(command[0]).name == "fastapi" else ""


def _compiled_script(project: Project, run: Run, python: Interpreter, script: str) -> Finding:
    path = str(run.folder / script)
    problems = _compiled(project, python, [path])[0]
    if problems:
        return Finding("app", "fail", f"{run.label}{_told(project, problems[0])}", "Correct that line.")
    return Finding("app", "ok", f"{run.label}{script} compiles; it is not run.")


# -- the import -----------------------------------------------------------------------------------------------------------


def _imported(project: Project, run: Run, python: Interpreter, target: Target) -> Finding:
    env = {**run.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    words = [target.module, target.attribute, str(_IMPORT), *target.folders]
    answer = ask(python.path, "imported", *words, cwd=run.folder, env=env, seconds=_IMPORT + _SLACK)
    told = answer.lines[-1] if answer.lines else {"outcome": "nothing"}
    name = f"{run.label}{target.text}"
    match told["outcome"]:
        case "found" if told["server"] and run.words[0] == target.text:
            text = f"{name} needs {told['server']}, which is not installed for {python.path}."
            return Finding("app", "fail", text, f"{shlex.quote(python.path)} -m pip install {told['server']}")
        case "found":
            return Finding("app", "ok", f"{name} is imported in {told['seconds']:.1f} s: {told['kind']}.")
        case "no attribute":
            text = f"{name} cannot be imported: module {target.module} has no {told['name']}."
            return Finding("app", "fail", text, _another(target, told["apps"]))
        case "no app":
            text = f"{name} is no app: it is of type {told['kind']}, and cannot be called."
            return Finding("app", "fail", text, _another(target, told["apps"]))
        case "no module":
            said = f'Could not import module "{target.module}".'
            return _diagnosed(project, run, python, target, answer._replace(output=said, exit=Exit(code=1)))
        case "nothing" if answer.exit is None or "Timeout (" in answer.output:
            return _too_long(run, target, answer.output)
        case _:
            return _diagnosed(project, run, python, target, answer)


def _another(target: Target, apps: Sequence[str]) -> str:
    if apps:
        return f"Name the app that it has: devsup run {target.module}:{apps[0]}"
    return f"Name the app that it has: devsup run {target.module}:NAME"


def _diagnosed(project: Project, run: Run, python: Interpreter, target: Target, answer: Answer) -> Finding:
    """Why it failed, by the rules for workers that have ended; where they know no more, the exception as it is."""
    folder = os.path.realpath(run.folder)
    native = answer.output if "Fatal Python error" in answer.output else ""
    output = answer.output.splitlines()
    files = frozenset(os.path.relpath(path, folder) for path in project.files.sources)
    found = diagnose(Evidence(answer.exit or Exit(code=1), output, folder, python.path, files=files, native=native))
    text = f"{run.label}{target.text} cannot be imported: {found.text}"
    raised = tracebacks.last(output)[-1:]
    last = " ".join(f"{raised[0].name}: {raised[0].message}".split()) if raised else ""
    place = f"{Own(folder).short(found.place.file)}:{found.place.line}" if found.place is not None else ""
    text += f" ({place})" if place and place not in text else ""
    text = f"{text.rstrip('.')}." + (f" {last}." if last and raised[0].message not in text else "")
    see = f"cd {shlex.quote(folder)} && {shlex.quote(python.path)} -c 'import {target.module}'"
    return Finding("app", "fail", text, found.remedy or f"See all of it: {see}")


def _too_long(run: Run, target: Target, output: str) -> Finding:
    own = Own(os.path.realpath(run.folder))
    threads = stacks.parse(output)
    doing = next((said for each in reversed(threads) if (said := stacks.doing(each.frames, own.is_own, own.short))), "")
    text = f"{run.label}{target.text} is not imported after {_IMPORT:g} s{f': it is {doing}' if doing else ''}."
    return Finding("app", "fail", text, "What a module does while it is imported, do in a function, or when the app starts.")


# -- the syntax -----------------------------------------------------------------------------------------------------------


def syntax(project: Project) -> Iterator[Finding]:
    """Whether every Python file compiles, as the project's interpreter reads it."""
    python = next((each for each, _ in project.pythons() if project.about(each).runs), None)
    sources = project.files.sources
    if not sources or python is None:
        text = "There are no Python files." if python else "No file is compiled, as there is no Python for it that can be used."
        yield Finding("syntax", "ok" if python else "warn", text)
        return
    problems, count = _compiled(project, python, sources)
    yield from first(Finding("syntax", "fail", _told(project, each), "Correct that line.") for each in problems if each["line"])
    unread = [f"{project.short(each['file'])} ({each['text']})" for each in problems if not each["line"]]
    if unread:
        yield Finding(
            "syntax",
            "warn",
            f"These cannot be read: {listed(unread)}.",
            f"See whose they are: ls -l {shlex.quote(problems[0]['file'])}",
        )
    if count < len(sources):
        yield Finding("syntax", "warn", f"Only {count:,} of {len(sources):,} files were compiled within {_COMPILE:g} s.")
    elif not problems:
        more = "" if project.files.is_whole else " There are more, which were not looked at."
        version = project.about(python).text
        yield Finding("syntax", "ok", f"{counted(count, 'Python file')} compile{'s' * (count == 1)} with Python {version}.{more}")


def _told(project: Project, problem: dict[str, Any]) -> str:
    line = f":{problem['line']}" if problem["line"] else ""  # none, where it cannot be read
    return f"{project.short(problem['file'])}{line}: {problem['text']}."


def _compiled(project: Project, python: Interpreter, paths: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """What does not compile, and how many were looked at."""
    given = json.dumps(list(paths))
    answer = ask(
        python.path,
        "compiled",
        str(_COMPILE),
        options=ISOLATED,
        cwd=project.folder,
        env=os.environ,
        seconds=_COMPILE + _SLACK,
        given=given,
    )
    problems = [each for each in answer.lines if "file" in each]
    count = next((each["count"] for each in answer.lines if "count" in each), 0)
    return problems, count
