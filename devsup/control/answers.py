"""What the control API answers, and how it is found out."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devsup.system.link import Link
    from devsup.team import Member

_SAMPLE = 0.1  # seconds over which the use of the processor is measured


class About(msgspec.Struct):
    """A devsup that runs."""

    version: str
    pid: int
    services: list[str]


class Done(msgspec.Struct):
    """What was asked for was begun."""

    done: str


class Service(msgspec.Struct):
    """How a service stands: `since` in seconds since the epoch, `cpu` in percent of a core and `rss` in bytes of its whole tree.

    `can_come`: it serves, or will without anybody's doing.
    """

    name: str
    state: str
    since: float
    seconds: float
    reason: str
    generation: int
    pid: int | None
    urls: list[str]
    command: list[str]
    active: int
    cpu: float
    rss: int
    reloading: bool
    prompting: bool
    can_come: bool
    code: int | None
    log: str


class Active(msgspec.Struct):
    """Something that is active now. `kind` is http, websocket, stream or background; `waits_in` is FILE:LINE in FUNCTION."""

    id: str
    service: str
    kind: str
    method: str
    path: str
    age: float
    holds: bool
    waits_in: str


async def services(members: Sequence[Member]) -> list[Service]:
    """How these stand now."""
    found: dict[str, Service] = {}
    pids = {member.name: _pids(member) for member in members}

    async def about(member: Member) -> None:
        supervisor, status = member.supervisor, member.status
        reasons = member.working.reasons().values() if member.working is not None and status.is_up else ()
        active = len(await supervisor.ask.active(_SAMPLE * 10)) if supervisor is not None and status.serving else 0
        found[member.name] = Service(
            name=member.name,
            state=status.state,
            since=status.since,
            seconds=round(time.time() - status.since, 3),
            reason="; ".join(reasons) or status.reason,
            generation=status.generation,
            pid=status.pid,
            urls=status.urls,
            command=list(member.berth.options.command),
            active=active,
            cpu=0.0,
            rss=0,
            reloading=status.reloading,
            prompting=status.prompting,
            can_come=not member.is_down,
            code=status.code,
            log=str(member.berth.terminal.voice.log.path) if member.berth.terminal.voice.log is not None else "",
        )

    async with anyio.create_task_group() as asking:
        for member in members:
            asking.start_soon(about, member)
        used = await anyio.to_thread.run_sync(_used, pids)
    for name, (cpu, rss) in used.items():
        found[name].cpu, found[name].rss = cpu, rss
    return [found[member.name] for member in members]


def _pids(member: Member) -> list[Any]:
    supervisor = member.supervisor
    return [each.handle.tree for each in supervisor.workers.values() if each.handle is not None] if supervisor is not None else []


def _used(trees: dict[str, list[Any]]) -> dict[str, tuple[float, int]]:
    """Percent of a core and bytes of memory of each service's processes, measured for a moment."""
    import psutil  # noqa: PLC0415 - slow, and needed for this alone

    processes: dict[str, list[psutil.Process]] = {name: [] for name in trees}
    for name, found in trees.items():
        for pid in {pid for tree in found for pid in tree.members()}:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                process.cpu_percent()
                processes[name].append(process)
    time.sleep(_SAMPLE)  # noqa: TID251 - in a thread; to measure takes time
    used: dict[str, tuple[float, int]] = {}
    for name, known in processes.items():
        cpu, rss = 0.0, 0
        for process in known:
            with suppress(psutil.Error):
                cpu, rss = cpu + process.cpu_percent(), rss + process.memory_info().rss
        used[name] = (round(cpu, 1), rss)
    return used


async def active(members: Sequence[Member]) -> list[Active]:
    """What is active in these now, the oldest first."""
    found: list[Active] = []

    async def ask(member: Member, link: Link) -> None:
        answer = await link.ask("requests")
        for item in answer["items"] if answer is not None else ():
            plain = member.bus.hide({key: value for key, value in item.items() if key != "id"})
            found.append(Active(id=f"{link.pid}-{item['id']}", service=member.name, **plain))

    async def outside(member: Member) -> None:
        if member.supervisor is not None:
            for number, each in enumerate(await member.supervisor.foreign.active()):
                found.append(Active(f"{member.name}-{number}", member.name, "connection", "", each.name, each.age, True, ""))

    async with anyio.create_task_group() as asking:
        for member in members:
            workers = member.supervisor.workers.values() if member.supervisor is not None else ()
            links = [link for each in workers if each.handle is not None for link in each.handle.serving()]
            for link in links:
                asking.start_soon(ask, member, link)
            if not links:
                asking.start_soon(outside, member)
    return sorted(found, key=lambda each: -each.age)
