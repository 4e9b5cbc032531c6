"""From what a command line names to services that can be run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devsup.config import Config, Service
    from devsup.launch import Options


def of_command(
    config: Config,
    command: tuple[str, ...],
    given: Mapping[str, Any],
    *,
    cwd: Path | None,
    service: str | None,
    take_over: bool = False,
    verb: str = "run",
) -> Options:
    """The service that is a command, or the one of the config, with what options say. Raises UsageError where there is none."""
    import msgspec

    from devsup import config as configs
    from devsup.errors import UsageError
    from devsup.launch import Options

    start = folder(cwd)
    alone = service or not command or len(config.services) == 1
    name, chosen = configs.choose(config, service) if alone else ("app", configs.Service())
    changes = {key: value for key, value in given.items() if value not in (None, ())}
    configs.check_probe(changes.get("probe", chosen.probe))
    chosen = msgspec.structs.replace(chosen, **changes)
    words = _words(command, config, name, chosen, verb)
    base = start if cwd or config.path is None or (command and not service) else config.path.parent / chosen.cwd
    if not base.is_dir():
        raise UsageError(f"{config.path}: services.{name}.cwd is {base}, which is no folder.", "Create it, or correct the line.")
    return Options(
        name=name,
        service=chosen,
        command=words,
        cwd=base.resolve(),
        project=(base if config.path is None or base == start else config.path.parent).resolve(),
        config=config.path,
        take_over=take_over,
    )


def of_config(config: Config, name: str, *, take_over: bool = False) -> Options:
    """One of a team's. Raises UsageError where its folder is not there."""
    from devsup.errors import UsageError
    from devsup.launch import Options

    service, project = config.services[name], config.path.parent if config.path is not None else Path.cwd()
    cwd = project / service.cwd
    if not cwd.is_dir():
        where = config.origin(name, "cwd")
        raise UsageError(f"{where}: services.{name}.cwd is {cwd}, which is no folder.", f"Create it: mkdir -p {cwd}")
    return Options(
        name=name,
        service=service,
        command=service.words,
        cwd=cwd.resolve(),
        project=project.resolve(),
        config=config.path,
        take_over=take_over,
        is_alone=False,
        retries=config.origin(name, "restart") != "default" and service.restart != "never",
    )


def folder(cwd: Path | None) -> Path:
    """Where to look for a config. Raises UsageError where there is no such folder."""
    from devsup.errors import UsageError

    try:
        start = cwd or Path.cwd()
    except FileNotFoundError:
        raise UsageError("The folder that this shell is in is gone.", "Go to one that exists: cd …") from None
    if not start.is_dir():
        raise UsageError(f"There is no folder {start}.", "Name one that exists with --cwd.")
    return start


def _words(command: tuple[str, ...], config: Config, name: str, chosen: Service, verb: str) -> tuple[str, ...]:
    """The command to run. Raises UsageError where there is none."""
    from devsup.errors import UsageError

    words = command or chosen.words
    if not words and name in config.services:
        raise UsageError(
            f"{config.path}: services.{name} has no command.",
            f'Add one: command = ["uvicorn", "main:app"], or name it: devsup {verb} --service {name} COMMAND.',
        )
    if not words:
        raise UsageError(
            "There is nothing to run.",
            f'Name the command or the app: "devsup {verb} uvicorn main:app" or "devsup {verb} main:app".',
        )
    return words
