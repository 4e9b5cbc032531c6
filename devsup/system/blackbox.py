"""What a worker's processes have left, or are asked to leave: `devsup_agent.blackbox` writes it, this reads it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST = 1 << 19  # bytes that are read of it
_FULL = 1 << 20  # bytes of stacks that were asked for, after which it begins anew
_WRITING = 0.5  # seconds for a process to write its stacks
_PAUSE = 0.01  # seconds: a dump that has not grown for so long is whole


class Left(NamedTuple):
    """What was left: exceptions as `described` by the guest, and what faulthandler wrote."""

    exceptions: list[dict[str, Any]]
    text: str


def parse(content: str) -> Left:
    """What stands in a black box."""
    exceptions, text = [], []
    for line in content.splitlines():
        record = _record(line)
        if record is None:
            text.append(line)
        else:
            exceptions.append(record)
    return Left(exceptions, "\n".join(text).strip("\n"))


class BlackBox:
    """The file of one worker.

    Its processes are asked by SIGURG, which does nothing to those that do not handle it: one that is just becoming another
    program has no handler any more.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._asking = anyio.Lock()

    def read(self, since: int = 0) -> Left:
        """All that was left from this offset on, at most the last 512 KiB."""
        return parse(self._tail(since).decode("utf-8", "replace"))

    def _tail(self, since: int) -> bytes:
        try:
            with Path(self._path).open("rb") as file:
                file.seek(max(since, self._size() - _MOST))
                return file.read(_MOST)
        except OSError:
            return b""

    def _size(self) -> int:
        try:
            return Path(self._path).stat().st_size
        except OSError:
            return 0

    def remove(self) -> None:
        """Its processes have ended, and it was read."""
        with suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 - as elsewhere here

    async def stacks(self, pids: Mapping[int, int]) -> dict[int, str]:
        """The stacks of all threads of those processes that write here, by pid; those that cannot answer are left out.

        `pids` tells of each which of its threads is the agent's, or 0: what the others wait for is not interrupted then.
        """
        found = {}
        async with self._asking:
            for pid in await anyio.to_thread.run_sync(self._writers, list(pids)):
                text = await self._ask(pid, pids[pid])
                if text:
                    found[pid] = text
        return found

    def _writers(self, pids: list[int]) -> list[int]:
        """Who has the file open."""
        return [pid for pid in pids if self._path in _open_files(pid)]

    async def _ask(self, pid: int, thread: int) -> str:
        before = self._size()
        if before > _FULL:
            with suppress(OSError):
                os.truncate(self._path, 0)
                before = 0
        with suppress(OSError):  # it has ended
            _signal(pid, thread)
        size, last = before, -1
        with anyio.move_on_after(_WRITING):
            while size == before or size != last:
                await anyio.sleep(_PAUSE)
                last, size = size, self._size()
        return self.read(before).text


def _signal(pid: int, thread: int) -> None:
    with suppress(AttributeError):  # a C library without it
        if thread and ctypes.CDLL(None).tgkill(pid, thread, signal.SIGURG) == 0:
            return
    os.kill(pid, signal.SIGURG)


def _open_files(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - short
            with suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))  # noqa: PTH115 - as above
    return found


def _record(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"where"'):
        return None
    try:
        record = json.loads(line)
    except ValueError:  # two that wrote at once
        return None
    return record if isinstance(record, dict) else None
