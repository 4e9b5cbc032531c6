"""Starting a worker's process; light, because the first one is started before the rest of devsup is even imported."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devsup.errors import UsageError
from devsup.system.terminal import control

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devsup.system.terminal import Streams, Terminal


@dataclass
class Spawned:
    """A process that runs, the leader of its session, and its streams."""

    process: subprocess.Popen[bytes]
    streams: Streams

    def kill(self) -> None:
        """End it and its group, and wait for it; for when nobody took it over."""
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def spawn(command: Sequence[str], cwd: str, env: Mapping[str, str], terminal: Terminal) -> Spawned:
    """Start `command`. Raises UsageError when that cannot be."""
    streams = terminal.streams()
    if not terminal.is_tty:  # else what it prints would come in blocks, long after it happened
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
            preexec_fn=control if streams.stdin is not None else None,  # noqa: PLW1509 - one ioctl, after setsid
        )
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        problem = f"{command[0]} could not be started: {getattr(exc, 'strerror', None) or exc}."
        raise UsageError(problem, f'Look at it with "ls -l {command[0]}".') from exc
    finally:
        streams.started()
    return Spawned(process, streams)
