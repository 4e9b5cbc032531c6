"""Ending a process that is in the way, with all that it has started: asked first, and killed only if it does not listen."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from devsup.system import keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PATIENCE = 5.0  # seconds between TERM and KILL
_DEVSUP_PATIENCE = 12.0  # seconds; it lets running requests end first
_KEEPERS = 2.0  # seconds; it takes one, after a devsup was killed
_FOLLOWS = 0.5  # seconds that its children have to end by themselves, and then after TERM
_GONE = 2.0  # seconds that the kernel has after KILL


@dataclass(frozen=True)
class Facts:
    """What decides whether a process may be ended; see decide.ending.Suspect."""

    pid: int
    name: str
    first_word: str
    user: str | None
    leads_terminal: bool
    is_ancestor: bool
    service: str


@dataclass(frozen=True)
class Ended:
    """What became of a tree: who ended by himself, who had to be killed, and who is still there."""

    asked: list[int]
    killed: list[int]
    left: list[int]


def facts(pid: int) -> Facts:
    """All that is to be known of a process. Raises psutil.NoSuchProcess when it has ended."""
    process, words, user = psutil.Process(pid), [], None
    with suppress(psutil.AccessDenied):
        words = process.cmdline()
    with suppress(psutil.AccessDenied):
        user = process.username()
    return Facts(
        pid=pid,
        name=process.name(),
        first_word=words[0] if words else "",
        user=user,
        leads_terminal=_leads_terminal(process),
        is_ancestor=pid in _ancestors(),
        service=_service(pid),
    )


def tree(pid: int, started: float) -> list[psutil.Process]:
    """A process and all that descend from it, itself first, without what was opened for the user.

    Raises psutil.NoSuchProcess where it is not the one that `started` then (seconds since the epoch).
    """
    process = psutil.Process(pid)
    if process.create_time() != started:
        raise psutil.NoSuchProcess(pid)
    below = process.children(recursive=True)
    opened = keeper.opened(each.pid for each in below)
    return [process, *(each for each in below if each.pid not in opened)]


def end(processes: Sequence[psutil.Process]) -> Ended:
    """TERM for the first, then for those whom it leaves, then KILL."""
    first, *rest = processes
    _send([first], signal.SIGTERM)
    until(lambda: not _running([first]), PATIENCE)
    until(lambda: not _running(rest), _FOLLOWS)
    _send(_running(rest), signal.SIGTERM)
    until(lambda: not _running(rest), _FOLLOWS)
    return _ended(processes, _running(processes))


def end_devsup(processes: Sequence[psutil.Process]) -> Ended:
    """TERM for a devsup, the first of these, which ends the others when their work is done; then KILL: its keeper does it."""
    first = processes[0]
    _send([first], signal.SIGTERM)
    until(lambda: not _running([first]), _DEVSUP_PATIENCE)
    stubborn = _running([first])
    _send(stubborn, signal.SIGKILL)
    until(lambda: not _running(processes), _KEEPERS)
    return _ended(processes, [*stubborn, *_running(processes)])


def _ended(processes: Sequence[psutil.Process], stubborn: Sequence[psutil.Process]) -> Ended:
    _send(stubborn, signal.SIGKILL)
    until(lambda: not _running(stubborn), _GONE)
    killed, left = {each.pid for each in stubborn}, [each.pid for each in _running(processes)]
    return Ended([each.pid for each in processes if each.pid not in killed], sorted(killed - set(left)), left)


def until(fact: Callable[[], bool], seconds: float) -> bool:
    """Ask until it is so; False when the time is up."""
    ends = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)  # noqa: TID251 - a port tells nobody that it is free
    return True


def _send(processes: Iterable[psutil.Process], number: int) -> None:
    for each in processes:
        with suppress(psutil.Error):
            each.send_signal(number)  # psutil looks at the start time: nobody is hit who has got the number since
            if number == signal.SIGTERM:
                each.send_signal(signal.SIGCONT)  # what is suspended hears nothing


def _running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended, reaped or not."""
    found = []
    for each in processes:
        with suppress(psutil.Error):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def _ancestors() -> set[int]:
    with suppress(psutil.AccessDenied):
        return {each.pid for each in psutil.Process().parents()}
    return {os.getppid()}


def _leads_terminal(process: psutil.Process) -> bool:
    with suppress(psutil.Error, OSError):
        return os.getsid(process.pid) == process.pid and process.terminal() is not None
    return False


def _service(pid: int) -> str:
    """The system's unit of a process, where it is not the one that we run in ourselves."""
    with suppress(OSError):
        its, ours = (Path("/proc", each, "cgroup").read_text() for each in (str(pid), "self"))
        found = re.search(r"/system\.slice/(?:.*/)?([^/\n]+\.service)", its)
        if found is not None and found[1] not in ours:
            return found[1]
    return ""
