"""Which changes the service itself makes while it starts, and so how long a reload for them waits."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from devsup.decide import flapping

if TYPE_CHECKING:
    from collections.abc import Iterable


class OwnWrites:
    """Follows the generations of one service. Times are monotonic; agents note what a worker writes in the file `notes`."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._writes: dict[str, flapping.Write] = {}
        self._generation, self._spawned, self._started = 0, 0.0, math.inf

    def spawned(self, generation: int, at: float) -> None:
        """A worker starts."""
        self._generation, self._spawned, self._started = generation, at, math.inf
        self._notes.unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        """What asks the agents of a worker that starts to note what it writes."""
        suspected = any(flapping.is_suspect(write, self._generation) for write in self._writes.values())
        return {"DEVSUP_WRITES": str(self._notes)} if suspected else {}

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
        if write is None or write.generation != self._generation:
            return 0.0
        wrote = self._wrote(path) if flapping.is_suspect(write, self._generation) else None
        pause = flapping.pause(write, wrote)
        if pause == 0.0 or wrote:
            return pause
        # Not before its agent has had time to note something.
        waits = self._started + (pause or 0.0) - time.monotonic()
        return max(0.0, waits) if pause is not None or waits == math.inf else None

    def _wrote(self, path: str) -> bool | None:
        """Whether the worker has written this file; None where nobody can know."""
        try:
            notes = self._notes.read_bytes().splitlines()
        except OSError:  # no agent is in it
            return None
        if any(Path(path) == _entry(os.fsdecode(note)) for note in notes):
            return True
        return None if b"*" in notes else False


def _entry(path: str) -> Path:
    """The entry of a folder that a path names: a link as itself, in a folder that is none."""
    return Path(os.path.realpath(Path(path).parent), Path(path).name)
