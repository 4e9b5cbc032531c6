"""The composition root of `devsup run`: opens the parts in the order of need, in one stack, and closes them in reverse."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from devsup import events
from devsup.decide import vocabulary as words
from devsup.decide.triggers import Rules
from devsup.errors import UsageError
from devsup.reception import Reception
from devsup.show.console import Console, Level
from devsup.show.eventlog import event_log
from devsup.supervisor import Plan, Supervisor
from devsup.system import interpreter
from devsup.system.link import link_server
from devsup.system.listener import Listeners
from devsup.system.output import Output
from devsup.system.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from devsup.config import Service
    from devsup.system.interpreter import Interpreter

GUEST = str(Path(__file__).with_name("guest"))
_KEEPER = str(Path(__file__).with_name("system") / "keeper.py")


@dataclass(frozen=True)
class Options:
    """What `devsup run` was asked for, checked and complete."""

    name: str
    service: Service
    command: tuple[str, ...]
    cwd: Path
    config: Path | None = None
    level: Level = "normal"
    log_format: str = "text"


def run(options: Options) -> int:
    """Run one service to its end; returns the exit code."""
    found = interpreter.find(options.cwd, options.service.python, os.environ)
    plan = make_plan(options, found)
    return anyio.run(_run, options, plan, found)


def make_plan(options: Options, found: Interpreter) -> Plan:
    """Resolve the command and the rules. Raises UsageError for what cannot be run."""
    service, cwd = options.service, options.cwd
    start = interpreter.environment(found, os.environ)
    env_files = [str(cwd / name) for name in service.env_files]
    for name in env_files:
        if not Path(name).is_file():
            raise UsageError(f"There is no env file {name}.", "Create it, or leave --env-file out.")
    _check_folders(service.watch, cwd)
    return Plan(
        name=options.name,
        command=resolve(options.command, found, start, cwd),
        cwd=str(cwd),
        environment=lambda: child_environment(start, env_files, service.env),
        limits=words.Limits(
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
            exact=frozenset(os.path.realpath(path) for path in [*env_files, cwd / ".env"]),
        ),
        settings={"streams": service.streams, "stream_grace": service.stream_grace},
    )


def resolve(command: tuple[str, ...], found: Interpreter, environ: Mapping[str, str], cwd: Path) -> list[str]:
    """The command as it is run: a target becomes our launcher, a program its path. Raises UsageError."""
    import re  # noqa: PLC0415
    import shutil  # noqa: PLC0415

    first, *rest = command
    program = shutil.which(first, path=environ.get("PATH")) or (str(cwd / first) if os.access(cwd / first, os.X_OK) and "/" in first else None)
    if program is None and re.fullmatch(r"[\w.]+:[\w.]+(\(\))?", first):
        return [found.path, "-m", "devsup_agent.target", first, *rest]
    if program is None and first in {"python", "python3"}:
        program = found.path
    if program is None:
        raise UsageError(f'There is no program "{first}" in {found.bin or "PATH"}.', _remedy(first, found, cwd))
    script = next((word for word in rest if not word.startswith("-")), "") if Path(program).name.startswith("python") else ""
    if script.endswith(".py") and rest[0] == script and not (cwd / script).is_file():
        raise UsageError(f"There is no file {script} in {cwd}.", "Name a file that exists, or its folder with --cwd.")
    return [program, *rest]


def _remedy(first: str, found: Interpreter, cwd: Path) -> str:
    if (cwd / first).is_file():
        return f"Run it with Python: devsup run python {first}" if first.endswith(".py") else f"Make it executable: chmod +x {first}"
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
        if fixed and not folder.exists() and not (len(fixed) == len(Path(glob).parts) and folder.parent.is_dir() and folder.suffix):
            raise UsageError(f"--watch {glob}: there is no folder {folder}.", f"Create it (mkdir -p {folder}), or correct the pattern.")


def child_environment(start: Mapping[str, str], env_files: list[str], extra: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment, made anew each time from devsup's own: an edited env file counts, a removed line too."""
    env = {key: value for key, value in start.items() if not key.startswith("DEVSUP_")}
    if env_files:
        from dotenv import dotenv_values  # noqa: PLC0415

        for path in env_files:
            env = {**{key: value for key, value in dotenv_values(path).items() if value is not None}, **env}
    env.update(extra)
    before = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry and not entry.endswith("devsup/guest")]
    env["PYTHONPATH"] = os.pathsep.join([GUEST, *before])
    env.setdefault("PYTHONUNBUFFERED", "1")
    return env


