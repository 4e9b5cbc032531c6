"""The config: where it is looked for, and which of its services is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from devsup.config.source import Source, Sources, guess, quoted, read_text, read_toml, shown
from devsup.config.values import CHECKS, KINDS, QUESTION, Check, Log, Probe, Service
from devsup.errors import UsageError

__all__ = [
    "CHECKS",
    "KINDS",
    "Check",
    "Config",
    "Log",
    "Probe",
    "Service",
    "check_probe",
    "choose",
    "choose_all",
    "load",
    "load_file",
]

_NAMES: dict[str, tuple[str, ...]] = {"devsup.toml": (), "pyproject.toml": ("tool", "devsup")}
_LOCAL = "devsup.local.toml"
_DEFAULT_NAME = "app"


class Config(Struct, frozen=True):
    """The services by name, in the file's order, and the file they came from (None: there is no file)."""

    services: dict[str, Service]
    path: Path | None
    sources: Sources = Sources()

    @property
    def files(self) -> tuple[Path, ...]:
        """All that was read: the team's file, and a developer's own."""
        return tuple(source.path for source in self.sources.files)

    def origin(self, *keys: str) -> str:
        """Where a key of a service is set, as FILE:LINE, such as of ("web", "probes", "ready", "http"); else "default"."""
        return self.sources.where(("services", *keys))


def load(folder: Path) -> Config:
    """Read the nearest config: in `folder`, then its parents, up to the first that holds a .git.

    Raises UsageError, with file and line, for a file that cannot be read or says what it may not.
    """
    start = folder.resolve()
    for place in (start, *start.parents):
        team = next((source for name in _NAMES if (source := _read(place / name))), None)
        local = _read(place / _LOCAL)
        if team or local:
            return _config([each for each in (team, local) if each])
        if (place / ".git").exists():
            break
    return Config({}, None)


def load_file(path: Path) -> Config:
    """Read this file: a devsup.toml of any name, with the local one beside it, or a Procfile.

    Raises UsageError as `load` does, and where there is no such file.
    """
    path = path.resolve()
    source = _read(path)
    if source is None and read_text(path) is None:
        raise UsageError(f"There is no file {path}.", "Name one that exists, or write one: devsup init")
    if source is None:
        raise UsageError(f"{path} has no table [tool.devsup].", "Add one, or write a devsup.toml: devsup init")
    local = _read(path.with_name(_LOCAL)) if path.name in _NAMES else None
    return _config([source, local] if local else [source])


def _read(path: Path) -> Source | None:
    text = read_text(path)
    prefix = _NAMES.get(path.name, ())
    # A pyproject.toml that never says devsup is another tool's business, even when it is broken.
    if text is None or (prefix and prefix[-1] not in text):
        return None
    if path.suffix == ".toml":
        return read_toml(path, text, prefix)
    from devsup.config.procfile import read_procfile  # noqa: PLC0415 - most starts have none

    return read_procfile(path, text)


def _config(files: Iterable[Source]) -> Config:
    from devsup.config import reading, rules  # noqa: PLC0415 - most starts have no config file

    sources = Sources(tuple(files))
    services = reading.read(sources)
    rules.check(sources, services)
    return Config(services, sources.files[0].path, sources)


def choose(config: Config, name: str | None) -> tuple[str, Service]:
    """The service called `name`, or the only one, or a default one when the config has none.

    Raises UsageError for an unknown name, and for no name where there are several.
    """
    names = ", ".join(config.services)
    if name is None and len(config.services) > 1:
        problem = f"{config.path} has several services: {names}."
        raise UsageError(problem, f'Name one of them, as in "devsup run --service {next(iter(config.services))}".')
    if name is None:
        return next(iter(config.services.items()), (_DEFAULT_NAME, Service()))
    if name in config.services:
        return name, config.services[name]
    if not config.services:
        where = f"{config.path} has no services" if config.path else "there is no config file"
        problem = f'No service is called "{name}": {where}.'
        raise UsageError(problem, f"Add a [services.{quoted(name)}] table to devsup.toml, or leave the name out.")
    problem = f'{config.path} has no service called "{name}".'
    raise UsageError(problem, f"{guess(name, config.services)}The services are {names}.")


def choose_all(config: Config, names: Iterable[str] = ()) -> dict[str, Service]:
    """These services (none: all) and those that they wait for, in the file's order; every one has something to run.

    Raises UsageError for an unknown name, and for a service without a command.
    """
    if not config.services:
        where = f"{config.path} has no services." if config.path else "There is no config file here."
        raise UsageError(where, "Let devsup write one: devsup init")
    wanted: set[str] = set()
    missing = list(names) or list(config.services)
    while missing:
        name, service = choose(config, missing.pop())
        if not service.words:
            problem, remedy = "has no command.", 'Add one: command = "uvicorn main:app", or target = "main:app".'
            raise config.sources.error(("services", name), problem, remedy)
        wanted.add(name)
        missing += service.depends_on.keys() - wanted
    return {name: service for name, service in config.services.items() if name in wanted}


def check_probe(text: str) -> None:
    """Raise UsageError where `text` is nothing that --probe takes."""
    if not re.search(QUESTION, text):
        remedy = "Give a path of the server itself, as in --probe http:/health or --probe http:/stats#active, or tcp."
        raise UsageError(f"--probe is {shown(text)}, which is no probe.", remedy)
