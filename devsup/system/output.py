"""What workers print, on its way to devsup's own output: one thread, so that a slow terminal never stops the supervisor."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

TAIL = 65536  # bytes of each stream that are remembered for a diagnosis
_LINES = 400
_LONGEST = 1 << 20  # bytes of a line; longer ones are told in pieces


class Channel:
    """One stream of one worker: where its bytes come from and go to, and the end of what came."""

    def __init__(self, source: int, target: int | None, name: str, label: str) -> None:
        self.source, self.target, self.name, self.label = source, target, name, label
        self.done = threading.Event()
        self.ending = False  # the process is gone: what is in the pipe now is the rest
        self._tail = bytearray()
        self.partial = b""

    def remember(self, data: bytes) -> None:
        """Keep the last bytes."""
        self._tail += data
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]

    def tail(self) -> list[str]:
        """The last lines, at most 400."""
        return bytes(self._tail[-TAIL:]).decode("utf-8", "replace").splitlines()[-_LINES:]


class Output:
    """The thread, and what it has to do. `lines` renders a worker's line; without it bytes pass as they are."""

    def __init__(self, lines: Callable[[str, str, str], bytes] | None = None) -> None:
        self._lines = lines
        self._channels: dict[int, Channel] = {}
        self._texts: deque[tuple[int, bytes]] = deque()
        self._changes: deque[Channel] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._stop = False
        self._at_line_start = True
        self._last: Channel | None = None  # that has a label, and wrote
        self._broken = False
        self._thread = threading.Thread(target=self._run, name="devsup-output", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._wake()
        self._thread.join(2.0)
        for fd in (self._wake_read, self._wake_write, *self._channels):
            os.close(fd)

    def add(self, source: int, target: int | None, name: str, label: str = "") -> Channel:
        """Copy what comes from `source` to `target` (1 or 2; None: nowhere) until its end; owns `source` from now on.

        A `label` stands before each line.
        """
        channel = Channel(source, target, name, label)
        os.set_blocking(source, False)
        self._changes.append(channel)
        self._wake()
        return channel

    def finish(self, channel: Channel) -> None:
        """Copy what is there now, then close the channel and set its `done`."""
        channel.ending = True
        self._wake()

    def write(self, text: str, target: int = 1) -> None:
        """Devsup's own words, on a line of their own."""
        self._texts.append((target, text.encode("utf-8", "replace")))
        self._wake()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with suppress(OSError):
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        while not self._stop:
            for fd, _ in poll.poll():
                if fd == self._wake_read:
                    with suppress(BlockingIOError):
                        os.read(fd, 4096)
                else:
                    self._copy(self._channels[fd], poll)
            self._take_changes(poll)
            self._say()
        self._say()

    def _take_changes(self, poll: select.poll) -> None:
        while self._changes:
            channel = self._changes.popleft()
            self._channels[channel.source] = channel
            poll.register(channel.source, select.POLLIN)
        for channel in [each for each in self._channels.values() if each.ending]:
            while self._copy(channel, poll):
                pass
            if channel.source in self._channels:
                self._close(channel, poll)

    def _copy(self, channel: Channel, poll: select.poll) -> bool:
        """One read's worth; False when there is nothing more now."""
        try:
            data = os.read(channel.source, 65536)
        except BlockingIOError:
            return False
        except OSError:  # a terminal whose last process has gone
            data = b""
        if not data:
            self._close(channel, poll)
            return False
        channel.remember(data)
        self._emit(channel, data)
        return True

    def _close(self, channel: Channel, poll: select.poll) -> None:
        if channel.partial:
            self._emit(channel, b"\n")
        poll.unregister(channel.source)
        os.close(channel.source)
        del self._channels[channel.source]
        channel.done.set()

    def _emit(self, channel: Channel, data: bytes) -> None:
        if channel.target is None:
            return
        if self._lines is None:
            self._write(channel.target, self._labelled(channel, data) if channel.label else data)
            return
        *lines, channel.partial = (channel.partial + data).split(b"\n")
        if len(channel.partial) > _LONGEST:  # no line that anybody reads
            lines, channel.partial = [*lines, channel.partial], b""
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r")
            self._write(channel.target, self._lines(channel.name, text, channel.label))

    def _labelled(self, channel: Channel, data: bytes) -> bytes:
        """Each line after its label; a line that another has begun is ended first."""
        label = f"{channel.label} | ".encode()
        last, self._last = self._last, channel
        text = data[:-1].replace(b"\n", b"\n" + label) + data[-1:]
        if self._at_line_start:
            return label + text
        return text if last is channel else b"\n" + label + text

    def _say(self) -> None:
        while self._texts:
            target, text = self._texts.popleft()
            self._write(target, text if self._at_line_start else b"\n" + text)

    def _write(self, target: int, data: bytes) -> None:
        self._at_line_start = data.endswith(b"\n")
        view = memoryview(data)
        while view and not self._broken:
            try:
                view = view[os.write(target, view) :]
            except BlockingIOError:
                select.select([], [target], [])
            except OSError:  # nobody reads us any more; the service goes on
                self._broken = True
