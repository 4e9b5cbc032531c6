"""Where many services print, a terminal or a pipe: nobody waits for it, and on a terminal the last row tells how things stand.

What it cannot take in time is skipped, by service, and counted: who floods loses its own lines, not the others'. The description
is opened anew, because whether it waits is a flag that the shell and the services would share.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from contextlib import suppress

_MOST, _MOST_OF_PIPE = 1 << 16, 8 << 20  # bytes of one service that wait: nobody reads faster than a terminal shows
_LAST = 5.0  # seconds that a pipe's reader has for the rest
_AT_ONCE = 1 << 16  # bytes
_ERASE = b"\r\x1b[2K"


class Screen:
    """Written by one thread. `fd` can be polled for when `wants_to_write`."""

    def __init__(self, target: int) -> None:
        self.is_tty = os.isatty(target)
        path = os.ttyname(target) if self.is_tty else f"/proc/self/fd/{target}"
        self.fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        self.is_gone = False  # nobody will read any more
        self._most = _MOST if self.is_tty else _MOST_OF_PIPE
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._sizes: dict[str, int] = {}
        self._skipped: dict[str, int] = {}
        self._now = b""  # on its way
        self._status = b""
        self._has_status = False  # the last row shows it
        self._is_dirty = False
        self._at_line_start = True

    @property
    def wants_to_write(self) -> bool:
        """Whether the terminal has not taken all."""
        return bool(self._now)

    def write(self, owner: str, data: bytes) -> None:
        """Show this; of an owner with a name what is too much is skipped."""
        if self.is_gone:
            return
        size = self._sizes.get(owner, 0)
        if owner and size > self._most:
            self._skipped[owner] = self._skipped.get(owner, 0) + data.count(b"\n")
            return
        self._waiting.append((owner, data))
        self._sizes[owner] = size + len(data)
        self.flush()

    def status(self, line: bytes) -> None:
        """What the last row shows from now on; nothing for no such row."""
        if line != self._status and self.is_tty:
            self._status, self._is_dirty = line, True
            self.flush()

    def flush(self) -> None:
        """Write as much as the terminal takes."""
        while True:
            if not self._now:
                self._now = self._next()
                if not self._now:
                    return
            try:
                self._now = self._now[os.write(self.fd, self._now) :]
            except BlockingIOError:
                return
            except OSError:  # it was closed
                self.is_gone, self._now = True, b""
                self._waiting.clear()
                return

    def _next(self) -> bytes:
        parts = []
        size = 0
        while self._waiting and size < _AT_ONCE:
            owner, data = self._waiting.popleft()
            self._sizes[owner] -= len(data)
            parts.append(data)
            size += len(data)
        if not self._waiting:
            parts += [
                f"{'' if self._ends(parts) else chr(10)}{owner}: {count:,} lines skipped here; its log has them\n".encode()
                for owner, count in self._skipped.items()
            ]
            self._skipped.clear()
        if not parts and not self._is_dirty:
            return b""
        erase = _ERASE if self._has_status else b""
        self._at_line_start = self._ends(parts)
        self._has_status, self._is_dirty = bool(self._status) and self._at_line_start, False
        return erase + b"".join(parts) + (self._status if self._has_status else b"")

    def _ends(self, parts: list[bytes]) -> bool:
        return parts[-1].endswith(b"\n") if parts else self._at_line_start

    def close(self) -> None:
        """Take the status row away; what a terminal has not taken is lost, a pipe's reader gets a moment for it."""
        self.status(b"")
        ends = time.monotonic() + _LAST
        while not self.is_tty and self.wants_to_write and time.monotonic() < ends:
            select.select([], [self.fd], [], 0.1)
            self.flush()
        with suppress(OSError):
            os.close(self.fd)
