"""What is examined: the folder, its config, and the commands that devsup would run there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from devsup import config as configs
from devsup.decide import secrets
from devsup.doctor.asking import ask
from devsup.doctor.files import Files, walk
from devsup.errors import UsageError
from devsup.launch import GUEST, child_environment, resolve
from devsup.system import interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devsup.system.interpreter import Interpreter

OLDEST = (3, 9)  # of the project's Python: what devsup's agent runs on

_SECONDS = 10.0  # that a Python has to tell what it is


class About(NamedTuple):
    """What an interpreter has told of itself; where it does not run, why."""

    version: tuple[int, ...] = ()
    problem: str = ""

    @property
    def text(self) -> str:
        """Its version."""
        return ".".join(map(str, self.version))

    @property
    def runs(self) -> bool:
        """Whether it can be asked more."""
        return self.version >= OLDEST


@dataclass(frozen=True)
class Run:
    """One command of the project: a service's, or the command line's, which has no name."""

    name: str
    words: tuple[str, ...]
    service: configs.Service
    folder: Path
    python: str | None

    @property
    def label(self) -> str:
        """Before what is said of it."""
        return f"{self.name}: " if self.name else ""

    @property
    def env_files(self) -> list[Path]:
        """As the config names them; they need not exist."""
        return [self.folder / name for name in self.service.env_files]

    @cached_property
    def found(self) -> Interpreter | UsageError:
        """The interpreter, or why there is none."""
        try:
            return interpreter.find(self.folder, self.python, os.environ)
        except UsageError as exc:
            return exc

    @cached_property
    def environ(self) -> Mapping[str, str]:
        """What the program would get, without devsup's agent; of env files that cannot be read, nothing."""
        start = interpreter.environment(self.found, os.environ) if not isinstance(self.found, UsageError) else dict(os.environ)
        try:
            made = child_environment(start, [str(each) for each in self.env_files if each.is_file()], self.service.env)
        except UsageError:
            made = child_environment(start, [], self.service.env)
        entries = [each for each in made.pop("PYTHONPATH", "").split(os.pathsep) if each and each != GUEST]
        return {**made, "PYTHONPATH": os.pathsep.join(entries)} if entries else made

    @cached_property
    def command(self) -> list[str] | UsageError:
        """The words as they are run, or why they cannot be."""
        if isinstance(self.found, UsageError):
            return self.found
        try:
            return resolve(self.words, self.found, self.environ, self.folder)
        except UsageError as exc:
            return exc


def _loaded(folder: Path) -> tuple[configs.Config, UsageError | None]:
    """The nearest config, or what is wrong with it."""
    try:
        return configs.load(folder), None
    except UsageError as exc:
        return configs.Config({}, None), exc


class Project:
    """The folder, and what runs in it: what `words` say, or the services of the config. Nothing of it is run by looking.

    `problem` is what is wrong with the config.
    """

    def __init__(self, start: Path, words: Sequence[str] = (), python: str | None = None) -> None:
        start = start.resolve()
        self.config, self.problem = _loaded(start)
        path, services = self.config.path, self.config.services
        self.folder = start if words or path is None else path.parent
        self._abouts: dict[str, About] = {}
        if words:  # as `devsup run` does
            service = next(iter(services.values())) if len(services) == 1 else configs.Service()
            self.runs = [Run("", tuple(words), service, start, python or service.python)]
        else:
            self.runs = [
                Run(name, each.words, each, (self.folder / each.cwd).resolve(), python or each.python)
                for name, each in services.items()
            ]
        if not self.runs:  # of no words: it stands for the folder
            self.runs = [Run("", (), configs.Service(), self.folder, python)]

    @cached_property
    def possible(self) -> list[Run]:
        """Those whose folder is there."""
        return [run for run in self.runs if run.folder.is_dir()]

    def pythons(self) -> Iterator[tuple[Interpreter, list[Run]]]:
        """Each interpreter that is used, and what runs with it."""
        runs: dict[str, list[Run]] = {}
        found: dict[str, Interpreter] = {}
        for run in self.possible:
            if not isinstance(run.found, UsageError):
                found.setdefault(run.found.path, run.found)
                runs.setdefault(run.found.path, []).append(run)
        for path, each in found.items():
            yield each, runs[path]

    def about(self, python: Interpreter) -> About:
        """What an interpreter tells of itself; it is asked once."""
        if python.path not in self._abouts:
            self._abouts[python.path] = self._asked(python.path)
        return self._abouts[python.path]

    def _asked(self, path: str) -> About:
        try:
            # A Python 2 has no -I.
            answer = ask(path, "about", options=("-E", "-s", "-S"), cwd=self.folder, env=os.environ, seconds=_SECONDS)
        except OSError as exc:
            return About(problem=exc.strerror or type(exc).__name__)
        if answer.lines:
            return About(tuple(answer.lines[0]["version"]))
        if answer.exit is None:
            return About(problem=f"it has not answered within {_SECONDS:g} s")
        return About(problem=answer.last_line or answer.exit.text)

    @cached_property
    def files(self) -> Files:
        """All of the project's own."""
        return walk(str(self.folder))

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return secrets.values({name: value for run in self.possible for name, value in run.environ.items()})

    def short(self, path: str | Path) -> str:
        """A file as people write it."""
        return str(path).removeprefix(f"{self.folder}/")
