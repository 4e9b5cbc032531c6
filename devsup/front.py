"""What clients meet while no worker serves: connections that are kept for the next one, and answers that say why."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import msgspec

from devsup import events
from devsup.system import placeholder
from devsup.system.connections import Connections

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from devsup.bus import Bus
    from devsup.system.listener import Listeners
    from devsup.system.placeholder import Answer, Asked
    from devsup.system.worker import WorkerHandle


class Render(Protocol):
    """Puts an outage into an answer; None: the client is not to know more than that there is one."""

    def __call__(self, outage: events.Outage | None, *, version: str, accept: str, agent: str, method: str) -> Answer: ...


class Front:
    """Stands on the kept listeners. `outage` is why no worker runs, None while one does or may; `doing` is what a boot does."""

    def __init__(self, bus: Bus, tasks: TaskGroup, listeners: Listeners, render: Render) -> None:
        self._bus, self._tasks, self._listeners, self._render = bus, tasks, listeners, render
        self._idle = Connections()
        self._answering: anyio.CancelScope | None = None
        self._worker: WorkerHandle | None = None
        self._outage: events.Outage | None = None
        self._starting: float | None = None
        self._version, self._changed = 0, anyio.Event()
        self.doing = ""

    @property
    def outage(self) -> events.Outage | None:
        """Why no worker runs."""
        return self._outage

    @outage.setter
    def outage(self, outage: events.Outage | None) -> None:
        self._outage, self._starting = self._bus.masked(outage) if outage is not None else None, None
        self._turn()

    def _turn(self) -> None:
        """There is something new to say to those who wait for it."""
        self._version += 1
        self._changed.set()
        self._changed = anyio.Event()

    def answer(self, intended: tuple[str, int] | None, starting: float | None) -> None:
        """Clients get a 503, also those of an address that the worker only meant to serve; `starting` since (monotonic)."""
        self.stop()
        self._worker, self._starting = None, starting
        self._turn()
        if not self._listeners.kept and intended is not None:
            self._listeners.open(*intended)
        if self._listeners.kept:
            self._answering = anyio.CancelScope()
            how = self._outage.how if self._outage is not None else ""
            self._bus.publish(events.PlaceholderShown(urls=self._listeners.urls(), reason=how))
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
            await placeholder.answer(listeners, idle, placeholder.Desk(self._respond, self._news), self._tasks)
        self._idle.keep([each.detach() for each in idle])
        await self._pass_on()

    def _respond(self, asked: Asked) -> Answer | None:
        """None once a worker serves."""
        if self._worker is not None:
            return None
        outage = self._outage
        if self._starting is not None:
            outage = msgspec.structs.replace(outage or events.Outage(), starting=self._starting, doing=self.doing)
        told = (outage or events.Outage()) if asked.is_local else None
        render = partial(self._render, version=str(self._version), accept=asked.accept, agent=asked.agent, method=asked.method)
        try:
            return render(told)
        except Exception as exc:  # noqa: BLE001 - what cannot be shown must not end the service
            self._bus.publish(events.Trouble(text=f"the error page cannot be made: {exc!r}"))
            return render(None)

    async def _news(self, seen: str) -> None:
        """Wait until there is something newer than what a page has seen."""
        if str(self._version) == seen:
            await self._changed.wait()

    def keep(self, fds: list[int]) -> None:
        """A worker lets these connections go: they are the next one's, which may serve already."""
        self._idle.keep(fds)
        self._tasks.start_soon(self._pass_on)

    def wait(self) -> None:
        """No worker takes connections until `serve`."""
        self._worker = None

    def serve(self, worker: WorkerHandle) -> None:
        """A worker serves: from now on all connections are its own."""
        self._worker = worker
        self.outage = None
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
