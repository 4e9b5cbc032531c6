"""A small process that outlives the supervisor by a second, and ends everything that carries the run's token.

Run by path as `python -I -S keeper.py TOKEN FOLDER`, so it may only use the standard library. Its standard input is a pipe that
only the supervisor writes: a line tells the process group of a new worker, `quit` that all is well, and the end of file without
it that the supervisor is gone, by whatever means. FOLDER, with the link's socket, goes last.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE = 0.5  # seconds between TERM and KILL


def marked(token: str, pids: Iterable[int]) -> list[int]:
    """Those of this user's processes whose environment has a DEVSUP_TOKEN that begins with `token`."""
    needle = b"DEVSUP_TOKEN=" + token.encode()
    found = []
    for pid in pids:
        with suppress(OSError):
            if needle in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


class Process(NamedTuple):
    """A process of this machine; the start time tells it from a later one with the same pid."""

    parent: int
    group: int
    session: int
    start: str


def start_of(pid: int) -> int:
    """When a process has started, in the kernel's ticks since it was booted; 0 where that is not to be known."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    return 0


def processes() -> dict[int, Process]:
    """Every process that runs, by pid (Linux; elsewhere none). Zombies do not: where nobody reaps, they stay for ever."""
    table = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else ():  # noqa: PTH112, PTH208 - as in marked
        if entry.isdigit() and int(entry) != os.getpid():
            with suppress(OSError):
                fields = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    table[int(entry)] = Process(int(fields[1]), int(fields[2]), int(fields[3]), fields[19])
    return table


def members(token: str, group: int | None, since: int = 0) -> dict[int, str]:
    """Pid and start time of whoever is in this group or its session, or carries the token (as in `marked`).

    Nobody who has started before `since` is looked at for the token.

    And of all that descend from these: a child may leave the session and clear its environment, but not choose its parent.
    """
    table = processes()
    found = {pid for pid, each in table.items() if group in (each.group, each.session)}
    found.update(marked(token, [pid for pid, each in table.items() if int(each.start) >= since]))
    grown = True
    while grown:
        more = {pid for pid, each in table.items() if each.parent in found} - found
        grown = bool(more)
        found |= more
    return {pid: table[pid].start for pid in found if pid in table}


def running(known: dict[int, str]) -> dict[int, str]:
    """Those of `known` that still run, and are not another process by now."""
    table = processes() if known else {}
    return {pid: start for pid, start in known.items() if pid in table and table[pid].start == start}


def send(number: int, pids: Iterable[int], group: int | None) -> None:
    """Signal the group, and each process that is still there and not in it: for many servers a second signal means at once."""
    if group is not None:
        with suppress(OSError):
            os.killpg(group, number)
    for pid in pids:
        with suppress(OSError):
            if os.getpgid(pid) != group:
                os.kill(pid, number)


class Keeper:
    """The supervisor's side: starts the keeper, tells it of each worker, and sends it home."""

    def __init__(self, token: str, folder: str) -> None:
        import subprocess  # noqa: PLC0415 - the keeper itself does without

        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, token, folder], stdin=subprocess.PIPE, start_new_session=True
        )

    def watch(self, group: int) -> None:
        """End this process group too, when we are gone."""
        self._tell(b"%d\n" % group)

    def _tell(self, line: bytes) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(line)
                self._process.stdin.flush()

    def close(self) -> None:
        """All is well: nothing is to be ended."""
        self._tell(b"quit\n")
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._process.wait()


def main(token: str, folder: str) -> None:
    """Wait for the end of the supervisor, then end what it has left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(ignored, signal.SIG_IGN)
    group = None
    for line in sys.stdin:
        if line.strip() == "quit":
            return
        group = int(line)  # one worker at a time; an old number may be somebody else's by now
    token += "-"  # any generation of this run
    left = members(token, group)
    send(signal.SIGTERM, left, group)
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and running(left):
        time.sleep(0.02)  # noqa: TID251 - there is no event for the end of a process that is not ours
    send(signal.SIGKILL, {**running(left), **members(token, group)}, group)
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            os.unlink(f"{folder}/{name}")  # noqa: PTH108
        os.rmdir(folder)  # noqa: PTH106


if __name__ == "__main__":
    main(*sys.argv[1:])
