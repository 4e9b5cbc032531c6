"""One worker: a process tree whose lifetime is a block.

Theory of operation. `async with worker(…) as handle` is the only way to have a child process, and when the block ends nothing
of it runs any more; the first one is spawned while devsup is still being imported, and taken over here. The child leads a
session of its own, so that a Ctrl-C on the terminal reaches devsup alone, which then stops the worker once: over the link where
an agent serves, else with one signal. What the main process leaves behind is found by its group and by the token in its
environment.
"""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from devsup.events import Exit
from devsup.system.tree import Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from devsup.system.link import Link
    from devsup.system.spawn import Process, Spawned
    from devsup.system.terminal import Streams, Terminal


@dataclass
class WorkerHandle:
    """A running worker, as the supervisor sees it."""

    generation: int
    process: Process
    streams: Streams
    tree: Tree
    stop_signal: int = signal.SIGTERM
    stops_by_signal: bool = False
    links: list[Link] = field(default_factory=list)
    _alone: bool = False
    _looking: anyio.Lock = field(default_factory=anyio.Lock)
    _told: bool = False  # by a signal to the whole group

    @property
    def pid(self) -> int:
        """The main process, which leads the group."""
        return self.process.pid

    def serving(self) -> list[Link]:
        """The links of the processes that serve."""
        return [link for link in self.links if link.serves]

    def is_debugged(self) -> bool:
        """Somebody looks at a process of it, or it reads from the terminal: no limit counts."""
        return any(link.prompts or link.debugged for link in self.links)

    async def tell(self, op: str, **fields: Any) -> None:
        """Send a command to every process that serves."""
        for link in self.serving():
            await link.send(op, **fields)

    async def stop(self, *, cut: bool, final: bool) -> None:
        """Ask it to end: over the link, else by one signal (DESIGN 9). After a `final` stop no worker follows."""
        if self.serving() and not self.stops_by_signal:
            await self.tell("stop", cut=cut, final=final)
            return
        await anyio.to_thread.run_sync(self.tree.members)  # now, while every parent still runs
        if self.links or self.stops_by_signal:
            self._signal_main(self.stop_signal)
        else:
            self._told = self.tree.signal_group(self.stop_signal)

    async def look_around(self) -> None:
        """Find out whether nothing but the main process runs."""
        async with self._looking:
            self._alone = set(await anyio.to_thread.run_sync(self.tree.members)) <= {self.pid}

    async def is_alone(self) -> bool:
        """Whether nothing but the main process runs, as far as is known."""
        async with self._looking:
            known = self._alone
        if not known:
            await self.look_around()
        return self._alone

    def interrupt(self, link: Link) -> None:
        """As Ctrl-C would, the process of this link alone; the main process when it has gone."""
        if link in self.links:
            with suppress(ProcessLookupError):
                os.kill(link.pid, signal.SIGINT)
        else:
            self._signal_main(signal.SIGINT)

    def _signal_main(self, number: int) -> None:
        if self.process.is_running:
            with suppress(ProcessLookupError):  # it has just gone
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End the whole tree now."""
        self.tree.kill()

    async def end_leftovers(self) -> list[int]:
        """After the main process has gone: end what it has left. Returns who had to be ended.

        Who was signalled with it is only waited for: behind a launcher (npm) that is the server, and it may still be answering.
        """
        if self._told:
            await self.tree.until_group_gone()
        return await self.tree.end()

    async def wait(self) -> Exit:
        """How the main process ended."""
        code = await self.process.wait()
        return Exit(code=code) if code >= 0 else Exit(signal=-code)


@asynccontextmanager
async def worker(
    spawned: Spawned,
    generation: int,
    token: str,
    terminal: Terminal,
    stop_signal: int = signal.SIGTERM,
    *,
    stops_by_signal: bool = False,
) -> AsyncIterator[WorkerHandle]:
    """Own a process that was just spawned; when the block ends nothing of its tree is left."""
    tree = Tree(spawned.process.pid, token)
    handle = WorkerHandle(generation, spawned.process, spawned.streams, tree, stop_signal, stops_by_signal)
    try:
        yield handle
    finally:
        with anyio.CancelScope(shield=True):
            if spawned.process.is_running:
                handle.kill()
                await handle.wait()
                await handle.tree.end()
            await terminal.finished(spawned.streams)
