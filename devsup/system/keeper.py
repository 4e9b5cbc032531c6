"""A small process that outlives the supervisor by a second, and ends everything that carries the run's token.

Run by path as `python -I -S keeper.py TOKEN FOLDER`, so it may only use the standard library. Its standard input is a pipe that
only the supervisor writes: a line tells the process group of a new worker, `quit` that all is well, and the end of file without
it that the supervisor is gone, by whatever means. FOLDER, with the link's socket, goes last.

What the program has opened for its user, a browser or an editor, is not part of the tree.
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
_GONE = 2.0  # seconds that the kernel has to free what was killed

_SPARED = b"DEVSUP_SPARED="  # set by the agent for what it sees opened
_OPENERS = frozenset({"xdg-open", "gio", "open", "sensible-browse", "x-www-browser", "www-browser", "wslview"})  # 15 letters
_WINDOWS = frozenset(
    "firefox firefox-esr firefox-bin chrome chromium chromium-browse google-chrome brave msedge opera vivaldi-bin epiphany "
    "code code-insiders cursor zed subl sublime_text gedit kate gvim emacs idea pycharm".split()
)
_DRIVEN = (b"--headless", b"-headless", b"--remote-debugging", b"-marionette", b"--test-type")  # by a program


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
    name: str


def start_of(pid: int) -> int:
    """When a process has started, in the kernel's ticks since it was booted; 0 where that is not to be known."""
    if sys.platform != "linux":
        return _start_told(pid)
    fields = _fields(pid)
    return int(fields[19]) if fields else 0


def lives(pid: int, start: int) -> bool:
    """Whether the process that has started then still runs; where nobody reaps it, what is left of one does not."""
    if sys.platform != "linux":
        return start_of(pid) == start != 0
    fields = _fields(pid)
    return bool(fields) and int(fields[19]) == start and fields[0] not in "ZX"


def _fields(pid: int) -> list[str]:
    """What the kernel tells of a process from its state on; nothing where there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def _start_told(pid: int) -> int:
    """As `ps` tells it, in a number: to the second."""
    import subprocess  # noqa: PLC0415 - not on Linux
    import zlib  # noqa: PLC0415

    with suppress(OSError):
        told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, check=False).stdout.strip()
        return zlib.crc32(told) if told else 0
    return 0


def processes() -> dict[int, Process]:
    """Every process that runs, by pid (Linux; elsewhere none). Zombies do not: where nobody reaps, they stay for ever."""
    table = {}
    for entry in os.listdir("/proc") if _is_ours() else ():  # noqa: PTH208 - as in marked
        if entry.isdigit() and int(entry) != os.getpid():
            with suppress(OSError):
                head, _, rest = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")
                fields = rest.split()
                if fields[0] not in "ZX":
                    parent, group, session = map(int, fields[1:4])
                    table[int(entry)] = Process(parent, group, session, fields[19], head.partition("(")[2])
    return table


def _is_ours() -> bool:
    """Whether /proc is there, and tells of the namespace that our process numbers are of."""
    with suppress(OSError):
        return os.readlink("/proc/self") == str(os.getpid())  # noqa: PTH115 - as in marked
    return False


def members(token: str, groups: Iterable[int], since: int = 0) -> dict[int, str]:
    """Pid and start time of whoever is in these groups or their sessions, or carries the token (as in `marked`).

    Nobody who has started before `since` is looked at for the token.

    And of all that descend from these: a child may leave the session and clear its environment, but not choose its parent.
    """
    table, groups = processes(), set(groups)
    more = {pid for pid, each in table.items() if groups & {each.group, each.session}}
    more.update(marked(token, [pid for pid, each in table.items() if int(each.start) >= since]))
    found: set[int] = set()
    while more := {pid for pid in more - found if not _is_spared(pid, table, groups)}:
        found |= more
        more = {pid for pid, each in table.items() if each.parent in more}
    return {pid: table[pid].start for pid in found}


def _is_spared(pid: int, table: dict[int, Process], groups: set[int]) -> bool:
    """Whether a process, or who has started it, was opened for the user: in a session of its own."""
    while pid in table and not groups & {table[pid].group, table[pid].session}:
        if _was_opened(pid, table):
            return True
        pid = table[pid].parent
    return False


def _was_opened(pid: int, table: dict[int, Process]) -> bool:
    top = pid  # of a browser's own processes
    while table[top].name in _WINDOWS and (parent := table.get(table[top].parent)) is not None and parent.name in _WINDOWS:
        top = table[top].parent
    with suppress(OSError):
        if table[top].name in _WINDOWS:
            words = Path(f"/proc/{top}/cmdline").read_bytes()
            return not any(word in words for word in _DRIVEN)
        return table[pid].name in _OPENERS or _SPARED in Path(f"/proc/{pid}/environ").read_bytes()
    return False


def opened(pids: Iterable[int]) -> set[int]:
    """Those of these processes, all of one tree but without its root, that were opened for the user."""
    table, pids = processes(), set(pids)
    tree = {pid: each for pid, each in table.items() if pid in pids}
    return {pid for pid in tree if _is_spared(pid, tree, set())}


def running(known: dict[int, str], groups: Iterable[int] = ()) -> dict[int, str]:
    """Those of `known` that still run, and are not another process by now, nor have become what was opened for the user."""
    table, groups = processes() if known else {}, set(groups)
    same = {pid: start for pid, start in known.items() if pid in table and table[pid].start == start}
    return {pid: start for pid, start in same.items() if not _is_spared(pid, table, groups)}


def send(number: int, pids: Iterable[int], groups: Iterable[int]) -> None:
    """Signal the groups, and each process that is in none of them: for many servers a second signal means at once."""
    groups = set(groups)
    for group in groups:
        with suppress(OSError):
            os.killpg(group, number)
    for pid in pids:
        with suppress(OSError):
            if os.getpgid(pid) not in groups:
                os.kill(pid, number)


def _is_theirs(leader: int, start: int, token: str) -> bool:
    """Whether its group is still the one that it led: it lives, or it has gone and one of the group carries the token."""
    now = start_of(leader)
    return now == start != 0 or (not now and bool(marked(token, [pid for pid, it in processes().items() if it.group == leader])))


def end(token: str, leaders: dict[int, int]) -> list[int]:
    """End all that carries the token or is in a group of these leaders, if they are who they were: pid and start time.

    TERM, then KILL, then a moment until nothing of it runs. Returns who had to be ended.
    """
    groups = [pid for pid, start in leaders.items() if _is_theirs(pid, start, token)]
    left = members(token, groups)
    send(signal.SIGTERM, left, groups)
    _wait(left, PATIENCE)
    stubborn = {**running(left), **members(token, groups)}
    send(signal.SIGKILL, stubborn, groups)
    _wait(stubborn, _GONE)
    return sorted(left)


def _wait(pids: dict[int, str], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and running(pids):
        time.sleep(0.02)  # noqa: TID251 - there is no event for the end of a process that is not ours


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
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(ignored, signal.SIG_IGN)
    leaders: dict[int, int] = {}
    for line in sys.stdin:
        if line.strip() == "quit":
            return
        leaders[int(line)] = start_of(int(line))
    end(token, leaders)  # any service and generation of this run
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            os.unlink(f"{folder}/{name}")  # noqa: PTH108
        os.rmdir(folder)  # noqa: PTH106


if __name__ == "__main__":
    main(*sys.argv[1:])
