"""What workers print, on its way to devsup's own output: one thread, so that a slow terminal never stops the supervisor."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from devsup.system.logfile import LogFile
    from devsup.system.screen import Screen

TAIL = 65536  # bytes of each stream that are remembered for a diagnosis
_LINES = 400
_LONGEST = 1 << 20  # bytes of a line; longer ones are told in pieces
_HELD = 0.1  # seconds that an unfinished line is kept back, where others print too


@dataclass(frozen=True)
class Voice:
    """Whose words these are: of a service, and of this worker of it, where two may run at once.

    `taps` are given all that it prints, as it comes, and `ears` whole lines of it, in the thread. A `prefix` stands before each
    line that is shown; {} is the name.
    """

    service: str
    worker: str = ""
    prefix: str = ""
    log: LogFile | None = None
    taps: list[Callable[[bytes], None]] = field(default_factory=list)
    ears: list[Callable[[bytes], None]] = field(default_factory=list)
    shown: bool = True

    @property
    def label(self) -> bytes:
        """What stands before each line."""
        prefix = self.prefix or ("{} | " if self.worker else "")
        return prefix.format(self.worker or self.service).encode()

    def of(self, worker: str) -> Voice:
        """The same service's, of this worker."""
        return replace(self, worker=worker)


class Channel:
    """One stream of one worker: where its bytes come from and go to, and the end of what came."""

    def __init__(self, source: int, target: int | None, name: str, voice: Voice) -> None:
        self.source, self.target, self.name, self.voice = source, target, name, voice
        self.label = voice.label
        self.done = threading.Event()
        self.ending = False  # the process is gone: what is in the pipe now is the rest
        self._tail = bytearray()
        self.partial = self.unheard = b""
        self.held = 0.0  # since when, if there is a partial

    def remember(self, data: bytes) -> None:
        """Keep the last bytes."""
        self._tail += data
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]

    def last(self) -> bytes:
        """The last 20 lines, as they came."""
        lines = bytes(self._tail[-TAIL:]).split(b"\n")
        return b"\n".join(lines[-20:])

    def tail(self) -> list[str]:
        """The last lines, at most 400."""
        return bytes(self._tail[-TAIL:]).decode("utf-8", "replace").splitlines()[-_LINES:]


