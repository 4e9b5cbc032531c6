"""What hangs, and where: a start that takes long, an event loop that does not turn, a worker that does not end.

Theory of operation. A process is looked at from outside: it is sent a signal at which faulthandler writes the stacks of all its
threads into the worker's black box, whatever the process does meanwhile, and whoever holds the GIL. Loops tell by beats that they
turn (`devsup_agent.active.heart`): when one is missing for `loop_block_warn`, and its thread was not merely kept from a core,
the stack of that thread says what it does instead.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.decide import stacks
from devsup.decide.tracebacks import Frame, complaints
from devsup.explain import project, sourced
from devsup.system.schedule import waited_for_core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devsup.current import Current
    from devsup.events import Place, Stack
    from devsup.supervisor import Supervisor
    from devsup.system.link import Link, Message

_PERIOD = 0.25  # seconds between two beats
_LOOKS = 1.0  # seconds between looks at a start
_OFTEN = 60.0  # seconds for which that is so; later it is looked at only when it is told of
SLOW = 5.0  # seconds of a start that is told of; again after three times as many
_PARTS = 3  # of a slow start that are told
_TURN = 0.02  # seconds
_ASKED = 0.1  # seconds for an agent to say what runs; it cannot while the GIL is held
_FRAMES = 20
_PRINTED = 0.05  # seconds until what was printed before is read
_LAST_LOOK = 0.5  # seconds


@dataclass
class _Heart:
    """One link's loop, as far as it has told: at the last beat, which was `lag` late."""

    thread: int
    native: int  # the same, as the system numbers it
    requests: list[str] = field(default_factory=list)
    at: float = 0.0  # monotonic
    waited: float = 0.0  # seconds for a core, until then
    lag: float = 0.0
    beaten: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def beat(self, pid: int, message: Message) -> None:
        """It turns."""
        self.requests, self.lag, self.at = message["requests"], message["lag"], time.monotonic()
        self.waited = waited_for_core(pid, self.native)
        self.beaten.set()

    def stood(self, pid: int) -> float:
        """For how many seconds it has not turned although its thread could run, or slept."""
        return time.monotonic() - self.at - (waited_for_core(pid, self.native) - self.waited)


