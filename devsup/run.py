"""The composition root of `devsup run`: opens the parts in the order of need, in one stack, and closes them in reverse."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.bus import Bus
from devsup.decide import vocabulary as words
from devsup.guard import Guard
from devsup.learned import Learned
from devsup.reception import Reception
from devsup.show import pages
from devsup.show.console import Console, Level
from devsup.show.eventlog import event_log
from devsup.supervisor import Supervisor
from devsup.system.link import LinkServer
from devsup.system.listener import Listeners

if TYPE_CHECKING:
    from collections.abc import Callable

    from devsup.launch import Launched, Options
    from devsup.system.output import Output
    from devsup.system.owner import Owner
    from devsup.system.terminal import Terminal


def run(launched: Launched, spawned_at: float) -> int:
    """Run one service, whose first worker was spawned at `spawned_at` (monotonic), to its end; returns the exit code."""
    return anyio.run(_run, launched, spawned_at)


async def _run(launched: Launched, spawned_at: float) -> int:
    options, plan, terminal, output = launched.options, launched.plan, launched.terminal, launched.output
    bus = Bus(options.name)
    async with AsyncExitStack() as stack:
        log = stack.enter_context(event_log(options.cwd, bus))
        bus.subscribe(_console(options, output, terminal))
        bus.subscribe(_teller(launched.owner))
        listeners = Listeners()
        stack.callback(listeners.close)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        links = LinkServer(launched.meeting.run)
        supervisor = Supervisor(
            plan,
            bus,
            terminal,
            launched.meeting,
            listeners,
            tasks,
            launched.keeper.watch,
            partial(pages.render, editor=options.service.editor, folder=os.path.realpath(plan.cwd)),
        )
        guard = Guard(supervisor)
        Reception(supervisor, links, Learned(options.cwd, options.name), guard)
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
        if launched.leftovers:
            bus.publish(events.LeftoversEnded(pids=launched.leftovers))
        tasks.start_soon(guard.run)
        tasks.start_soon(_signals, supervisor, terminal, launched.signals)
        if terminal.is_tty:
            tasks.start_soon(terminal.read_keys, _keys(supervisor, output if options.log_format == "text" else None))
        if plan.limits.reload != "off":
            tasks.start_soon(supervisor.changes.run)
        code = await supervisor.run(launched.first, spawned_at)
        tasks.cancel_scope.cancel()
    return code


def _teller(owner: Owner) -> Callable[[float, str, events.Event], None]:
    """Keeps what others may know of this run."""

    def tell(_at: float, _service: str, event: events.Event) -> None:
        match event:
            case events.WorkerSpawned(pid=pid):
                owner.tell(worker=pid)
            case events.WorkerReady(urls=urls):
                owner.tell(urls=urls)
            case events.WorkerExited(pid=pid):
                owner.tell(gone=pid)
            case _:
                pass

    return tell


def _console(options: Options, output: Output, terminal: Terminal) -> Callable[[float, str, events.Event], None]:
    if options.log_format == "json":
        return lambda at, service, event: output.write(events.to_json(at, service, event).decode() + "\n")
    colour = terminal.is_tty and not os.environ.get("NO_COLOR")
    width = os.get_terminal_size(1).columns if terminal.is_tty else 200
    level: Level = options.level
    return Console(output.write, colour=colour, width=width or 80, level=level, cwd=options.cwd)


def _keys(supervisor: Supervisor, output: Output | None) -> Callable[[str], None]:
    def on_key(key: str) -> None:
        match key:
            case "r":
                supervisor.put(words.ReloadAsked())
            case "q":
                supervisor.put(words.StopAsked())
            case "s":
                supervisor.tasks.start_soon(supervisor.ask.tell_status)
            case "t":
                supervisor.tasks.start_soon(supervisor.ask.tell_stacks)
            case "h" | "?" if output is not None:
                output.write("devsup keys: r reload now · s what is active · t where it stands · q quit · h this help\n")
            case "\r" | "\n" if output is not None:
                output.write("\n")
            case _:
                pass

    return on_key


async def _signals(supervisor: Supervisor, terminal: Terminal, before: list[int]) -> None:
    wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    if terminal.is_tty:
        wanted += [signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT]
    with anyio.open_signal_receiver(*wanted) as received:
        for _ in before:
            supervisor.put(words.StopAsked())
        async for number in received:
            if number == signal.SIGWINCH:
                terminal.resize(supervisor.group())
            elif number == signal.SIGCONT:
                terminal.resume()
            elif number == signal.SIGTSTP:
                terminal.suspend(supervisor.group())
            else:
                supervisor.put(words.StopAsked())
