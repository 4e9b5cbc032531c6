"""Starting a worker's process; light, because the first one is started before the rest of devsup is even imported."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from devsup.errors import UsageError
from devsup.system.terminal import control

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devsup.system.terminal import Streams, Terminal


_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # as devsup was given it, and as its workers get it


def raise_limits() -> None:
    """Let this process have as many open files as it may: it keeps the connections of its workers."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if sys.platform == "linux":  # where a worker's can be put back
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _restore_limit(pid: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if sys.platform == "linux":
        with suppress(OSError):  # it has ended
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (_files, most))


class Process(Protocol):
    """A process that somebody waits for; it leads its session."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def peak(self) -> int:
        """The most memory it has had, in bytes, once it has ended; 0 where that is not known."""

    @property
    def is_running(self) -> bool:
        """Whether nobody knows of its end yet."""

    async def wait(self) -> int:
        """Its exit code, or minus the signal that ended it."""


class Child:
    """A process that was started here."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        self.peak = 0

    @property
    def is_running(self) -> bool:
        """As of Process."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """As of Process."""
        import anyio  # noqa: PLC0415 - slower to import than the first worker is to spawn

        if not await ended(self.pid):
            await anyio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)
        if self._process.returncode is None:
            _, status, usage = os.wait4(self.pid, 0)  # noqa: ASYNC222 - it has ended
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self.peak = usage.ru_maxrss * (1024 if sys.platform == "linux" else 1)
        return self._process.returncode


async def ended(pid: int) -> bool:
    """Wait for the end of a process of ours; False where the system does not tell of it."""
    import anyio  # noqa: PLC0415 - as above

    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, an old kernel, or reaped already
        return False
    try:
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    return True


@dataclass
class Spawned:
    """A process that runs, the leader of its session, and its streams."""

    process: Process
    streams: Streams

    def kill(self) -> None:
        """End it and its group; for when nobody took it over."""
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)


def spawn(
    command: Sequence[str], cwd: str, env: Mapping[str, str], terminal: Terminal, worker: str = "", *, shown: bool = True
) -> Spawned:
    """Start `command`; what it prints is shown, as that `worker`'s, or dropped. Raises UsageError if it cannot."""
    try:
        streams = terminal.streams(worker, shown=shown)
    except OSError as exc:
        raise UsageError(
            f"{command[0]} could not be started: {exc.strerror}.", 'See what is open: "ls -l /proc/self/fd".'
        ) from exc
    if not terminal.gives_ttys:  # else what it prints would come in blocks, long after it happened
        env = {"PYTHONUNBUFFERED": "1", **env}
    try:
        # Not anyio's, which cannot make a terminal the child's controlling one.
        process = subprocess.Popen(
            command,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
            close_fds=False,  # what devsup was given is the program's (--fd, a shell's <(…)); ours close by themselves
            preexec_fn=control if streams.tty else None,  # noqa: PLW1509 - one ioctl, after setsid
        )
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        for master in streams.masters:
            os.close(master)
        streams.masters.clear()
        problem = f"{command[0]} could not be started: {getattr(exc, 'strerror', None) or exc}."
        raise UsageError(problem, f'Look at it with "ls -l {command[0]}".') from exc
    finally:
        streams.started()
    _restore_limit(process.pid)
    return Spawned(Child(process), streams)
