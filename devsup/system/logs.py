"""Reading the services' log files again, several together in the order of time, and as they grow."""

from __future__ import annotations

import heapq
import os
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from devsup.system.logfile import rotated, time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

_STAMP = 24  # bytes of a line before what was printed
_MOST = 100  # rotated files


class Line(NamedTuple):
    """What a service printed, and when, as the file says it."""

    stamp: str
    service: str
    text: str


def read(files: Mapping[str, Path], since: float = 0.0, last: int | None = None) -> list[Line]:
    """The lines of these services from `since` (seconds since the epoch) on, in the order of time; the `last` so many of them."""
    found = heapq.merge(*(_lines(service, path, since) for service, path in files.items()), key=lambda line: line.stamp)
    return list(found) if last is None else list(deque(found, last))


def _lines(service: str, path: Path, since: float) -> Iterator[Line]:
    numbers = [number for number in range(_MOST, -1, -1) if rotated(path, number).exists()]
    for number in numbers:
        file = rotated(path, number)
        with suppress(OSError):
            if file.stat().st_mtime < since:
                continue
            with file.open("rb") as opened:
                for raw in opened:
                    if not since or (time_of(raw) or 0.0) >= since:
                        yield _line(service, raw)


def _line(service: str, raw: bytes) -> Line:
    text = raw.decode("utf-8", "replace").rstrip("\n")
    return Line(text[: _STAMP - 1], service, text[_STAMP:])


class Follower:
    """Tells what is appended to these files, over rotations, from where they end now."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._open: dict[str, BinaryIO] = {}
        self._parts: dict[str, bytes] = {}
        for service in files:
            self._reopen(service)
            if service in self._open:
                self._open[service].seek(0, os.SEEK_END)

    def follow(self, wait: Callable[[], Iterator[object]]) -> Iterator[Line]:
        """The lines as they come; `wait()` yields whenever there may be more."""
        yield from self._news()
        for _ in wait():
            yield from self._news()

    def _news(self) -> Iterator[Line]:
        found: list[Line] = []
        for service, path in self._files.items():
            found += self._rest(service)
            with suppress(FileNotFoundError):
                if service not in self._open or path.stat().st_ino != os.fstat(self._open[service].fileno()).st_ino:
                    self._reopen(service)
                    found += self._rest(service)
        yield from sorted(found, key=lambda line: line.stamp)

    def _rest(self, service: str) -> Iterator[Line]:
        data = self._parts.pop(service, b"") + (self._open[service].read() if service in self._open else b"")
        *lines, self._parts[service] = data.split(b"\n")
        return (_line(service, line) for line in lines)

    def _reopen(self, service: str) -> None:
        if service in self._open:
            self._open.pop(service).close()
        with suppress(FileNotFoundError):
            self._open[service] = self._files[service].open("rb")

    def close(self) -> None:
        """Let go of the files."""
        for file in self._open.values():
            file.close()