class Output:
    """The thread, and what it has to do. `lines` renders a worker's line; without it bytes pass as they are.

    With a `screen`, what goes to the terminal goes there.
    """

    def __init__(self, lines: Callable[[Voice, str, str], bytes] | None = None, screen: Screen | None = None) -> None:
        self._lines, self._screen = lines, screen
        self._channels: dict[int, Channel] = {}
        self._texts: deque[tuple[int, bytes]] = deque()
        self._changes: deque[Channel] = deque()
        self._status: bytes | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._stop = False
        self._at_line_start = True
        self._last: Channel | None = None  # that has a label, and wrote
        self._broken = False
        self._on_screen = {fd: screen is not None and _same(fd, 1) for fd in (1, 2)}
        self._poll = select.poll()
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
        if self._screen is not None:
            self._screen.close()

    def add(self, source: int, target: int | None, name: str, voice: Voice) -> Channel:
        """Copy what comes from `source` to `target` (1 or 2; None: nowhere) until its end; owns `source` from now on."""
        channel = Channel(source, target, name, voice)
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

    @property
    def has_screen(self) -> bool:
        """Whether there is a last row."""
        return self._screen is not None and self._screen.is_tty

    def status(self, line: str) -> None:
        """What the last row of the screen shows."""
        self._status = line.encode("utf-8", "replace")
        self._wake()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with suppress(OSError):
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        self._poll.register(self._wake_read, select.POLLIN)
        while not self._stop:
            self._wait()
            self._take_changes()
            self._say()
        self._say()

    def _wait(self) -> None:
        held = [each for each in self._channels.values() if each.held]
        if self._screen is not None and self._screen.is_gone:
            with suppress(KeyError):
                self._poll.unregister(self._screen.fd)
        elif self._screen is not None:
            self._poll.register(self._screen.fd, select.POLLOUT if self._screen.wants_to_write else 0)
        for fd, _ in self._poll.poll(_HELD * 1000 if held else None):
            if fd == self._wake_read:
                with suppress(BlockingIOError):
                    os.read(fd, 4096)
            elif fd in self._channels:
                self._copy(self._channels[fd])
            elif self._screen is not None:
                self._screen.flush()
        for channel in held:
            if channel.held and time.monotonic() - channel.held > _HELD:
                self._show_partial(channel)

    def _take_changes(self) -> None:
        while self._changes:
            channel = self._changes.popleft()
            self._channels[channel.source] = channel
            self._poll.register(channel.source, select.POLLIN)
        for channel in [each for each in self._channels.values() if each.ending]:
            while self._copy(channel):
                pass
            if channel.source in self._channels:
                self._close(channel)

    def _copy(self, channel: Channel) -> bool:
        """One read's worth; False when there is nothing more now."""
        try:
            data = os.read(channel.source, 65536)
        except BlockingIOError:
            return False
        except OSError:  # a terminal whose last process has gone
            data = b""
        if not data:
            self._close(channel)
            return False
        channel.remember(data)
        if channel.target is not None:
            self._emit(channel, data)
        return True

    def _close(self, channel: Channel) -> None:
        if channel.partial:
            self._show(channel, b"\n")
        if channel.voice.log is not None:
            channel.voice.log.end(channel.source)
        self._poll.unregister(channel.source)
        os.close(channel.source)
        del self._channels[channel.source]
        channel.done.set()

    def _emit(self, channel: Channel, data: bytes) -> None:
        if channel.voice.log is not None:
            channel.voice.log.write(channel.source, data)
        for tap in [*channel.voice.taps]:
            tap(data)
        self._hear(channel, data)
        self._show(channel, data)

    def _hear(self, channel: Channel, data: bytes) -> None:
        """Whole lines for those who look for something in them."""
        if not channel.voice.ears:
            channel.unheard = b""
            return
        end = data.rfind(b"\n") + 1
        if not end and len(channel.unheard) < TAIL:
            channel.unheard += data
            return
        lines, channel.unheard = (channel.unheard + data[:end], data[end:]) if end else (channel.unheard + data, b"")
        for ear in [*channel.voice.ears]:
            ear(lines)

    def _show(self, channel: Channel, data: bytes) -> None:
        if channel.target is None or not channel.voice.shown:
            return
        if self._lines is None and not channel.label:
            self._write(channel.target, data)
            return
        end = data.rfind(b"\n") + 1
        if not end and len(channel.partial) + len(data) < _LONGEST:
            channel.partial, channel.held = channel.partial + data, channel.held or time.monotonic()
            return
        whole, channel.partial = (channel.partial + data[:end], data[end:]) if end else (channel.partial + data + b"\n", b"")
        channel.held = time.monotonic() if channel.partial else 0.0
        if self._lines is None:
            self._write(channel.target, self._labelled(channel, whole), channel.voice.service)
            return
        for line in whole[:-1].split(b"\n"):
            text = line.decode("utf-8", "replace").rstrip("\r")
            self._write(channel.target, self._lines(channel.voice, channel.name, text), channel.voice.service)

    def _show_partial(self, channel: Channel) -> None:
        """It may be a question, whose answer is on the same line: nobody waits for its end."""
        channel.held = 0.0
        if self._lines is None and channel.target is not None:
            data, channel.partial = channel.partial, b""
            self._write(channel.target, self._labelled(channel, data), channel.voice.service)

    def _labelled(self, channel: Channel, data: bytes) -> bytes:
        """Each line after its label; a line that another has begun is ended first."""
        last, self._last = self._last, channel
        text = data[:-1].replace(b"\n", b"\n" + channel.label) + data[-1:]
        if self._at_line_start:
            return channel.label + text
        return text if last is channel else b"\n" + channel.label + text

    def _say(self) -> None:
        while self._texts:
            target, text = self._texts.popleft()
            self._write(target, text if self._at_line_start else b"\n" + text)
        if self._status is not None and self._screen is not None:
            status, self._status = self._status, None
            self._screen.status(status)

    def _write(self, target: int, data: bytes, owner: str = "") -> None:
        self._at_line_start = data.endswith(b"\n")
        if self._screen is not None and self._on_screen[target]:
            self._screen.write(owner, data)
            return
        view = memoryview(data)
        while view and not self._broken:
            try:
                view = view[os.write(target, view) :]
            except BlockingIOError:
                select.select([], [target], [])
            except OSError:  # nobody reads us any more; the service goes on
                self._broken = True


def _same(one: int, other: int) -> bool:
    """Whether two descriptors are of one file, as after 2>&1."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False
