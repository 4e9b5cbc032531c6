"""`devsup run`: options before the command, the command as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from devsup.cli.options import says

if TYPE_CHECKING:
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

    from devsup import config as configs
    from devsup.cli.services import folder, of_command
    from devsup.errors import DevsupError
    from devsup.launch import Style, launch

    config = configs.load(folder(cwd))
    options = of_command(config, command, given, cwd=cwd, service=service, take_over=take_over)
    try:
        with launch([options], Style(level=level or "normal", log_format=log_format)) as launched:
            spawned_at = time.monotonic()
            from devsup.run import run as run_service

            code = run_service(launched, spawned_at)
    except DevsupError as exc:
        if log_format == "json":
            _refuse(options.name, exc)
        raise
    sys.exit(code)


def _refuse(name: str, exc: DevsupError) -> NoReturn:
    """Nothing has started: who reads events is told by one."""
    import time

    from devsup import events

    refused = events.Refused(problem=exc.problem, remedy=exc.remedy, code=exc.exit_code)
    click.echo(events.to_json(time.time(), name, refused).decode())
    sys.exit(exc.exit_code)
