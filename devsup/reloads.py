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
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from anyio.abc import TaskGroup

    from devsup.events import Bus

_REPORTS = (1.0, 4.0, 5.0, 10.0)  # seconds between the reports of a wait; the last repeats


@dataclass
class _Reload:
    """The files that caused it, and its times in monotonic seconds."""

    files: list[str]
    seen: float
    drained: float = 0.0
    stopped: float = 0.0


class Reloads:
    """Follows the policy's phases.

    `active` asks the worker, `dirty` tells which files have changed, `stop_limit` how many seconds the service's end may take.
    """

    def __init__(
        self,
        bus: Bus,
        tasks: TaskGroup,
        active: Callable[[], Awaitable[list[events.Active]]],
        dirty: Callable[[], Iterable[str]],
        stop_limit: Callable[[], float | None],
    ) -> None:
        self._bus, self._tasks, self._active, self._dirty = bus, tasks, active, dirty
        self._stop_limit = stop_limit
        self._phase: words.Phase = words.Over(0)
        self._current: _Reload | None = None

    def entered(self, phase: words.Phase) -> None:
        """The service is in this phase now."""
        before, self._phase = self._phase, phase
        now = time.monotonic()
        match phase:
            case words.Waiting(generation) if not isinstance(before, words.Waiting):
                self._begin(generation, now)
                self._tasks.start_soon(self._report, phase)
            case words.Stopping(generation, then="start"):
                (self._current or self._begin(generation, now)).drained = now
            case words.Starting(generation) if generation != before.generation and self._is_reload(before):
                reload = self._current or self._begin(generation - 1, now)
                reload.drained = reload.drained or now
                reload.stopped = now
            case words.Stopping(then="end"):
                self._tasks.start_soon(self._report_end, phase)
            case words.Broken():
                self._current = None  # the save that mends it begins another one
            case words.Serving() if isinstance(before, words.Waiting):
                self._current = None
            case _:
                pass

    def _is_reload(self, before: words.Phase) -> bool:
        """Not the very first start, nor another try after a crash."""
        return self._current is not None or not isinstance(before, words.Resting | words.Over)

    def _begin(self, generation: int, now: float) -> _Reload:
        self._current = _Reload(sorted(self._dirty()), now)
        self._bus.publish(events.ReloadStarted(generation=generation, files=self._current.files))
        return self._current

    def ready(self, generation: int, spawned: float, ready: float) -> None:
        """A worker serves: if that ends a reload, tell its times."""
        done, self._current = self._current, None
        if done is not None:
            times = {
                "waited": done.drained - done.seen,
                "stopped": done.stopped - done.drained,
                "started": ready - spawned,
                "total": ready - done.seen,
            }
            self._bus.publish(events.Reloaded(generation=generation, files=done.files, **times))

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

    async def _report(self, wait: words.Waiting) -> None:
        """Say at once what a reload waits for, and again as time passes."""
        since, pauses = time.monotonic(), _pauses()
        while isinstance(self._phase, words.Waiting) and self._phase.first == wait.first:
            active = await self._active()
            if active and isinstance(self._phase, words.Waiting):
                waited, held = time.monotonic() - since, self._phase.closed
                self._bus.publish(events.ReloadWaiting(generation=wait.generation, active=active, seconds=waited, held=held))
            await anyio.sleep(next(pauses))


def _pauses() -> Iterator[float]:
    return itertools.chain(_REPORTS, itertools.repeat(_REPORTS[-1]))
