"""What a service prints while it is checked: its last lines with their times, and those that were looked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from devsup.decide.patterns import Key, Patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_BLOCKS, _BYTES = 2000, 1 << 22  # that are kept, whichever is less
_FOUND = 50  # lines of each expression that were looked for; the first ones
_LINES, _LONGEST = 20, 300  # lines that are told, and characters of one


class Recorder:
    """An ear of a service's. `find` says which expressions to look for, each by the name of its check."""

    def __init__(self, find: Iterable[Key]) -> None:
        self._patterns = Patterns(find)
        self._lock = threading.Lock()
        self._blocks: deque[tuple[float, bytes]] = deque(maxlen=_BLOCKS)
        self._size = 0
        self._found: dict[Key, list[tuple[float, str]]] = {}
        self._wake: Callable[[], object] | None = None

    def feed(self, data: bytes) -> None:
        """Whole lines. In the thread that copies them."""
        now, found = time.monotonic(), self._patterns.find(data)
        with self._lock:
            for key, line in found.items():
                if len(lines := self._found.setdefault(key, [])) < _FOUND:
                    lines.append((now, line))
            self._blocks.append((now, data))
            self._size += len(data)
            while self._size > _BYTES:
                self._size -= len(self._blocks.popleft()[1])
            wake = self._wake if found else None
        if wake is not None:
            wake()

    async def until_found(self, name: str, limit: float) -> bool:
        """Wait until something that this check looks for was printed, for so many seconds; whether it was."""
        import asyncio  # noqa: PLC0415 - slower to import than the first worker is to spawn

        import anyio  # noqa: PLC0415 - as above

        loop = asyncio.get_running_loop()
        with anyio.move_on_after(limit):
            while not self.found(name):
                news = anyio.Event()
                self._wake = partial(loop.call_soon_threadsafe, news.set)
                if not self.found(name):
                    await news.wait()
        self._wake = None
        return bool(self.found(name))

    def found(self, name: str) -> list[tuple[float, str]]:
        """Time (monotonic) and line, for the expressions of this check, the earliest first."""
        with self._lock:
            return sorted(each for (whose, _), lines in self._found.items() if whose == name for each in lines)

    def lines(self, since: float, until: float) -> list[str]:
        """The last lines of those that were printed between these times (monotonic)."""
        with self._lock:
            data = b"".join(block for at, block in self._blocks if since <= at <= until)
        last = data.decode("utf-8", "replace").splitlines()[-_LINES:]
        return [line[:_LONGEST] for line in last]