class Hangs:
    """Watches the workers of one service."""

    def __init__(self, supervisor: Supervisor, warn: float) -> None:
        self._supervisor, self._warn = supervisor, warn
        self._project = project(supervisor.plan)
        self._hearts: dict[Link, _Heart] = {}
        self._places: Counter[str] = Counter()

    def running(self) -> int:
        """How many requests run, as the loops have told last."""
        return sum(len(heart.requests) for heart in self._hearts.values())

    # -- a start ------------------------------------------------------------------------------------------------------

    async def watch_start(self, current: Current) -> None:
        """Until it serves, or is cancelled."""
        parts: dict[str, float] = defaultdict(float)
        told, looked, looks = SLOW, 0.0, current.spawned + SLOW
        while not await _within(current.serves, looks - time.monotonic()):
            seconds = time.monotonic() - current.spawned
            doing = await self.doing(current)
            parts[doing] += seconds - looked
            looked = seconds
            # Before there is a link, what it waits for is interrupted by a look; what never serves is left alone.
            often = seconds < _OFTEN and current.handle is not None and any(link.thread for link in current.handle.links)
            looks = current.spawned + (seconds + _LOOKS if often else told)
            self._supervisor.front.doing = doing
            if seconds >= told:
                told *= 3
                said = _complaints(current)
                self._publish(events.StillStarting(generation=current.generation, seconds=seconds, doing=doing, complaints=said))
        if told > SLOW:
            took = time.monotonic() - current.spawned
            shares = [(doing, part) for doing, part in sorted(parts.items(), key=lambda each: -each[1])[:_PARTS] if doing]
            self._publish(events.SlowStart(generation=current.generation, seconds=took, parts=shares))
        await anyio.sleep(_PRINTED)
        said = _complaints(current)
        if said:
            self._publish(events.StartComplained(generation=current.generation, complaints=said))

    async def look(self, current: Current) -> None:
        """Who asks while it starts is told where it is."""
        self._supervisor.front.doing = await self.doing(current)

    async def doing(self, current: Current) -> str:
        """What the main thread of the innermost process does; empty where it cannot be told."""
        dumps = await self._dumps(current)
        threads = stacks.parse(next(reversed(dumps.values()))) if dumps else []
        main = threads[-1] if threads else None  # faulthandler begins with the youngest
        return stacks.doing(main.frames, self._project.is_own, self._project.short) if main is not None else ""

    # -- loops --------------------------------------------------------------------------------------------------------

    def beat(self, link: Link, message: Message) -> None:
        """A loop turns, or rests from now on."""
        heart = self._hearts.get(link)
        if message["rests"]:
            self.gone(link)
        elif heart is None or heart.thread != message["thread"]:
            self.gone(link)
            heart = _Heart(message["thread"], message["native"])
            heart.beat(link.pid, message)
            self._hearts[link] = heart
            if self._warn:
                self._supervisor.tasks.start_soon(self._listen, link, heart)
        else:
            heart.beat(link.pid, message)

    def gone(self, link: Link) -> None:
        """Nobody will hear of it any more."""
        heart = self._hearts.pop(link, None)
        if heart is not None:
            heart.scope.cancel()

    async def _listen(self, link: Link, heart: _Heart) -> None:
        with heart.scope:
            while True:
                heart.beaten = anyio.Event()
                while (left := _PERIOD + self._warn - heart.stood(link.pid)) > 0:
                    if await _within(heart.beaten, max(left, _TURN)):
                        break
                if await _within(heart.beaten, _TURN):  # it may have come while this process was kept from running
                    continue
                told = await self._name(link, heart) if not (link.prompts or link.debugged) else None
                await heart.beaten.wait()
                if told is not None:
                    seconds = heart.lag + _PERIOD
                    self._publish(events.LoopFree(generation=link.generation, seconds=seconds, doing=told))

    async def _name(self, link: Link, heart: _Heart) -> str | None:
        """Say what blocks it; None where nothing does, or where that was said of this place before."""
        worker = self._supervisor.workers.get(link.generation)
        if worker is None:
            return None
        dump = (await worker.box.stacks({link.pid: link.thread})).get(link.pid, "")
        threads = stacks.parse(dump)
        frames = next((each.frames for each in threads if each.ident == heart.thread), ())
        doing = stacks.blocking(frames, threads, self._project.is_own, self._project.short)
        if not doing:
            return None
        answer = await link.ask("status", limit=_ASKED)
        active = [item["name"] for item in answer["items"] if not item.get("origin")] if answer is not None else heart.requests
        self._places[doing] += 1
        blocked = events.LoopBlocked(
            generation=link.generation,
            pid=link.pid,
            seconds=time.monotonic() - heart.at,
            doing=doing,
            requests=active[:_PARTS],
            frames=self._shown(frames),
            count=self._places[doing],
        )
        self._publish(blocked)
        return doing

    # -- stacks -------------------------------------------------------------------------------------------------------

    async def stacks(self, current: Current) -> list[Stack]:
        """Every thread and task of a worker, as far as its processes can be made to tell."""
        found = list[events.Stack]()
        dumps = await self._dumps(current)
        links = {link.pid: link for link in current.handle.links} if current.handle is not None else {}
        for pid, dump in dumps.items():
            answer = await links[pid].ask("stacks", limit=_ASKED) if pid in links else None
            about = answer or {"threads": {}, "tasks": []}
            for thread in stacks.parse(dump):
                name = about["threads"].get(str(thread.ident)) or thread.name or f"{thread.ident:#x}"
                if name != "devsup-agent":
                    found.append(self._stack(f"thread {name}", pid, thread.frames))
            found += [
                self._stack(f"task {each['name']}", pid, [Frame(*frame) for frame in each["frames"]]) for each in about["tasks"]
            ]
        return found

    async def tell_of_end(self, current: Current) -> None:
        """It is about to be killed: where its threads are."""
        with anyio.move_on_after(_LAST_LOOK):
            found = await self.stacks(current)
            if found:
                self._publish(events.NotStopping(generation=current.generation, stacks=found))

    async def _dumps(self, current: Current) -> dict[int, str]:
        if current.handle is None:
            return {}
        members = await anyio.to_thread.run_sync(current.handle.tree.members)
        threads = {link.pid: link.thread for link in current.handle.links}
        return await current.box.stacks({pid: threads.get(pid, 0) for pid in sorted(members)})

    def _stack(self, name: str, pid: int, frames: Sequence[Frame]) -> Stack:
        doing = stacks.doing(frames, self._project.is_own, self._project.short)
        return events.Stack(name=name, pid=pid, doing=doing, frames=self._shown(frames))

    def _shown(self, frames: Sequence[Frame]) -> list[Place]:
        shown = stacks.visible(frames)[:_FRAMES]
        is_own = self._project.is_own
        return sourced([events.Place(file=f.file, line=f.line, function=f.function, own=is_own(f.file)) for f in shown])

    def _publish(self, event: events.Event) -> None:
        self._supervisor.bus.publish(event)


def _complaints(current: Current) -> list[str]:
    return complaints(current.handle.streams.tail().splitlines()) if current.handle is not None else []


async def _within(event: anyio.Event, seconds: float) -> bool:
    """Whether it comes within so many seconds."""
    with anyio.move_on_after(max(0.0, seconds)):
        await event.wait()
        return True
    return False
