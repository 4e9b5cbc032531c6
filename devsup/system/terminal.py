"""The real terminal and the workers' ones: pseudo-terminals, single keys, sizes, suspend and restore (DESIGN 9)."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devsup.system import tty_readers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from anyio import CancelScope

    from devsup.system.output import Channel, Output, Voice

Attributes = list[Any]


@dataclass
class Streams:
    """A worker's standard streams: the child's ends, to be closed once it runs, and ours."""

    stdin: int | None
    stdout: int
    stderr: int
    channels: tuple[Channel, Channel]
    tty: str = ""  # the name of its terminal
    masters: list[int] = field(default_factory=list)  # our ends of its terminals; keys go to the first

    def started(self) -> None:
        """The child has its own copies now."""
        for fd in {self.stdin, self.stdout, self.stderr} - {None}:
            os.close(fd)  # type: ignore[arg-type]

    def tail(self) -> str:
        """The end of what it printed, errors last."""
        return "\n".join([*self.channels[0].tail(), *self.channels[1].tail()])


class Terminal:
    """devsup's terminal, where it has one; piped, workers get pipes and there are no keys."""

    def __init__(self, output: Output, voice: Voice, *, detached: bool = False, headless: bool = False) -> None:
        self._output, self.voice = output, voice
        self.is_tty = not headless and os.isatty(0) and os.isatty(1)
        self.gives_ttys, self._headless = self.is_tty or detached, headless
        self.prompting = False
        self._has_keys = False
        self._waiting: CancelScope | None = None  # for a key
        self._before: Attributes | None = termios.tcgetattr(0) if self.is_tty else None
        self._current: Streams | None = None

    @contextmanager
    def single_keys(self) -> Iterator[None]:
        """Keys come one by one and are not shown, until the block ends and the terminal is as it was."""
        try:
            self._set_keys()
            yield
        finally:
            self._restore()

    def _set_keys(self) -> None:
        # The shell stops a background job that changes the terminal; it has no keys to wait for.
        if self._before is not None and _is_foreground():
            with suppress(OSError, termios.error):
                attributes = termios.tcgetattr(0)
                if not self._has_keys:
                    self._before = [*attributes]
                attributes[3] &= ~(termios.ICANON | termios.ECHO)
                termios.tcsetattr(0, termios.TCSADRAIN, attributes)
                self._has_keys = True

    def _restore(self) -> None:
        self._has_keys = False
        if self._before is not None and _is_foreground():
            with suppress(OSError, termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def streams(self, worker: str = "", *, shown: bool = True) -> Streams:
        """Fresh streams for a worker that is about to start, which has the keys then; or for what nobody is to see."""
        voice = self.voice.of(worker)
        streams = self._streams(1, 2, voice) if shown else self._streams(None, None, voice)
        if shown:
            self._current = streams
        return streams

    def serve(self, streams: Streams) -> None:
        """The keys are for the worker of these streams."""
        self._current = streams

    def _streams(self, to_out: int | None, to_err: int | None, voice: Voice) -> Streams:
        if not self.gives_ttys:
            out_read, out_write = os.pipe()
            err_read, err_write = os.pipe()
            channels = (self._output.add(out_read, to_out, "stdout", voice), self._output.add(err_read, to_err, "stderr", voice))
            nobody = os.open(os.devnull, os.O_RDONLY) if self._headless else None
            return Streams(nobody, out_write, err_write, channels)
        master, slave = self._pair()
        out = self._output.add(os.dup(master), to_out, "stdout", voice)
        if os.isatty(2) or not self.is_tty:
            # One of its own, so that a diagnosis can tell errors from output.
            err_master, err_slave = self._pair()
            err = self._output.add(os.dup(err_master), to_err, "stderr", voice)
        else:
            err_read, err_slave = os.pipe()
            err_master, err = -1, self._output.add(err_read, to_err, "stderr", voice)
        masters = [each for each in (master, err_master) if each >= 0]
        return Streams(slave, slave, err_slave, (out, err), os.ttyname(slave), masters)

    def _pair(self) -> tuple[int, int]:
        master, slave = pty.openpty()
        if self._before is not None:
            attributes: Attributes = [*self._before]
            # Started in the background, ours may be as the shell's line editor had left it.
            attributes[0] |= termios.ICRNL
            attributes[3] |= termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN
            attributes[1] &= ~termios.OPOST  # the real terminal turns newlines into what it needs, once
            termios.tcsetattr(slave, termios.TCSANOW, attributes)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, _size(1))
        return master, slave

    async def read_keys(self, on_key: Callable[[str], None], terminals: Sequence[Terminal]) -> None:
        """Keys go to the worker that reads from one of these terminals, else to `on_key`; returns when there are no more."""
        import anyio  # noqa: PLC0415 - slower to import than the first worker is to spawn

        while True:
            # In the background, to read would stop us; and no event tells that a running job was brought to the foreground.
            while not self._has_keys:
                await anyio.sleep(1.0)
                self._set_keys()
            with anyio.CancelScope() as self._waiting:
                await anyio.wait_readable(0)
            if self._waiting.cancel_called:
                continue
            if not _is_foreground():
                self._has_keys = False
                continue
            try:
                data = os.read(0, 1024)
            except OSError:  # the window was closed: SIGHUP follows
                return
            if not data:
                return
            if not any(each.type(data) for each in terminals if each.is_read()):
                for key in data.decode("utf-8", "ignore"):
                    on_key(key)

    def is_read(self) -> bool:
        """A prompt is open (the agent says so), a program has put its terminal into raw mode, or one waits for a line."""
        if self._current is None or not self._current.masters:
            return False
        master = self._current.masters[0]
        with suppress(OSError, termios.error):
            raw = not termios.tcgetattr(master)[3] & termios.ICANON
            return self.prompting or raw or tty_readers.any_reader(self._current.tty, os.tcgetpgrp(master))
        return False

    async def finished(self, streams: Streams) -> None:
        """The worker of these streams is gone: pass on what it printed last."""
        import anyio  # noqa: PLC0415 - slower to import than the first worker is to spawn

        for channel in streams.channels:
            self._output.finish(channel)
        for channel in streams.channels:
            await anyio.to_thread.run_sync(channel.done.wait, 2.0)
        for master in streams.masters:
            os.close(master)
        streams.masters.clear()

    @contextmanager
    def tapped(self, tap: Callable[[bytes], None]) -> Iterator[bytes]:
        """Give `tap` all that the service prints, in the output's thread, until the block ends; yields what came last."""
        self.voice.taps.append(tap)
        try:
            yield b"".join(each.last() for each in self._current.channels) if self._current is not None else b""
        finally:
            self.voice.taps.remove(tap)

    def type(self, data: bytes) -> bool:
        """Keys for the worker, from elsewhere; false where it has no terminal."""
        if self._current is None or not self._current.masters:
            return False
        with suppress(OSError):
            os.write(self._current.masters[0], data)
        return True

    def resize(self, group: int | None) -> None:
        """Pass the real terminal's size on, to the worker that leads this group."""
        for master in self._current.masters if self._current is not None else ():
            with suppress(OSError):
                fcntl.ioctl(master, termios.TIOCSWINSZ, _size(1))
        _signal(group, signal.SIGWINCH)

    def resume(self) -> None:
        """Back in the foreground."""
        self._set_keys()

    def suspend(self, groups: Collection[int]) -> None:
        """Ctrl-Z: stop the workers and ourselves with the terminal as it was; `fg` goes on here."""
        self._restore()
        if self._waiting is not None:  # whose keys come next is to be found out anew
            self._waiting.cancel()
        for group in groups:
            _signal(group, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._set_keys()
        for group in groups:
            _signal(group, signal.SIGCONT)


def _is_foreground() -> bool:
    with suppress(OSError):
        return os.tcgetpgrp(0) == os.getpgrp()
    return False


def control(fd: int = 0) -> None:
    """In the child, after setsid: make its standard input its controlling terminal."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def _signal(group: int | None, number: int) -> None:
    if group is not None:
        with suppress(OSError):
            os.killpg(group, number)


def _size(fd: int) -> bytes:
    with suppress(OSError):
        return fcntl.ioctl(fd, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    return struct.pack("HHHH", 24, 80, 0, 0)
