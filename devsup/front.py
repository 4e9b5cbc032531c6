"""What clients meet while no worker serves: connections that are kept for the next one, and answers that say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.system import placeholder
from devsup.system.connections import Connections

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from devsup.bus import Bus
    from devsup.system.listener import Listeners
    from devsup.system.worker import WorkerHandle

_STARTING = "It is still starting. Its terminal says more."


class Front:
    """Stands on the kept listeners. `failure` is why no worker runs, empty while one does or may."""

    def __init__(self, bus: Bus, tasks: TaskGroup, listeners: Listeners) -> None:
        self._bus, self._tasks, self._listeners = bus, tasks, listeners
        self._idle = Connections()
        self._answering: anyio.CancelScope | None = None
        self._worker: WorkerHandle | None = None
        self.failure = ""

    def answer(self, intended: tuple[str, int] | None) -> None:
        """Clients get a 503, also those of an address that the worker only meant to serve."""
        self.stop()
        self._worker = None
        if not self._listeners.kept and intended is not None:
            self._listeners.open(*intended)
        if self._listeners.kept:
            self._answering = anyio.CancelScope()
            shown = events.PlaceholderShown(urls=self._listeners.urls(), reason=self.failure.partition("\n")[0])
            self._bus.publish(shown)
            self._tasks.start_soon(self._run, self._answering)

    def stop(self) -> None:
        """A worker boots, or serves: who comes now waits for it."""
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None

    async def _run(self, scope: anyio.CancelScope) -> None:
        idle = self._idle.take()
        with scope:
            listeners = [kept.sock for kept in self._listeners.kept.values()]
            await placeholder.answer(listeners, idle, lambda: self.failure or _STARTING, self._tasks)
        self._idle.keep([each.detach() for each in idle])
        await self._pass_on()

    def keep(self, fds: list[int]) -> None:
        """A worker lets these connections go: they are the next one's, which may serve already."""
        self._idle.keep(fds)
        self._tasks.start_soon(self._pass_on)

    def wait(self) -> None:
        """No worker takes connections until `serve`."""
        self._worker = None

    def serve(self, worker: WorkerHandle) -> None:
        """A worker serves: from now on all connections are its own."""
        self.failure = ""
        self._worker = worker
        self._tasks.start_soon(self._pass_on)

    async def _pass_on(self) -> None:
        if self._worker is None:
            return
        link = next((link for link in self._worker.serving() if link.adopts), None)
        if link is not None:
            await self._idle.give(link)
        else:
            self._idle.close()

    def close(self) -> None:
        """Nobody will serve."""
        self.stop()
        self._idle.close()
