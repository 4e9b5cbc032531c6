"""The services of one devsup, over all their lives: who starts when, what is asked of them from outside, and the end.

Theory of operation. A member lives in a loop: it waits until what it depends on is so far, runs its service to its end, and waits
to be wanted again. How each one stands is a fold over its own events; each event wakes whoever waits for one. The end of all goes
the other way round: a member is stopped when nobody who depends on it runs any more.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.bus import Bus
from devsup.decide import order
from devsup.decide import vocabulary as words
from devsup.errors import DevsupError
from devsup.status import Status, fold

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from anyio.abc import TaskGroup

    from devsup.launch import Berth
    from devsup.supervisor import Supervisor
    from devsup.working import Working

_LAST_ANSWERS = 2.0  # seconds
_SAID_AGAIN = (1.0, 5.0, 15.0, 30.0)  # seconds for which somebody has waited


class Member:
    """One service. `serve(self)` runs it once, in a block of `served_by`, to its exit code."""

    def __init__(self, berth: Berth, team: Team, serve: Callable[[Member], Awaitable[int]]) -> None:
        self.berth, self.name = berth, berth.plan.name
        self.bus = Bus(self.name)
        self.supervisor: Supervisor | None = None  # while it runs
        self.working: Working | None = None
        self.generations = 0  # of all its lives
        self.status = Status(service=self.name, since=time.time(), asked_ready="ready" in berth.options.service.probes)
        self.team, self._serve = team, serve
        self._wanted, self._starts = True, 0  # and how often somebody has asked for it
        self._waiting = anyio.CancelScope()
        self.bus.subscribe(self._fold)

    @property
    def depends_on(self) -> Mapping[str, order.Condition]:
        """What it waits for, by name."""
        return self.berth.options.service.depends_on

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs, or is going to without being asked for."""
        return self.supervisor is None and not self._wanted

    @property
    def is_down(self) -> bool:
        """Whether it does not serve, and will not unless somebody does something."""
        if self.supervisor is not None:
            return isinstance(self.supervisor.phase, words.Broken)
        if self.is_over:
            return self.status.state != "completed"
        blocked = order.unmet(self.depends_on, self.team.standings())
        other = self.team.members[blocked[0]] if blocked is not None else None
        return other is not None and (other.is_over or other.is_down)

    def _fold(self, at: float, _service: str, event: events.Event) -> None:
        before, self.status = self.status, fold(self.status, at, event)
        if self.status != before:
            self.team.changed()

    @contextmanager
    def served_by(self, supervisor: Supervisor, working: Working) -> Iterator[None]:
        """It runs, until the block ends."""
        self.supervisor, self.working, supervisor.on_phase = supervisor, working, self.team.changed
        try:
            yield
        finally:
            self.supervisor = self.working = None
            self.generations = self.status.generation

    async def live(self) -> None:
        """Run it whenever it is wanted."""
        while True:
            await self.team.until(lambda: self._wanted)
            begun = self._starts
            with anyio.CancelScope() as self._waiting:
                await self._until_met()
            if self._wanted and self._starts == begun:
                await self._run()
            else:  # it was stopped while it waited
                self.bus.publish(events.Stopped(code=0, left=[]))
            self._wanted = self._wanted and self._starts != begun
            self.team.changed()

    async def _run(self) -> None:
        try:
            await self._serve(self)
        except DevsupError as exc:
            self.bus.publish(events.Refused(problem=exc.problem, remedy=exc.remedy, code=exc.exit_code))
            self.bus.publish(events.Stopped(code=exc.exit_code, left=[]))

    async def _until_met(self) -> None:
        """Wait for what it depends on; who looks is told what that is, at once and again."""
        began, said, limit = time.monotonic(), 0.0, self.berth.options.service.start_timeout
        while (blocked := order.unmet(self.depends_on, self.team.standings())) is not None:
            on, condition, reason = blocked
            passed = time.monotonic() - began
            told = events.DependencyAwaited(on=on, condition=condition, reason=reason, seconds=passed, overdue=passed >= limit)
            self.bus.publish(told)
            said = next((each for each in (*_SAID_AGAIN, limit) if each > passed), passed + limit)
            with anyio.move_on_after(said - passed):
                await self.team.until(partial(self._differs, blocked))

    def _differs(self, blocked: order.Blocked) -> bool:
        return order.unmet(self.depends_on, self.team.standings()) != blocked

    def start(self) -> None:
        """It is wanted; where it is just being ended, it begins again."""
        if not self._wanted:
            self._wanted = True
            self._starts += 1
        self.team.held.discard(self.name)
        self.team.changed()

    def reload(self, *, now: bool = False) -> bool:
        """New code, after the active requests or `now`; false where nothing runs, or what runs is being ended."""
        if self.supervisor is None or not self._wanted:
            return False
        self.supervisor.put(words.ReloadAsked(now))
        return True

    def stop(self) -> None:
        """It is not wanted any more; asked again, it is killed."""
        self._wanted = False
        self._waiting.cancel()
        if self.supervisor is not None:
            self.supervisor.put(words.StopAsked())
        self.team.changed()


