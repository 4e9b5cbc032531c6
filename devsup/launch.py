"""From the command line to the first worker's process: as little as possible is imported before that runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from devsup import guard
from devsup.decide.addresses import after_options, intended
from devsup.decide.triggers import Rules
from devsup.decide.vocabulary import Limits
from devsup.errors import UsageError
from devsup.show.text import painted
from devsup.system import interpreter
from devsup.system.keeper import Keeper
from devsup.system.logfile import LogFile
from devsup.system.meeting import Meeting, Quarters
from devsup.system.output import Output, Voice
from devsup.system.owner import OwnedError, Owner
from devsup.system.spawn import Spawned, raise_limits, spawn
from devsup.system.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from devsup.config import Service
    from devsup.system.interpreter import Interpreter

_FREED = 2.0  # seconds until the kernel has closed what an ended process had open

GUEST = str(Path(__file__).with_name("guest"))


@dataclass(frozen=True)
class Options:
    """What is to run as one service, checked and complete."""

    name: str
    service: Service
    command: tuple[str, ...]
    cwd: Path
    project: Path  # whose .devsup folder has the state
    config: Path | None = None
    take_over: bool = False
    is_alone: bool = True  # else one of a team's
    retries: bool = False  # a failed start is tried again: the config asks for restarts
    stops_by_signal: bool = False  # as a container is stopped, not by the agent
    ear: Callable[[bytes], None] | None = None  # is given whole lines that it prints, from the first on, in a thread


@dataclass(frozen=True)
class Style:
    """How devsup speaks."""

    level: Literal["quiet", "normal", "verbose"] = "normal"
    log_format: Literal["text", "json"] = "text"
    only: tuple[str, ...] = ()  # the services that are shown; none: all
    detached: bool = False  # nobody looks, but may attach: programs get terminals all the same
    headless: bool = False  # nobody looks or types, ever: no terminals, no keys, and only --verbose shows what happens

    @property
    def is_silent(self) -> bool:
        """Whether neither events nor output are shown."""
        return self.headless and self.level != "verbose"


@dataclass(frozen=True)
class Plan:
    """All that a supervisor needs to know of its service. `environment()` is made anew for each worker."""

    name: str
    command: list[str]
    cwd: str
    environment: Callable[[], Mapping[str, str]]
    limits: Limits
    rules: Rules
    settings: Mapping[str, Any]  # for the agent: streams, stream_grace, background_grace
    probe: str = "tcp"
    interpreter: str = ""
    fork: bool = False
    take_over: bool = False
    loop_block_warn: float = 1.0
    stop_signal: int = signal.SIGTERM
    stops_by_signal: bool = False
    ports: tuple[int, ...] = ()  # that the config names
    is_portless: bool = False  # neither config nor command name a port: it may well serve nobody

    @property
    def is_final(self) -> bool:
        """Whether a failure is the end: no save starts another worker."""
        return self.limits.reload == "off" or self.limits.exit_on_failure

    def worker(self, generation: int) -> str:
        """A worker's name where two may run at once."""
        return f"{self.name}.{generation}" if self.limits.reload == "handover" else ""


def make_plan(options: Options, found: Interpreter) -> Plan:
    """Resolve the command and the rules. Raises UsageError for what cannot be run."""
    service, cwd = options.service, options.cwd
    start = interpreter.environment(found, os.environ)
    env_files = [str(cwd / name) for name in service.env_files]
    for name in env_files:
        if not Path(name).is_file():
            raise UsageError(
                f"There is no env file {name}.", "Create it, or take it out of --env-file (in the config: env_files)."
            )
    _check_folders(service.watch, cwd)
    command = resolve(options.command, found, start, cwd)
    may_fork = service.fork and sys.platform == "linux" and service.reload != "off"
    return Plan(
        name=options.name,
        command=command,
        cwd=str(cwd),
        environment=lambda: child_environment(start, env_files, service.env),
        limits=Limits(
            reload=service.reload,
            drain_timeout=service.drain_timeout,
            gate_timeout=service.gate_timeout,
            stop_timeout=service.stop_timeout,
            hold=service.hold,
            exit_on_failure=service.exit_on_failure,
            restart=service.restart,
            retries=options.retries,
        ),
        rules=Rules(
            root=os.path.realpath(cwd),
            watch=service.watch,
            ignore=service.ignore,
            watch_mode=service.watch_mode,
            exact=frozenset([*env_files, str(cwd / ".env")]),
        ),
        settings={
            "streams": service.streams,
            "stream_grace": service.stream_grace,
            "background_grace": service.background_grace,
            "probed": bool(service.probes),
        },
        probe=service.probe,
        fork=may_fork and interpreter.is_python(Path(command[0])),
        take_over=options.take_over,
        loop_block_warn=service.loop_block_warn,
        stop_signal=signal.Signals[f"SIG{service.stop_signal}"],
        stops_by_signal=options.stops_by_signal,
        ports=service.port,
        is_portless=not (options.is_alone or service.port or intended(command, start)),
        interpreter=found.path,
    )


