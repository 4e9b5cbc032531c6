"""The story of each reload: when it began and why, what it waits for, how long each step took."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.decide import vocabulary as words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from anyio.abc import TaskGroup

    from devsup.bus import Bus
    from devsup.changes import Changes

_REPORTS = (1.0, 4.0, 5.0, 10.0)  # seconds between the reports of a wait; the last repeats


@dataclass
class _Reload:
    """The files that caused it, when each of its steps was done (monotonic), in their order, and when the policy began it."""

    files: list[str]
    seen: float
    marks: dict[str, float]

    def timeline(self) -> dict[str, float]:
        """Seconds of each step since the first."""
        first = min(self.marks.values())
        return {name: at - first for name, at in self.marks.items() if name != "saved"}


class Reloads:
    """Follows the policy's phases.

    `active` asks the worker, `stop_limit` tells how many seconds the service's end may take.
    """

    def __init__(
        self,
        bus: Bus,
        tasks: TaskGroup,
        changes: Changes,
        active: Callable[[], Awaitable[list[events.Active]]],
        stop_limit: Callable[[], float | None],
    ) -> None:
        self._bus, self._tasks, self._changes, self._active, self._stop_limit = bus, tasks, changes, active, stop_limit
        self._phase: words.Phase = words.Over(0)
        self._current: _Reload | None = None
        self._began: dict[int, float] = {}  # generation -> when its files were saved

    def entered(self, phase: words.Phase) -> None:
        """The service is in this phase now."""
        before, self._phase = self._phase, phase
        now = time.monotonic()
        match phase:
            case words.Waiting(generation) if not _waits(before):
                self._begin(generation, now)
                self._tasks.start_soon(self._report)
            case words.Serving(generation, stale=True) if not _waits(before):  # an older worker has yet to finish
                self._begin(generation, now)
                self._tasks.start_soon(self._report)
            case words.Stopping(generation, then="start"):
                (self._current or self._begin(generation, now)).marks["drained"] = now
            case words.Starting(generation, before=before_serves) if generation != before.generation and self._is_reload(before):
                reload = self._current or self._begin(generation - 1, now)
                if not before_serves:
                    reload.marks.setdefault("drained", now)
                    reload.marks["stopped"] = now
            case words.Stopping(then="end"):
                self._tasks.start_soon(self._report_end, phase)
            case words.Broken():
                self._current = None  # the save that mends it begins another one
            case words.Serving(generation, stale=False) if _waits(before) or generation < before.generation:
                self._current = None
            case _:
                pass

    def _is_reload(self, before: words.Phase) -> bool:
        """Not the very first start, nor another try after a crash."""
        return self._current is not None or not isinstance(before, words.Resting | words.Over)

    def _begin(self, generation: int, now: float) -> _Reload:
        self._current = _Reload(sorted(self._changes.dirty), now, {**self._changes.marks} or {"seen": now})
        self._bus.publish(events.ReloadStarted(generation=generation, files=self._current.files))
        return self._current

    def mark(self, step: str, at: float) -> None:
        """A step was done, if it is a reload's."""
        if self._current is not None:
            self._current.marks[step] = at

    def ready(self, generation: int, spawned: float, ready: float) -> None:
        """A worker serves: if that ends a reload, tell its times."""
        done, self._current = self._current, None
        if done is None:
            return
        done.marks["started"] = ready
        drained, stopped = done.marks.get("drained", done.seen), done.marks.get("stopped", done.seen)
        times = {
            "waited": drained - done.seen,
            "stopped": stopped - drained,
            "started": ready - spawned,
            "total": ready - done.seen,
        }
        self._began = {generation: min(done.marks.values())}
        self._bus.publish(events.Reloaded(generation=generation, files=done.files, timeline=done.timeline(), **times))

    def answered(self, generation: int, at: float) -> None:
        """A worker has given its first answer."""
        if generation in self._began:
            self._bus.publish(events.FirstAnswer(generation=generation, seconds=at - self._began[generation]))

    async def _report_end(self, phase: words.Stopping) -> None:
        """Say what devsup's own end waits for."""
        since = time.monotonic()
        for pause in _pauses():
            await anyio.sleep(pause)
            if self._phase != phase:
                return
            active, limit = await self._active(), self._stop_limit()
            left = since + limit - time.monotonic() if limit is not None else None
            if left is None:
                since = time.monotonic()  # the limit counts anew once nobody looks at it
            if left is None or left > 0:
                self._bus.publish(events.StopWaiting(generation=phase.generation, active=active, left=left))

    async def _report(self) -> None:
        """Say at once what a reload waits for, and again as time passes."""
        since, pauses, reload = time.monotonic(), _pauses(), self._current
        while self._current is reload and _waits(self._phase):
            active = await self._active()
            if active and _waits(self._phase):
                waited, held = time.monotonic() - since, getattr(self._phase, "closed", False)
                generation = self._phase.generation
                self._bus.publish(events.ReloadWaiting(generation=generation, active=active, seconds=waited, held=held))
            await anyio.sleep(next(pauses))


def _waits(phase: words.Phase) -> bool:
    return isinstance(phase, words.Waiting) or (isinstance(phase, words.Serving) and phase.stale)


def _pauses() -> Iterator[float]:
    return itertools.chain(_REPORTS, itertools.repeat(_REPORTS[-1]))