class Team:
    """All members. A devsup of one service is a team, too."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.members: dict[str, Member] = {}
        self.tasks = tasks
        self.change = anyio.Event()  # is set when something is another way than before
        self.held: set[str] = set()  # what somebody has stopped by hand, and will start again: the end of the others is not ours
        self.is_ending = False
        self._answering = 0

    def add(self, member: Member) -> None:
        """One more, before `run`."""
        self.members[member.name] = member

    @contextmanager
    def listening(self, subscriber: Callable[[float, str, events.Event], None]) -> Iterator[None]:
        """`subscriber(at, service, event)` is called for each event of all, until the block ends."""
        with ExitStack() as stack:
            for member in self.members.values():
                stack.enter_context(member.bus.heard_by(subscriber))
            yield

    def standings(self) -> dict[str, Status]:
        """How each one stands."""
        return {name: member.status for name, member in self.members.items()}

    def changed(self) -> None:
        """Something is another way than before: who waits looks again."""
        self.change.set()
        self.change = anyio.Event()

    async def until(self, fact: Callable[[], bool]) -> None:
        """Wait until this is true."""
        while not fact():
            await self.change.wait()

    def has_come(self, members: Sequence[Member], condition: order.Condition) -> bool:
        """Whether all of these are so far, or one of them cannot be any more."""
        so_far = (order.is_met(condition, each.status) or each.status.state == "completed" for each in members)
        return all(so_far) or any(each.is_down for each in members)

    def begin(self) -> None:
        """Run all: those that wait for nobody are there when the next task runs."""
        for member in self.members.values():
            self.tasks.start_soon(member.live)

    async def over(self) -> int:
        """Wait for the end of all; returns devsup's exit code: 0 where somebody has ended it, else the first that is not 0."""
        await self.until(lambda: not self.held and all(member.is_over for member in self.members.values()))
        with anyio.move_on_after(_LAST_ANSWERS):
            await self.until(lambda: not self._answering)
        if self.is_ending and len(self.members) > 1:
            return 0
        return next((code for member in self.members.values() if (code := member.status.code)), 0)

    async def stop(self) -> None:
        """End all, who depends on others first; asked again, at once."""
        again, self.is_ending = self.is_ending, True
        self.held.clear()
        self.changed()
        needs = {name: member.depends_on for name, member in self.members.items()}

        async def end(member: Member) -> None:
            if not again:
                above = [self.members[name] for name in order.dependents(member.name, needs)]
                await self.until(lambda: all(each.is_over for each in above))
            member.stop()

        async with anyio.create_task_group() as ending:
            for member in self.members.values():
                ending.start_soon(end, member)

    def hold(self, name: str) -> None:
        """Somebody stops this one by hand."""
        if len(self.members) > 1:
            self.held.add(name)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Somebody asks, and devsup does not end before he is answered."""
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1
            self.changed()
