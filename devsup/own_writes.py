"""Which changes the service itself seems to make while it starts, and so how long a reload for them waits."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from devsup.decide import flapping

if TYPE_CHECKING:
    from collections.abc import Iterable


class OwnWrites:
    """Follows the generations of one service. Times are monotonic."""

    def __init__(self) -> None:
        self._writes: dict[str, flapping.Write] = {}
        self._generation, self._spawned, self._started = 0, 0.0, math.inf

    def spawned(self, generation: int, at: float) -> None:
        """A worker starts."""
        self._generation, self._spawned, self._started = generation, at, math.inf

    def started(self) -> None:
        """It is ready, or has failed."""
        self._started = min(self._started, time.monotonic())

    def saw(self, paths: Iterable[str]) -> None:
        """These files have changed just now."""
        now = time.monotonic()
        for path in paths:
            if now > self._started + flapping.START:  # somebody else's doing
                self._writes.pop(path, None)
            else:
                self._writes[path] = flapping.add_write(self._writes.get(path), self._generation, now - self._spawned)

    def pause(self, paths: Iterable[str]) -> float | None:
        """Seconds until a reload for these files may begin: 0 for at once, None for never, infinity before the start is over."""
        found = [self._pause(path) for path in paths]
        return min((each for each in found if each is not None), default=None)

    def _pause(self, path: str) -> float | None:
        write = self._writes.get(path)
        pause = flapping.pause(write) if write is not None and write.generation == self._generation else 0.0
        return max(0.0, self._started + pause - time.monotonic()) if pause else pause
