"""The composition root of `devsup run`: opens the parts in the order of need, in one stack, and closes them in reverse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.decide import vocabulary as words
from devsup.reception import Reception
from devsup.show.console import Console, Level
from devsup.show.eventlog import event_log
from devsup.supervisor import Supervisor
from devsup.system.link import LinkServer
from devsup.system.listener import Listeners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devsup.launch import Launched, Options
    from devsup.system.output import Output
    from devsup.system.terminal import Terminal

_KEEPER = str(Path(__file__).with_name("system") / "keeper.py")


def run(launched: Launched, spawned_at: float) -> int:
    """Run one service, whose first worker was spawned at `spawned_at` (monotonic), to its end; returns the exit code."""
    return anyio.run(_run, launched, spawned_at)


async def _run(launched: Launched, spawned_at: float) -> int:
    options, plan, terminal, output = launched.options, launched.plan, launched.terminal, launched.output
    bus = events.Bus(options.name)
    async with AsyncExitStack() as stack:
        log = stack.enter_context(event_log(options.cwd, bus))
        bus.subscribe(_console(options, output, terminal))
        listeners = Listeners()
        stack.callback(listeners.close)
        keeper = stack.enter_context(_keeper(launched.meeting.run))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        links = LinkServer(launched.meeting.run)
        stack.enter_context(terminal.single_keys())
        supervisor = Supervisor(plan, bus, terminal, launched.meeting, listeners, tasks, keeper)
        Reception(supervisor, links)
        tasks.start_soon(links.serve, launched.meeting.sock)
        bus.publish(
            events.ServiceStarted(
                command=list(options.command),
                cwd=plan.cwd,
                interpreter=launched.interpreter.path,
                reason=launched.interpreter.reason,
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
        code = await supervisor.run(launched.first, spawned_at)
        tasks.cancel_scope.cancel()
    return code


def _console(options: Options, output: Output, terminal: Terminal) -> Callable[[float, str, events.Event], None]:
    if options.log_format == "json":
        return lambda at, service, event: output.write(events.to_json(at, service, event).decode() + "\n")
    colour = terminal.is_tty and not os.environ.get("NO_COLOR")
    width = os.get_terminal_size(1).columns if terminal.is_tty else 200
    level: Level = options.level
    return Console(output.write, colour=colour, width=width or 80, level=level, cwd=options.cwd)


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


@contextmanager
def _keeper(token: str) -> Iterator[Callable[[int], None]]:
    """The process that ends everything when we are gone; started with the first worker, so that it delays none."""
    process: subprocess.Popen[bytes] | None = None

    def tell(group: int) -> None:
        nonlocal process
        if process is None:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", _KEEPER, token], stdin=subprocess.PIPE, start_new_session=True
            )
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
