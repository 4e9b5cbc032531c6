"""How long each part of a round takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Phases:
    """`progress` is told each one as it begins, and the seconds that it may take (0: nobody knows)."""

    def __init__(self, progress: Callable[[str, float], None]) -> None:
        self._progress = progress
        self._name, self._since = "", time.monotonic()
        self.taken: dict[str, float] = {}

    def begin(self, name: str, limit: float = 0.0) -> None:
        """The one before is over."""
        self.end()
        self._name = name
        self._progress(name, limit)

    def end(self) -> None:
        """So is the last one."""
        now = time.monotonic()
        if self._name:
            self.taken[self._name] = self.taken.get(self._name, 0.0) + now - self._since
        self._name, self._since = "", now
