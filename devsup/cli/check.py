"""`devsup check`: does it start, answer, and stay up? The smoke check for CI."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource
from msgspec import structs

from devsup.cli.options import Duration
from devsup.events import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devsup.cli.reports import Voice
    from devsup.config import Config
    from devsup.events import Outcome, Round
    from devsup.launch import Options
    from devsup.smoke import Wishes

_USAGE, _TAKEN, _INTERRUPTED = 2, 6, 130  # exit codes
_WORST_FIRST = (_USAGE, _TAKEN, 3, 4, 5, 1)
_ONCE = frozenset({"only", "repeat", "as_json", "junit", "verbose", "command"})  # not of a check that is made again alone


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--only", metavar="NAME", multiple=True, help="Make this check alone, NAME or SERVICE.NAME. Repeatable.")
@click.option("--hold", type=Duration(), default="3s", help="How long it has to stay up. Default: 3s.")
@click.option("--timeout", type=Duration(), help="Until it is ready. Default: start_timeout, 60s.")
@click.option("--repeat", type=click.IntRange(min=1), default=1, metavar="N", help="Start and stop it N times.")
@click.option("--reload-test", is_flag=True, help="Also save a file of a copy of the project during a request.")
@click.option("--port", type=click.IntRange(0, 65535), help="In place of its own; 0: any free one.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write JUnit's XML there.")
@click.option("--verbose", "-v", is_flag=True, help="Show every check, and what is printed.")
@click.option("--file", "-f", type=click.Path(path_type=Path), help="A devsup.toml of any name, or a Procfile.")
@click.option("--env-file", "env_files", metavar="FILE", multiple=True, help="Set its variables. Repeatable.")
@click.option("--python", metavar="PYTHON", help="Interpreter or virtual environment. Default: VIRTUAL_ENV, .venv, PATH.")
@click.option("--cwd", type=click.Path(file_okay=False, path_type=Path), help="Folder to run in.")
@click.option("--service", metavar="NAME", help="The service in devsup.toml to take the settings of.")
@click.argument("command", metavar="[TARGET | COMMAND… | SERVICE…]", nargs=-1, type=click.UNPROCESSED)
def check(  # noqa: PLR0917 - click passes them by name
    command: tuple[str, ...],
    only: tuple[str, ...],
    hold: float,
    timeout: float | None,
    repeat: int,
    reload_test: bool,
    port: int | None,
    as_json: bool,
    junit: Path | None,
    verbose: bool,
    file: Path | None,
    cwd: Path | None,
    service: str | None,
    **given: Any,
) -> None:
    """Start it, check it, and stop it: TARGET or COMMAND, or SERVICES of devsup.toml; without any, all of them.

    \b
    Exits with 0 where all is well, with 1 where a check failed, 2 for bad usage, 3 where it did not start,
    4 where it did not become ready, 5 where it did not stay up, 6 where its port is taken.
    """  # noqa: D301 - click looks for the character, which keeps the lines apart
    from devsup import config as configs
    from devsup.cli.reports import Voice, write
    from devsup.cli.services import folder
    from devsup.smoke import Names, Wishes

    with _ended_by_signals():
        began, since = time.time(), time.monotonic()
        config = configs.load_file(file) if file else configs.load(folder(cwd))
        services = _services(config, command, given, cwd, service)
        if only and reload_test:
            only = (*only, "reload")
        names = Names({each.name: each.service for each in services}, only, ("reload",) if reload_test else ())
        limit = timeout if timeout is not None else max(each.service.start_timeout for each in services)
        voice = Voice(services, names, as_json=as_json, verbose=verbose)
        rounds = _rounds(services, Wishes(names, hold, limit), voice, repeat=repeat, port=port, reload_test=reload_test)
        code = next((code for code in _WORST_FIRST if any(each.code == code for each in _bad(rounds))), 0)
        words = shlex.join(["devsup", *sys.argv[1:]])
        report = Report(command=words, began=began, seconds=time.monotonic() - since, rounds=rounds, code=code)
        write(report, junit, voice)
        voice.conclude(report)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """At once: after so many imports the interpreter's own end takes 0.1 s, in which nothing is done any more."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # nobody reads it, or it was closed
            stream.flush()
    os._exit(code)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Whatever is done when somebody wants the end is undone, and told."""
    try:
        _arm()
        yield
    except KeyboardInterrupt:
        with suppress(OSError):
            click.echo("devsup: interrupted; all that was started is ended", err=True)
        sys.exit(_INTERRUPTED)


def _arm() -> None:
    """Outside of a round, which has its own way with signals, each of these interrupts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def _services(
    config: Config, command: tuple[str, ...], given: dict[str, Any], cwd: Path | None, service: str | None
) -> list[Options]:
    """Those that are named, with all that they depend on; or the command as one."""
    from devsup import config as configs
    from devsup.cli.services import of_command, of_config

    if service is None and cwd is None and config.services and set(command) <= config.services.keys():
        chosen = [of_config(config, name) for name in configs.choose_all(config, command)]
        changes = {key: value for key, value in given.items() if value not in (None, ())}
        return [replace(each, service=structs.replace(each.service, **changes)) for each in chosen]
    return [of_command(config, command, given, cwd=cwd, service=service, verb="check")]


def _rounds(
    services: list[Options], wishes: Wishes, voice: Voice, *, repeat: int, port: int | None, reload_test: bool
) -> list[Round]:
    from devsup import smoke
    from devsup.errors import DevsupError
    from devsup.guard import TakenError

    again, told = _again(), smoke.Told(voice.outcome, voice.progress)
    checked = smoke.prepared(services, port, os.environ)
    saved = smoke.to_be_reloaded(services, os.environ) if reload_test else None
    rounds: list[Round] = []

    def refuse(exc: DevsupError, code: int, name: str) -> None:
        rounds.append(smoke.refused(services[0], exc, code, name))
        voice.outcome(rounds[-1].outcomes[0])

    for number in range(repeat):
        voice.begin(number + 1, repeat)
        try:
            rounds.append(smoke.run_round(checked, wishes, again, told, shown=voice.verbose))
        except TakenError as exc:
            refuse(exc, _TAKEN, "start")
        _arm()
        if any(each.code in {_USAGE, _TAKEN} for each in _bad(rounds)):
            return rounds
    if saved is not None and not _bad(rounds):
        try:
            rounds.append(smoke.run_reload(saved, wishes, again, told, shown=voice.verbose))
        except DevsupError as exc:
            refuse(exc, _USAGE, "reload")
    return rounds


def _bad(rounds: Sequence[Round]) -> list[Outcome]:
    return [outcome for each in rounds for outcome in each.outcomes if outcome.is_bad]


def _again() -> list[str]:
    """The words of this very command, but for what says how often, which checks, and where to write."""
    context = click.get_current_context()
    words = ["devsup"]
    for option in context.command.params:
        name = option.name or ""
        if name not in _ONCE and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = context.params[name]
            for each in value if isinstance(value, tuple) else (value,):
                words += (
                    [option.opts[0]] if each is True else [option.opts[0], f"{each:g}" if isinstance(each, float) else str(each)]
                )
    return [*words, *context.params["command"]]
