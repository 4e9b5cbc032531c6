"""`devsup run`: options before the command, the command as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from devsup.cli.options import says

if TYPE_CHECKING:
    from devsup.config import Config, Service
    from devsup.errors import DevsupError

_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--watch", metavar="GLOB", multiple=True, help="Also reload on changes of these files. Repeatable.")
@click.option("--ignore", metavar="GLOB", multiple=True, help="Never reload on changes of these files. Repeatable.")
@click.option(
    "--watch-mode",
    type=click.Choice(["imported", "all"]),
    help="Python files that reload: those the app has imported (default), or all.",
)
@click.option(
    "--reload",
    type=click.Choice(["drain", "handover", "restart", "off"]),
    help="How: after the active requests (default), beside them, at once, or never.",
)
@click.option("--drain-timeout", type=_SECONDS, metavar="SECONDS", help="Longest wait for active requests. Default: 60.")
@click.option(
    "--probe",
    metavar="PROBE",
    help="Where a server without an agent tells whether it is ready, or how many requests are active: "
    "http:/PATH or http:/PATH#FIELD. Default: tcp.",
)
@click.option(
    "--env-file", "env_files", metavar="FILE", multiple=True, help="Set its variables, anew at each reload. Repeatable."
)
@click.option("--python", metavar="PYTHON", help="Interpreter or virtual environment. Default: VIRTUAL_ENV, .venv, PATH.")
@click.option("--cwd", type=click.Path(file_okay=False, path_type=Path), help="Folder to run in.")
@click.option("--service", metavar="NAME", help="The service in devsup.toml to run, or to take the settings of.")
@click.option("--no-fork", "fork", flag_value=False, default=None, help="Start each worker anew, from no fork server.")
@click.option(
    "--exit-on-failure",
    is_flag=True,
    default=None,
    help="End with 1 when the program fails, instead of waiting for a save.",
)
@click.option(
    "--take-over", is_flag=True, help="End what holds the port or runs this service; asks first unless it is an older copy."
)
@says
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(
    command: tuple[str, ...],
    cwd: Path | None,
    service: str | None,
    level: Literal["quiet", "verbose"] | None,
    log_format: Literal["text", "json"],
    take_over: bool,
    **given: Any,
) -> None:
    """Run COMMAND, or the app MODULE:APP, and reload it when its files change.

    Options of devsup stand before the command; all that follows it belongs to it.
    """
    import time

    import msgspec

    from devsup import config as configs
    from devsup.errors import DevsupError, UsageError
    from devsup.launch import Options, Style, launch

    start = cwd or Path.cwd()
    if not start.is_dir():
        raise UsageError(f"There is no folder {start}.", "Name one that exists with --cwd.")
    config = configs.load(start)
    name, chosen = (
        configs.choose(config, service) if service or not command or len(config.services) == 1 else ("app", configs.Service())
    )
    changes = {key: value for key, value in given.items() if value not in (None, ())}
    configs.check_probe(changes.get("probe", chosen.probe))
    chosen = msgspec.structs.replace(chosen, **changes)
    words = _words(command, config, name, chosen)
    base = start if cwd or config.path is None or (command and not service) else config.path.parent / chosen.cwd
    if not base.is_dir():
        raise UsageError(f"{config.path}: services.{name}.cwd is {base}, which is no folder.", "Create it, or correct the line.")
    options = Options(
        name=name,
        service=chosen,
        command=words,
        cwd=base.resolve(),
        project=(base if config.path is None or base == start else config.path.parent).resolve(),
        config=config.path,
        take_over=take_over,
    )
    try:
        with launch([options], Style(level=level or "normal", log_format=log_format)) as launched:
            spawned_at = time.monotonic()
            from devsup.run import run as run_service

            code = run_service(launched, spawned_at)
    except DevsupError as exc:
        if log_format == "json":
            _refuse(name, exc)
        raise
    sys.exit(code)


def _refuse(name: str, exc: DevsupError) -> NoReturn:
    """Nothing has started: who reads events is told by one."""
    import time

    from devsup import events

    refused = events.Refused(problem=exc.problem, remedy=exc.remedy, code=exc.exit_code)
    click.echo(events.to_json(time.time(), name, refused).decode())
    sys.exit(exc.exit_code)


def _words(command: tuple[str, ...], config: Config, name: str, chosen: Service) -> tuple[str, ...]:
    """The command to run. Raises UsageError where there is none."""
    from devsup.errors import UsageError

    words = command or chosen.words
    if not words and name in config.services:
        raise UsageError(
            f"{config.path}: services.{name} has no command.",
            f'Add one: command = ["uvicorn", "main:app"], or name it: devsup run --service {name} COMMAND.',
        )
    if not words:
        raise UsageError(
            "There is nothing to run.",
            'Name the command or the app: "devsup run uvicorn main:app" or "devsup run main:app".',
        )
    return words
