"""What a service prints, whole, in a file of its own: each line after its time; rotated by size and age."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_COLOURS = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_LONGEST = 1 << 20  # bytes of a line; a longer one is written in pieces


class LogFile:
    """`path`, and `path`.1, .2 … for what is older. Sizes in bytes (0: no limit), `max_age` in seconds; used by one thread."""

    def __init__(self, path: Path, max_size: int = 50_000_000, max_age: float = 7 * 86400, keep: int = 3) -> None:
        self.path, self._max_size, self._max_age, self._keep = path, max_size, max_age, keep
        self._fd, self._size, self._began = -1, 0, 0.0
        self._parts: dict[int, bytes] = {}  # of lines that are not whole yet, by stream

    def write(self, stream: int, data: bytes) -> None:
        """Append the whole lines among this, and remember the rest, by a number of its stream; a disk that is full loses them."""
        part = self._parts.get(stream, b"")
        end = data.rfind(b"\n") + 1
        if not end and len(part) + len(data) < _LONGEST:
            self._parts[stream] = part + data
            return
        lines, self._parts[stream] = (part + data[:end], data[end:]) if end else (part + data + b"\n", b"")
        if b"\r" in lines:
            lines = lines.replace(b"\r\n", b"\n")
        if b"\x1b" in lines:
            lines = _COLOURS.sub(b"", lines)
        self._append(lines)

    def end(self, stream: int) -> None:
        """A stream is over: what is left of its last line is written."""
        rest = self._parts.pop(stream, b"")
        if rest:
            self._append(rest + b"\n")

    def close(self) -> None:
        """Write what is left, and close the file."""
        for stream in list(self._parts):
            self.end(stream)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, lines: bytes) -> None:
        now = time.time()
        stamp = f"{stamp_of(now)} ".encode()
        text = memoryview(stamp + lines[:-1].replace(b"\n", b"\n" + stamp) + b"\n")
        with suppress(OSError):
            if self._fd >= 0 and not os.fstat(self._fd).st_nlink:  # somebody has cleaned the folder
                os.close(self._fd)
                self._fd = -1
            if self._fd < 0:
                self._open()
            if self._size and self._is_full(len(text), now):
                self._rotate()
            self._size += len(text)
            while text:
                text = text[os.write(self._fd, text) :]

    def _is_full(self, more: int, now: float) -> bool:
        return bool(self._max_size and self._size + more > self._max_size) or now - self._began > self._max_age

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        self._began = _first_time(self.path) if self._size else time.time()

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        for number in range(self._keep, 0, -1):
            with suppress(FileNotFoundError):
                rotated(self.path, number - 1).replace(rotated(self.path, number))
        if not self._keep:
            self.path.unlink(missing_ok=True)
        for old in (rotated(self.path, number) for number in range(1, self._keep + 1)):
            with suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > self._max_age:
                    old.unlink()
        self._open()


def rotated(path: Path, number: int) -> Path:
    """The file of the `number`-th rotation; 0 is the newest."""
    return path.with_name(f"{path.name}.{number}") if number else path


def stamp_of(at: float) -> str:
    """A time as it stands before a line; later ones sort after it."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"


def time_of(line: bytes) -> float | None:
    """When a line was written, in seconds since the epoch; None where it does not begin with a time."""
    try:
        return time.mktime(time.strptime(line[:19].decode(), "%Y-%m-%d %H:%M:%S")) + int(line[20:23]) / 1000
    except ValueError:
        return None


def _first_time(path: Path) -> float:
    with path.open("rb") as file:
        return time_of(file.readline(200)) or time.time()