def resolve(command: tuple[str, ...], found: Interpreter, environ: Mapping[str, str], cwd: Path) -> list[str]:
    """The command as it is run: a target becomes our launcher, a program its path. Raises UsageError."""
    first, *rest = command
    program = shutil.which(first, path=environ.get("PATH")) or (
        str(cwd / first) if os.access(cwd / first, os.X_OK) and "/" in first else None
    )
    if first in {"python", "python3"}:  # the one that was found, which need not be called so in its folder
        program = found.path
    if program is None and re.fullmatch(r"[\w.]+:[\w.]+(\(\))?", first):
        return [found.path, "-m", "devsup_agent.target", first, *rest]
    if program is None:
        raise UsageError(f'There is no program "{first}" in {found.bin or "PATH"}.', _remedy(first, found, cwd))
    script = _script(rest) if Path(program).name.startswith("python") else None
    if script is not None and not (cwd / script).exists():
        raise UsageError(f"There is no file {script} in {cwd}.", "Name a file that exists, or its folder with --cwd.")
    return [program, *rest]


def _script(words: list[str]) -> str | None:
    """The script that a Python command line runs, if it runs one."""
    rest = after_options(words)
    return rest[0] if rest and not rest[0].startswith("-") else None


def _remedy(first: str, found: Interpreter, cwd: Path) -> str:
    if (cwd / first).is_file():
        return (
            f"Run it with Python: devsup run python {first}" if first.endswith(".py") else f"Make it executable: chmod +x {first}"
        )
    if first in {"uvicorn", "flask", "gunicorn", "hypercorn", "fastapi", "werkzeug"}:
        return f"Install it: {found.path} -m pip install {first}"
    return "Check its spelling, or name the app as MODULE:APP."


def _check_folders(globs: tuple[str, ...], cwd: Path) -> None:
    """A --watch that begins with a folder that is not there watches nothing, for ever."""
    for glob in globs:
        fixed = []
        for part in Path(glob).parts:
            if any(char in part for char in "*?["):
                break
            fixed.append(part)
        folder = cwd.joinpath(*fixed)
        if (
            fixed
            and not folder.exists()
            and not (len(fixed) == len(Path(glob).parts) and folder.parent.is_dir() and folder.suffix)
        ):
            raise UsageError(
                f"--watch {glob}: there is no folder {folder}.",
                f"Create it (mkdir -p {folder}), or correct the pattern.",
            )


def child_environment(start: Mapping[str, str], env_files: list[str], extra: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment, made anew each time from devsup's own: an edited env file counts, a removed line too."""
    env = {key: value for key, value in start.items() if not key.startswith("DEVSUP_") or key == "DEVSUP_DEBUG"}
    if env_files:
        from dotenv import dotenv_values  # noqa: PLC0415

        for path in env_files:
            try:
                values = dotenv_values(path)
            except (OSError, ValueError) as exc:
                raise UsageError(f"{path} cannot be read: {exc}.", "Save it as UTF-8, readable by you.") from exc
            env = {**{key: value for key, value in values.items() if value is not None}, **env}
    env.update(extra)
    before = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry and not entry.endswith("devsup/guest")]
    env["PYTHONPATH"] = os.pathsep.join([GUEST, *before])
    return env


@dataclass(frozen=True)
class Berth:
    """What one service is run with; all of it is there before anything starts."""

    options: Options
    plan: Plan
    interpreter: Interpreter
    meeting: Meeting
    owner: Owner
    terminal: Terminal
    leftovers: list[int]  # of a devsup that was killed together with its keeper: they are ended
    environment: Mapping[str, str]  # of the first worker


@dataclass(frozen=True)
class Launched:
    """What the rest of devsup takes over."""

    berths: list[Berth]
    style: Style
    quarters: Quarters
    output: Output
    keeper: Keeper
    signals: list[int]  # that devsup was sent to end; the first of them before anybody could act on them
    name_width: int  # characters of the longest name
    first: Spawned | None = None  # the worker of a service that is alone


@contextmanager
def launch(services: Sequence[Options], style: Style) -> Iterator[Launched]:
    """See that every service can be run; the only one is spawned at once, and ended if the block did not.

    Raises DevsupError where something cannot be: then nothing has started.
    """
    plans = [(each, *_planned(each)) for each in services]
    if not services[0].is_alone:
        _check_ports([plan for _, plan, _ in plans])
    with ExitStack() as stack:
        logs = [_log(each) for each in services]
        for log in logs:
            stack.callback(log.close)
        output = stack.enter_context(_output(style, is_alone=services[0].is_alone))
        quarters = stack.enter_context(Quarters())
        name_width = max(len(plan.worker(1) or plan.name) for _, plan, _ in plans)
        voices = _voices(services, logs, style, name_width)
        berths = [
            stack.enter_context(_berth(options, plan, found, quarters, number, _terminal(output, voice, style)))
            for number, ((options, plan, found), voice) in enumerate(zip(plans, voices, strict=True))
        ]
        stack.enter_context(berths[0].terminal.single_keys())
        signals: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, _frame: signals.append(number))
        keeper = Keeper(quarters.run, quarters.folder)
        stack.callback(keeper.close)
        first = _first(berths[0], keeper) if services[0].is_alone else None
        raise_limits()
        if first is not None:
            stack.callback(first.kill)
        yield Launched(berths, style, quarters, output, keeper, signals, name_width, first)


