"""One round: the services start, are asked, stay up for a while, and end; each step has its outcomes.

Theory of operation. A round is what `run.run` waits for in place of the services' own end. It only looks and asks: who starts
when, and ends how, is the team's business, and what has happened is read from its events. The time that a service has to stay up
counts from when all are ready, and is used for the questions. If a service ends meanwhile, what is being asked is dropped: `hold`
tells of it, with the diagnosis of its end. Scenarios come last, as they warm up what others measure.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio

from devsup.decide import order
from devsup.decide.growth import leak
from devsup.smoke import ends, listeners
from devsup.smoke.asking import Asking
from devsup.smoke.beginning import Beginning
from devsup.smoke.memory import Memory
from devsup.smoke.phases import Phases
from devsup.system import requests
from devsup.system.checks import load_http

if TYPE_CHECKING:
    from devsup.smoke.subject import Subject
    from devsup.smoke.wishes import Wishes
    from devsup.team import Team

_Way = Callable[[], Awaitable[None]]

_CLOSED = 0.02  # seconds until what probes had open is closed
_EVERY = 1.0  # seconds between two looks whether all is well
_NEWS = 0.3  # seconds until the end of a process is known
_GROWS = 3.0  # seconds more that memory is looked at which seems to grow: a load in the background comes to an end
_PROBED = 2.0  # seconds that a probe has beyond its own limits


class Smoke:
    """A round of these services. `progress` is told each phase as it begins, and for how long it is going to be.

    `signals` are those that devsup was sent meanwhile: then all is ended, and nothing more is told.
    """

    def __init__(
        self, subjects: list[Subject], wishes: Wishes, progress: Callable[[str, float], None], signals: list[int]
    ) -> None:
        self._subjects, self._wishes, self._signals = subjects, wishes, signals
        self._memory: Memory
        self._before: dict[int, int] = {}  # listeners on the services' ports before the end, by inode
        self._phases = Phases(progress)

    async def __call__(self, team: Team) -> int:
        """To the end of all services."""
        for subject in self._subjects:
            subject.meet(team.members[subject.name])
        self._memory = Memory(self._subjects)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load_http)
            self._phases.begin("start", self._wishes.timeout)
            with anyio.CancelScope() as scope:
                tasks.start_soon(self._watch_for_interrupts, team, scope)
                if await Beginning(team, self._subjects, self._wishes.timeout).is_made():
                    await self._while_up(team)
            await self._end(team)
            tasks.cancel_scope.cancel()
        self._phases.end()
        return 0

    async def _watch_for_interrupts(self, team: Team, scope: anyio.CancelScope) -> None:
        await team.until(lambda: team.is_ending)
        scope.cancel()

    @property
    def phases(self) -> dict[str, float]:
        """Its parts and their seconds."""
        return self._phases.taken

    # -- while it is up -------------------------------------------------------------------------------------------------

    async def _while_up(self, team: Team) -> None:
        began = time.monotonic()
        running = [each for each in self._subjects if each.member.supervisor is not None]
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(self._memory.watch)
                tasks.start_soon(self._watch_for_ends, team, running, scope)
                await self._ask(running, began)
            tasks.cancel_scope.cancel()
        for each in running:
            ends.held(each, began)
        await self._memory.look()
        for each in running:
            ends.judge_memory(each, self._memory.samples[each.name])

    async def _watch_for_ends(self, team: Team, running: list[Subject], scope: anyio.CancelScope) -> None:
        await team.until(lambda: any(each.member.is_down or each.member.is_over for each in running))
        scope.cancel()

    async def _ask(self, running: list[Subject], began: float) -> None:
        self._phases.begin("checks")
        for each in running:
            await self._alone(each)
        async with requests.session() as session:
            later: list[_Way] = []
            askings = [_asking(each, session) for each in running]
            for subject, asking in zip(running, askings, strict=True):
                later += await self._ask_one(subject, asking)
            if not await self._hold(running, askings, began):
                return
            for each in running:
                await self._prove(each, began)
                await self._alone(each, again=True)
            if later:
                self._phases.begin("scenarios")
            for way in later:
                await way()

    async def _ask_one(self, subject: Subject, asking: Asking) -> list[_Way]:
        """All its checks but the scenarios, which are returned."""
        later = list[_Way]()
        for named in self._wishes.names.of(subject.name).values():
            way = asking.way(named)
            if way is not None and named.check is not None and named.check.runs:
                later.append(partial(_make, subject, named.name, way))
            elif way is not None:
                await _make(subject, named.name, way)
        return later

    async def _hold(self, running: list[Subject], askings: list[Asking], began: float) -> bool:
        """Whether what was answered well is still, as long as that is wanted; what grows is looked at for longer."""
        hold = self._wishes.hold if any(each.wants("hold") or each.wants("memory") for each in running) else 0.0
        ends_at, began_to_hold = began + hold, time.monotonic()
        self._phases.begin("hold", max(0.0, ends_at - began_to_hold))
        while (left := ends_at - time.monotonic()) > 0:
            await anyio.sleep(min(_EVERY, left))
            for subject, asking in zip(running, askings, strict=True):
                if problem := await asking.is_well() or listeners.gone(subject.member.supervisor):
                    await anyio.sleep(_NEWS)  # it may have ended: then that is the reason
                    ends.unwell(subject, problem, began)
                    return False
        grows = any(leak(samples) is not None for samples in self._memory.samples.values())
        await anyio.sleep(min(hold, _GROWS) if grows else 0.0)
        return True

    async def _alone(self, subject: Subject, *, again: bool = False) -> None:
        """Nobody else listens on its ports; looked at `again`, that is told only where it has changed."""
        supervisor = subject.member.supervisor
        if not subject.wants("listener") or supervisor is None or any(each.name == "listener" for each in subject.outcomes):
            return
        others, served = await listeners.others(supervisor), listeners.served(supervisor)
        if others:
            subject.failed("listener", f"Others listen where its clients could come: {others}", lines=[])
        elif again:
            where = ", ".join(address.where for address in served)
            subject.passed("listener", f"nobody else listens on {where}" if served else "it listens on no port")

    async def _prove(self, subject: Subject, began: float) -> None:
        """Each probe has seen what it is there to see, and what it saw was right."""
        for name, probe in subject.service.probes.items():
            if name == "ready" or not subject.wants(f"probe-{name}"):
                continue
            limit = began + (probe.grows_within or probe.within or 0.0) + probe.timeout + _PROBED - time.monotonic()
            working = subject.member.working
            if working is None:
                return
            with anyio.move_on_after(limit):
                while not working.proves(name) and name not in working.reasons():  # noqa: ASYNC110 - verdicts are no events
                    await anyio.sleep(0.05)
            reason = working.reasons().get(name, "" if working.proves(name) else f"it was not seen in {limit:.1f} s")
            if reason:
                subject.failed(f"probe-{name}", reason, began)
            else:
                subject.passed(f"probe-{name}", "works")

    # -- the end --------------------------------------------------------------------------------------------------------

    async def _end(self, team: Team) -> None:
        """Ask all to end, and look how they did."""
        self._phases.begin("stop")
        running = [each for each in self._subjects if order.is_met("started", each.member.status) and each.member.supervisor]
        for each in running:
            if each.member.supervisor is not None:
                served = listeners.served(each.member.supervisor)
                each.ports, self._before = {address.port for address in served}, {**self._before, **listeners.inodes(served)}
            if each.member.working is not None:
                each.member.working.pause()
        await anyio.sleep(_CLOSED)
        began = time.monotonic()
        await team.stop()
        await team.over()
        if self._signals:
            return
        for each in running:
            ends.stopped(each, began)
        for each in self._subjects:
            ends.left(each, self._memory.names)
            ends.printed(each)

    def conclude(self) -> None:
        """Once devsup itself has let go of all."""
        if self._before and not self._signals:
            ends.freed(self._subjects, self._before)


async def _make(subject: Subject, name: str, way: _Way) -> None:
    """Make a check; what is wrong with that itself is told, too, and the others go on."""
    try:
        await way()
    except Exception as exc:  # noqa: BLE001 - as said
        subject.failed(name, f"It could not be made: {exc!r}")


def _asking(subject: Subject, session: requests.Session) -> Asking:
    working, supervisor = subject.member.working, subject.member.supervisor
    url = working.url(supervisor.current) if working is not None and supervisor is not None else ""
    return Asking(subject, session, url.rstrip("/"))
