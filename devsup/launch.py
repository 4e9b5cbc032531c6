"""From the command line to the first worker's process: as little as possible is imported before that runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from devsup import guard
from devsup.decide.addresses import after_options
from devsup.decide.triggers import Rules
from devsup.decide.vocabulary import Limits
from devsup.errors import UsageError
from devsup.system import interpreter
from devsup.system.keeper import Keeper
from devsup.system.meeting import Meeting
from devsup.system.output import Output
from devsup.system.owner import OwnedError, Owner
from devsup.system.spawn import Spawned, raise_limits, spawn
from devsup.system.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from devsup.config import Service
    from devsup.system.interpreter import Interpreter

_FREED = 2.0  # seconds until the kernel has closed what an ended process had open

GUEST = str(Path(__file__).with_name("guest"))


@dataclass(frozen=True)
class Options:
    """What `devsup run` was asked for, checked and complete."""

    name: str
    service: Service
    command: tuple[str, ...]
    cwd: Path
    config: Path | None = None
    level: Literal["quiet", "normal", "verbose"] = "normal"
    log_format: str = "text"
    take_over: bool = False


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

    @property
    def is_final(self) -> bool:
        """Whether a failure is the end: no save starts another worker."""
        return self.limits.reload == "off" or self.limits.exit_on_failure

    def label(self, generation: int) -> str:
        """What stands before a worker's lines where two may run at once."""
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
        },
        probe=service.probe,
        fork=may_fork and interpreter.is_python(Path(command[0])),
        take_over=options.take_over,
        loop_block_warn=service.loop_block_warn,
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
class Launched:
    """What the rest of devsup takes over."""

    options: Options
    plan: Plan
    interpreter: Interpreter
    meeting: Meeting
    output: Output
    terminal: Terminal
    keeper: Keeper
    owner: Owner
    leftovers: list[int]  # of a devsup that was killed together with its keeper: they are ended
    first: Spawned
    signals: list[int]  # that came before anybody could act on them


@contextmanager
def launch(options: Options) -> Iterator[Launched]:
    """Spawn the first worker; ends it if the block did not. Raises DevsupError where it cannot be: then nothing has started."""
    found = interpreter.find(options.cwd, options.service.python, os.environ)
    plan = make_plan(options, found)
    with ExitStack() as stack:
        output = stack.enter_context(Output(json_line(options.name) if options.log_format == "json" else None))
        meeting = stack.enter_context(Meeting())
        owner = stack.enter_context(_own(options, plan, meeting))
        leftovers = owner.end_leftovers()
        environment = plan.environment()
        _clear_the_way(options, plan, environment)
        terminal = Terminal(output)
        stack.enter_context(terminal.single_keys())
        signals: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, _frame: signals.append(number))
        keeper = Keeper(meeting.run, meeting.folder)
        stack.callback(keeper.close)
        first = spawn(plan.command, plan.cwd, {**environment, **meeting.environment(1)}, terminal, plan.label(1))
        raise_limits()
        stack.callback(first.kill)
        keeper.watch(first.process.pid)
        owner.tell(worker=first.process.pid)
        yield Launched(options, plan, found, meeting, output, terminal, keeper, owner, leftovers, first, signals)


def _own(options: Options, plan: Plan, meeting: Meeting) -> Owner:
    try:
        return Owner(options.cwd, options.name, plan.command, meeting)
    except OwnedError as exc:
        if not options.take_over or exc.record is None or not exc.record.is_running:
            raise
        from devsup import take_over  # noqa: PLC0415 - 30 ms that few need

        take_over.from_owner(exc.record)
        return Owner(options.cwd, options.name, plan.command, meeting)


def _clear_the_way(options: Options, plan: Plan, environment: Mapping[str, str]) -> None:
    """Raises TakenError where somebody listens on a port that is sure to be wanted, and stays."""
    try:
        guard.check(plan.command, environment, plan.cwd)
    except guard.TakenError as exc:
        if not options.take_over:
            raise
        from devsup import take_over  # noqa: PLC0415 - as above

        take_over.from_strangers(exc)
        guard.check(plan.command, environment, plan.cwd, patience=_FREED)


def json_line(service: str) -> Callable[[str, str, str], bytes]:
    """The form of a worker's line in `--log-format json`."""
    import time  # noqa: PLC0415 - few ask for it

    import msgspec  # noqa: PLC0415 - as above

    def line(stream: str, text: str, worker: str) -> bytes:
        more = {"worker": worker} if worker else {}
        record = {"at": round(time.time(), 6), "service": service, "event": "Line", "stream": stream, "line": text, **more}
        return msgspec.json.encode(record) + b"\n"

    return line