def _check_ports(plans: Sequence[Plan]) -> None:
    """Two services on one port: the second would find it taken by the first. Raises UsageError."""
    wanted: dict[int, str] = {}
    for plan in plans:
        for port in {*plan.ports, *(port for _, port in intended(plan.command, plan.environment()))}:
            if port in wanted:
                problem = f"Services {wanted[port]} and {plan.name} both want port {port}."
                raise UsageError(problem, "Give one of them another, in its command and as its port.")
            wanted[port] = plan.name


def _log(options: Options) -> LogFile:
    wanted = options.service.log
    path = options.project / ".devsup" / "logs" / f"{options.name}.log"
    return LogFile(path, wanted.max_size, wanted.max_age, wanted.keep)


def _planned(options: Options) -> tuple[Plan, Interpreter]:
    found = interpreter.find(options.cwd, options.service.python, os.environ)
    return make_plan(options, found), found


def _output(style: Style, *, is_alone: bool) -> Output:
    screen = None
    if not is_alone and not style.headless:
        from devsup.system.screen import Screen  # noqa: PLC0415 - one service writes by itself

        with suppress(OSError):  # another user's terminal, or no such thing: then it is written as it is
            screen = Screen(1) if os.isatty(1) or stat.S_ISFIFO(os.fstat(1).st_mode) else None
    return Output(json_line if style.log_format == "json" else None, screen)


def _terminal(output: Output, voice: Voice, style: Style) -> Terminal:
    return Terminal(output, voice, detached=style.detached, headless=style.headless)


def _voices(services: Sequence[Options], logs: Sequence[LogFile], style: Style, width: int) -> Iterator[Voice]:
    """Each service's; one of a team's has a column of this width for the names."""
    colour = os.isatty(1) and not os.environ.get("NO_COLOR")
    for number, (each, log) in enumerate(zip(services, logs, strict=True)):
        shown = not style.is_silent and (not style.only or each.name in style.only)
        prefix = "" if each.is_alone else f"{{:<{width}}} | "
        if colour and prefix:
            prefix = painted(prefix, number)
        ears = [each.ear] if each.ear is not None else []
        yield Voice(each.name, prefix=prefix, log=log, shown=shown, ears=ears)


@contextmanager
def _berth(
    options: Options, plan: Plan, found: Interpreter, quarters: Quarters, number: int, terminal: Terminal
) -> Iterator[Berth]:
    with Meeting(quarters, number) as meeting, _own(options, plan, meeting, quarters.control) as owner:
        leftovers, environment = owner.end_leftovers(), plan.environment()
        _clear_the_way(options, plan, environment)
        yield Berth(options, plan, found, meeting, owner, terminal, leftovers, environment)


def _first(berth: Berth, keeper: Keeper) -> Spawned:
    plan, environment = berth.plan, {**berth.environment, **berth.meeting.environment(1)}
    first = spawn(plan.command, plan.cwd, environment, berth.terminal, plan.worker(1))
    keeper.watch(first.process.pid)
    berth.owner.tell(worker=first.process.pid)
    return first


def _own(options: Options, plan: Plan, meeting: Meeting, control: str) -> Owner:
    about = {"cwd": str(options.cwd), "control": control, "config": str(options.config or "")}
    own = partial(Owner, options.project, options.name, plan.command, meeting, **about)
    try:
        return own()
    except OwnedError as exc:
        if not options.take_over or exc.record is None or not exc.record.is_running:
            raise
        from devsup import take_over  # noqa: PLC0415 - 30 ms that few need

        take_over.from_owner(exc.record)
        return own()


def _clear_the_way(options: Options, plan: Plan, environment: Mapping[str, str]) -> None:
    """Raises TakenError where somebody listens on a port that is sure to be wanted, and stays."""
    try:
        guard.check(plan.command, environment, plan.cwd, plan.ports)
    except guard.TakenError as exc:
        if not options.take_over:
            raise
        from devsup import take_over  # noqa: PLC0415 - as above

        take_over.from_strangers(exc)
        guard.check(plan.command, environment, plan.cwd, plan.ports, patience=_FREED)


def json_line(voice: Voice, stream: str, text: str) -> bytes:
    """The form of a worker's line in `--log-format json`."""
    import time  # noqa: PLC0415 - few ask for it

    import msgspec  # noqa: PLC0415 - as above

    more = {"worker": voice.worker} if voice.worker else {}
    record = {"at": round(time.time(), 6), "service": voice.service, "event": "Line", "stream": stream, "line": text, **more}
    return msgspec.json.encode(record) + b"\n"
