"""Reading the services' log files again, several together in the order of time, and as they grow."""

from __future__ import annotations

import heapq
import os
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from devsup.system.logfile import rotated, stamp_of

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


class Reader:
    """The log files of some services: what is in them, then what is appended, over rotations."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._open: dict[str, BinaryIO] = {}
        self._parts: dict[str, bytes] = {}
        for service in files:
            self._reopen(service)

    def history(self, since: float = 0.0, last: int | None = None) -> list[Line]:
        """The lines from `since` (seconds since the epoch) on, in the order of time; the `last` so many of them."""
        found = heapq.merge(*(self._past(service, since) for service in self._files), key=lambda line: line.stamp)
        return list(found) if last is None else list(deque(found, last))

    def follow(self, wait: Callable[[], Iterator[object]]) -> Iterator[Line]:
        """The lines after the history, as they come; `wait()` yields whenever there may be more."""
        yield from self._news()
        for _ in wait():
            yield from self._news()

    def close(self) -> None:
        """Let go of the files."""
        for file in self._open.values():
            file.close()

    def _past(self, service: str, since: float) -> Iterator[Line]:
        stamp = stamp_of(since) if since else ""
        for number in range(_MOST, 0, -1):
            yield from (line for line in self._rotated(service, number, since) if line.stamp >= stamp)
        yield from (line for line in self._rest(service) if line.stamp >= stamp)

    def _rotated(self, service: str, number: int, since: float = 0.0) -> Iterator[Line]:
        file = rotated(self._files[service], number)
        with suppress(OSError):
            if file.stat().st_mtime >= since:
                with file.open("rb") as opened:
                    yield from (_line(service, raw) for raw in opened)

    def _news(self) -> list[Line]:
        found: list[Line] = []
        for service, path in self._files.items():
            before = os.fstat(self._open[service].fileno()).st_ino if service in self._open else None
            with suppress(FileNotFoundError):
                if path.stat().st_ino != before:
                    found += self._rest(service)  # of the one that was
                    for number in range(self._place(path, before) - 1, 0, -1):
                        found += self._rotated(service, number)
                    self._reopen(service)
            found += self._rest(service)
        return sorted(found, key=lambda line: line.stamp)

    def _place(self, path: Path, inode: int | None) -> int:
        """Which rotation a file has come to; 0 where it is none any more."""
        for number in range(1, _MOST):
            with suppress(OSError):
                if rotated(path, number).stat().st_ino == inode:
                    return number
        return 0

    def _rest(self, service: str) -> Iterator[Line]:
        data = self._parts.pop(service, b"") + (self._open[service].read() if service in self._open else b"")
        *lines, self._parts[service] = data.split(b"\n")
        return (_line(service, line) for line in lines)

    def _reopen(self, service: str) -> None:
        if service in self._open:
            self._open.pop(service).close()
        with suppress(FileNotFoundError):
            self._open[service] = self._files[service].open("rb")


def _line(service: str, raw: bytes) -> Line:
    text = raw.decode("utf-8", "replace").rstrip("\n")
    return Line(text[: _STAMP - 1], service, text[_STAMP:])
