"""A fork server's process, as the supervisor talks to it; what runs inside is `devsup_agent.forkserver`."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from devsup.system.inotify import Inotify
from devsup.system.spawn import ended

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from devsup.system.link import Link, Message
    from devsup.system.terminal import Streams

_LONGEST_IMPORT = 300.0  # seconds
_LONGEST_FORK = 10.0
_STATUS_LIMIT = 2.0  # seconds from a worker's end to the word of how


class Forked:
    """A worker that a fork server has made; its parent tells how it ended."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak = 0
        self._status: int | None = None
        self._told = anyio.Event()

    @property
    def is_running(self) -> bool:
        """As of Process."""
        return not self._told.is_set()

    def tell(self, status: int, peak: int = 0) -> None:
        """It has ended with this code, or minus this signal; it had so many bytes of memory at most."""
        self._status, self.peak = status, peak
        self._told.set()

    async def wait(self) -> int:
        """As of Process; 1 where the fork server has gone with its word."""
        await ended(self.pid)
        with anyio.move_on_after(_STATUS_LIMIT):
            await self._told.wait()
        if self._status is None:
            self.tell(1)
        return self._status or 0


class ForkServer:
    """One fork server, from its hello on."""

    def __init__(self, link: Link, environ: Mapping[str, str], scope: anyio.CancelScope) -> None:
        self.link = link
        self.scope = scope  # of its process
        self.environ = environ
        self.modules: frozenset[str] = frozenset()
        self.changed_environ: Mapping[str, str | None] = {}
        self._children: dict[int, Forked] = {}
        self._ended: dict[int, Mapping[str, Any]] = {}  # pid -> how
        self._paths: frozenset[str] = frozenset()
        self._stamps: dict[str, tuple[int, int]] = {}
        self._is_watched = self._is_stale = False
        self._watching = anyio.CancelScope()

    async def preload(self, wanted: Message, skip: Iterable[str]) -> Message | None:
        """Let it import what a worker has; its answer, None when it has died of it."""
        self.modules = frozenset(name for name, _ in wanted["modules"])
        self.changed_environ = wanted["environ"]
        self._paths = frozenset(path for _, path in wanted["modules"])
        self._stamps = await anyio.to_thread.run_sync(_stamps, self._paths)
        fields = {key: wanted[key] for key in ("modules", "own", "environ", "main")}
        return await self.link.ask("preload", limit=_LONGEST_IMPORT, skip=sorted(skip), **fields)

    async def watch(self) -> None:
        """Notice when what it has imported, or where that came from, becomes another; returns then."""
        # Where no more files can be watched, it is looked at before each fork.
        with self._watching, suppress(OSError), Inotify() as notify:
            notify.add({*map(os.path.dirname, self._paths), *_roots(self._paths)})
            now = await anyio.to_thread.run_sync(_stamps, self._paths)
            self._is_watched, self._is_stale = True, self._stamps != now
            while not self._is_stale:
                self._is_stale = self._concerns(*await notify.changes())

    def _concerns(self, files: set[str], folders: set[str], lost: bool) -> bool:  # noqa: FBT001 - as notify tells
        roots = _roots(self._paths)
        new = {path for path in files if path.endswith((".py", ".so", ".pth"))}
        new |= {path for path in folders if not path.endswith("/__pycache__")}
        return lost or bool(files & self._paths) or any(os.path.dirname(path) in roots for path in new)  # noqa: PTH120

    async def is_stale(self) -> bool:
        """Whether a cold start would import something else."""
        if self._is_watched:
            return self._is_stale
        return self._stamps != await anyio.to_thread.run_sync(_stamps, self._paths)

    async def make_spare(self) -> None:
        """Let it fork the next worker ahead."""
        await self.link.send("spare")

    async def fork(self, environ: Mapping[str, str], streams: Streams) -> Forked | None:
        """A worker with this beside the environment of the fork server itself; None when there is none."""
        fds = (streams.stdin or 0, streams.stdout, streams.stderr)
        answer = await self.link.ask(
            "fork", fds=fds, limit=_LONGEST_FORK, environ=dict(environ), terminal=streams.stdin is not None
        )
        if answer is None:
            return None
        child = self._children[answer["pid"]] = Forked(answer["pid"])
        if child.pid in self._ended:
            self.exited(self._ended.pop(child.pid))
        return child

    def exited(self, message: Mapping[str, Any]) -> None:
        """One of its workers has ended."""
        child = self._children.pop(message["pid"], None)
        if child is None:  # it was over before anybody had heard of it
            self._ended[message["pid"]] = message
        else:
            child.tell(message["status"], message["peak"])

    async def leave(self) -> None:
        """Let it end once its workers have."""
        self._watching.cancel()
        await self.link.send("leave")


def _stamps(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Time and size of each file, and what is in the folders in which packages lie."""
    stamps = {}
    for path in paths:
        with suppress(OSError):
            found = os.stat(path)  # noqa: PTH116 - hundreds
            stamps[path] = found.st_mtime_ns, found.st_size
    for root in _roots(paths):
        with suppress(OSError):
            names = frozenset(os.listdir(root)) - {"__pycache__"}  # noqa: PTH208
            stamps[root] = hash(names), len(names)
    return stamps


def _roots(paths: Iterable[str]) -> set[str]:
    """The folders in which packages lie."""
    names = "site-packages", "dist-packages"
    return {path[: path.index(name) + len(name)] for path in paths for name in names if name in path}
