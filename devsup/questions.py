"""What somebody asks of the workers that run: what is active, whether files compile, where everything stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.decide import vocabulary as words

if TYPE_CHECKING:
    from devsup.supervisor import Supervisor
    from devsup.system.link import Link


class Questions:
    """Asks the agents of one service."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def active(self, limit: float = float("inf")) -> list[events.Active]:
        """What a reload waits for, as the agents tell within `limit` seconds; with none under way, all that is active."""
        supervisor, found = self._supervisor, list[events.Active]()
        phase = supervisor.phase
        deferred = isinstance(phase, words.Serving) and phase.stale  # until an older worker has finished
        workers = supervisor.workers.values()
        asked = [each.handle for each in workers if each.handle and not (deferred and each is supervisor.current)]

        async def ask(link: Link) -> None:
            answer = await link.ask("status")
            found.extend(events.Active(**item) for item in (answer["items"] if answer is not None else ()))

        with anyio.move_on_after(limit):
            links = [link for handle in asked for link in handle.serving()]
            if asked and not links:
                return await supervisor.foreign.active()
            async with anyio.create_task_group() as asking:
                for link in links:
                    asking.start_soon(ask, link)
        return found

    async def tell_status(self) -> None:
        """What is active now, as an event: the answer to the key `s`."""
        current, phase = self._supervisor.current, type(self._supervisor.phase).__name__.lower()
        pid = current.handle.pid if current.handle is not None else None
        told = events.Status(generation=current.generation, pid=pid, phase=phase, active=await self.active())
        self._supervisor.bus.publish(told)

    async def tell_stacks(self) -> None:
        """Where everything stands, as an event: the answer to the key `t`."""
        current = self._supervisor.current
        found = await self._supervisor.hangs.stacks(current)
        self._supervisor.bus.publish(events.Stacks(generation=current.generation, stacks=found))

    async def compile(self, paths: list[str]) -> list[events.BrokenFile]:
        """What the worker's own interpreter thinks of changed files; without an agent nothing is checked."""
        handle = self._supervisor.current.handle
        link = next(iter(handle.links), None) if handle is not None and paths else None
        answer = await link.ask("compile", paths=paths) if link is not None else None
        return [events.BrokenFile(**error) for error in answer["errors"]] if answer is not None else []
