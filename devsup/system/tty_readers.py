"""Whether a process waits for a line from a terminal, as the kernel tells it (Linux): true for any program, without a hook."""

from __future__ import annotations

import os
import platform
from contextlib import suppress

_READ = {"x86_64": "0", "aarch64": "63"}.get(platform.machine())  # the number of the system call read


def any_reader(terminal: str, group: int) -> bool:
    """Whether a thread of this process group, or of another in its session, is in read() on `terminal`."""
    if _READ is None or not os.path.isdir("/proc/self"):  # noqa: PTH112 - a path the kernel made
        return False
    with suppress(OSError):
        session = os.getsid(group)
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - hot
        return any(_reads(pid, terminal) for pid in pids if _session(pid) == session)
    return False


def _session(pid: int) -> int:
    with suppress(OSError):
        return os.getsid(pid)
    return -1


def _reads(pid: int, terminal: str) -> bool:
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/syscall") as file:  # noqa: PTH123
                call = file.read().split()
            if call[0] == _READ and os.readlink(f"/proc/{pid}/fd/{int(call[1], 16)}") in {terminal, "/dev/tty"}:  # noqa: PTH115
                return True
    return False
