"""The composition root: opens the parts in the order of need, in one stack, and closes them in reverse."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AsyncExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio

from devsup import control, events
from devsup.decide import vocabulary as words
from devsup.guard import Guard
from devsup.learned import Learned
from devsup.reception import Reception
from devsup.show import pages
from devsup.show.console import Console
from devsup.show.eventlog import event_log
from devsup.show.row import status_row
from devsup.supervisor import Supervisor
from devsup.system.link import LinkServer
from devsup.system.listener import Listeners
from devsup.team import Member, Team
from devsup.working import Working

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from devsup.launch import Berth, Launched
    from devsup.system.output import Output
    from devsup.system.owner import Owner
    from devsup.system.spawn import Spawned

_SHOWN, _TOLD_AGAIN = 0.1, 1.0  # seconds between two looks at the last row, when something changes and when nothing does


def run(
    launched: Launched,
    spawned_at: float,
    is_up: Callable[[str], None] = lambda _: None,
    until: Callable[[Team], Awaitable[int]] = Team.over,
) -> int:
    """Run all services to their end; the first worker of a single one was spawned at `spawned_at` (monotonic).

    `is_up` is told the path of the control socket, once that is there; `until` returns the exit code when all is over.
    """
    return anyio.run(_run, launched, spawned_at, is_up, until)


async def _run(
    launched: Launched, spawned_at: float, is_up: Callable[[str], None], until: Callable[[Team], Awaitable[int]]
) -> int:
    first = (launched.first, spawned_at) if launched.first is not None else None
    async with AsyncExitStack() as stack:
        log = stack.enter_context(event_log(launched.berths[0].options.project))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        team = Team(tasks)
        for berth in launched.berths:
            member = Member(berth, team, partial(_serve, launched=launched, first=first))
            team.add(member)
            member.bus.subscribe(log or _nothing)
            member.bus.subscribe(_nothing if launched.style.is_silent else _console(launched, berth))
            member.bus.subscribe(_teller(berth.owner))
            if log is None and launched.style.level == "verbose":
                member.bus.publish(events.Trouble(text=f"the event log cannot be written in {berth.options.project}"))
        team.begin()
        tasks.start_soon(_signals, team, launched)  # a worker that is there already is not killed, but stopped
        await tasks.start(control.serve, launched.quarters.control, team)
        is_up(launched.quarters.control)
        if launched.output.has_screen and launched.style.level != "quiet":
            tasks.start_soon(_tell_standing, team, launched.output)
        terminal = launched.berths[0].terminal
        if terminal.is_tty:
            tasks.start_soon(terminal.read_keys, _keys(team, launched, tasks), [berth.terminal for berth in launched.berths])
        code = await until(team)
        tasks.cancel_scope.cancel()
    return code


async def _serve(member: Member, launched: Launched, first: tuple[Spawned, float] | None) -> int:
    """Run a service once, to its end."""
    berth, bus = member.berth, member.bus
    options, plan = berth.options, berth.plan
    with closing(Listeners()) as listeners:
        async with anyio.create_task_group() as tasks:
            links = LinkServer(berth.meeting.run)
            render = partial(pages.render, editor=options.service.editor, folder=os.path.realpath(plan.cwd))
            supervisor = Supervisor(plan, bus, berth.terminal, berth.meeting, listeners, tasks, launched.keeper.watch, render)
            guard = Guard(supervisor)
            Reception(supervisor, links, Learned(options.project, options.name), guard)
            tasks.start_soon(links.serve, berth.meeting.sock)
            bus.publish(
                events.ServiceStarted(
                    command=list(options.command),
                    cwd=plan.cwd,
                    interpreter=berth.interpreter.path,
                    reason=berth.interpreter.reason,
                    reload=plan.limits.reload,
                    config=str(options.config) if options.config else None,
                )
            )
            if berth.leftovers and not member.generations:
                bus.publish(events.LeftoversEnded(pids=berth.leftovers))
            tasks.start_soon(guard.run)
            if plan.limits.reload != "off":
                tasks.start_soon(supervisor.changes.run)
            working = Working(supervisor, options.service.probes)
            with bus.heard_by(working), member.served_by(supervisor, working):
                code = await supervisor.run(first if not member.generations else None, member.generations)
            tasks.cancel_scope.cancel()
    return code


async def _tell_standing(team: Team, output: Output) -> None:
    """Keep the last row of the terminal true."""
    colour = not os.environ.get("NO_COLOR")
    while True:
        change = team.change
        active = {name: member.supervisor.hangs.running() for name, member in team.members.items() if member.supervisor}
        with suppress(OSError):  # the terminal was closed: SIGHUP tells
            width = os.get_terminal_size(1).columns
            output.status(status_row(team.standings().values(), active, now=time.time(), width=width, colour=colour))
        await anyio.sleep(_SHOWN)
        with anyio.move_on_after(_TOLD_AGAIN):
            await change.wait()


def _nothing(_at: float, _service: str, _event: events.Event) -> None:
    pass


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


def _console(launched: Launched, berth: Berth) -> Callable[[float, str, events.Event], None]:
    style, output, is_tty = launched.style, launched.output, berth.terminal.is_tty
    if style.log_format == "json":
        return lambda at, service, event: output.write(events.to_json(at, service, event).decode() + "\n")
    colour = is_tty and not os.environ.get("NO_COLOR")
    width = os.get_terminal_size(1).columns if is_tty else 200
    member = "" if berth.options.is_alone else berth.plan.name.ljust(launched.name_width)
    return Console(output.write, colour=colour, width=width or 80, level=style.level, cwd=berth.options.project, member=member)


def _keys(team: Team, launched: Launched, tasks: TaskGroup) -> Callable[[str], None]:
    output = launched.output if launched.style.log_format == "text" else None

    def each_of(act: Callable[[Supervisor], object]) -> None:
        for member in team.members.values():
            if member.supervisor is not None:
                act(member.supervisor)

    def on_key(key: str) -> None:
        match key:
            case "r":
                each_of(lambda supervisor: supervisor.put(words.ReloadAsked()))
            case "q":
                tasks.start_soon(team.stop)
            case "s":
                each_of(lambda supervisor: supervisor.tasks.start_soon(supervisor.ask.tell_status))
            case "t":
                each_of(lambda supervisor: supervisor.tasks.start_soon(supervisor.ask.tell_stacks))
            case "h" | "?" if output is not None:
                output.write("devsup keys: r reload now · s what is active · t where it stands · q quit · h this help\n")
            case "\r" | "\n" if output is not None:
                output.write("\n")
            case _:
                pass

    return on_key


async def _signals(team: Team, launched: Launched) -> None:
    wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    terminal = launched.berths[0].terminal
    if terminal.is_tty:
        wanted += [signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT]

    def groups() -> list[int]:
        supervisors = [member.supervisor for member in team.members.values()]
        return [group for each in supervisors if each is not None and (group := each.group()) is not None]

    with anyio.open_signal_receiver(*wanted) as received:
        async with anyio.create_task_group() as stopping:
            for _ in launched.signals:
                stopping.start_soon(team.stop)
            async for number in received:
                if number == signal.SIGWINCH:
                    for member in team.members.values():
                        member.berth.terminal.resize(member.supervisor.group() if member.supervisor is not None else None)
                elif number == signal.SIGCONT:
                    terminal.resume()
                elif number == signal.SIGTSTP:
                    terminal.suspend(groups())
                else:
                    launched.signals.append(number)
                    stopping.start_soon(team.stop)