async def _run(options: Options, plan: Plan, found: Interpreter) -> int:
    bus = events.Bus(options.name)
    async with AsyncExitStack() as stack:
        log = stack.enter_context(event_log(options.cwd, bus))
        output = stack.enter_context(Output(_json_line(options.name) if options.log_format == "json" else None))
        terminal = Terminal(output)
        bus.subscribe(_console(options, output, terminal))
        listeners = Listeners()
        stack.callback(listeners.close)
        keeper = await stack.enter_async_context(_keeper(run_id := secrets.token_hex(8)))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        links = await stack.enter_async_context(link_server(run_id, tasks))
        stack.enter_context(terminal.single_keys())
        supervisor = Supervisor(plan, bus, terminal, links, listeners, tasks, keeper)
        Reception(supervisor)
        bus.publish(
            events.ServiceStarted(
                command=list(options.command),
                cwd=plan.cwd,
                interpreter=found.path,
                reason=found.reason,
                reload=plan.limits.reload,
                config=str(options.config) if options.config else None,
            )
        )
        if log is None and options.level == "verbose":
            bus.publish(events.Trouble(text=f"the event log cannot be written in {options.cwd}"))
        tasks.start_soon(_signals, supervisor, terminal)
        if terminal.is_tty:
            tasks.start_soon(terminal.read_keys, _keys(supervisor, output))
        if plan.limits.reload != "off":
            tasks.start_soon(supervisor.changes.run)
        code = await supervisor.run()
        tasks.cancel_scope.cancel()
    return code


def _console(options: Options, output: Output, terminal: Terminal) -> Callable[[float, str, events.Event], None]:
    if options.log_format == "json":
        return lambda at, service, event: output.write(events.to_json(at, service, event).decode() + "\n")
    colour = terminal.is_tty and not os.environ.get("NO_COLOR")
    width = os.get_terminal_size(1).columns if terminal.is_tty else 200
    level: Level = options.level
    return Console(output.write, colour=colour, width=width or 80, level=level, cwd=options.cwd)


def _json_line(service: str) -> Callable[[str, str], bytes]:
    def line(stream: str, text: str) -> bytes:
        return msgspec.json.encode({"service": service, "event": "Line", "stream": stream, "line": text}) + b"\n"

    return line


def _keys(supervisor: Supervisor, output: Output) -> Callable[[str], None]:
    def on_key(key: str) -> None:
        match key:
            case "r":
                supervisor.put(words.ReloadAsked())
            case "q":
                supervisor.put(words.StopAsked())
            case "s":
                supervisor.tasks.start_soon(supervisor.tell_status)
            case "h" | "?":
                output.write("devsup keys: r reload now · s what is active · q quit · h this help\n")
            case "\r" | "\n":
                output.write("\n")
            case _:
                pass

    return on_key


async def _signals(supervisor: Supervisor, terminal: Terminal) -> None:
    wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if terminal.is_tty:
        wanted += [signal.SIGWINCH, signal.SIGTSTP]
    with anyio.open_signal_receiver(*wanted) as received:
        async for number in received:
            if number == signal.SIGWINCH:
                terminal.resize(supervisor.group())
            elif number == signal.SIGTSTP:
                terminal.suspend(supervisor.group())
            else:
                supervisor.put(words.StopAsked())


@asynccontextmanager
async def _keeper(token: str) -> AsyncIterator[Callable[[int], None]]:
    """The process that ends everything when we are gone; started with the first worker, so that it delays none."""
    process: subprocess.Popen[bytes] | None = None

    def tell(group: int) -> None:
        nonlocal process
        if process is None:
            process = subprocess.Popen([sys.executable, "-I", "-S", _KEEPER, token], stdin=subprocess.PIPE, start_new_session=True)
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.write(b"%d\n" % group)
                process.stdin.flush()

    try:
        yield tell
    finally:
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.write(b"quit\n")
                process.stdin.close()
            process.wait()
