"""Working, not merely running: the probes of a service's workers, and what follows when one of them stalls."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.decide import vocabulary as words
from devsup.decide.health import Failing, Stalled, Well
from devsup.health import READY, Health

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devsup.config import Probe
    from devsup.current import Current
    from devsup.decide.health import Verdict
    from devsup.supervisor import Supervisor

_MOST = 3  # times in a row that a service is restarted for the same probe


class Working:
    """Watches one service's workers, each with a health of its own. A subscriber of its bus."""

    def __init__(self, supervisor: Supervisor, probes: Mapping[str, Probe]) -> None:
        self._supervisor, self._probes = supervisor, probes
        self._healths: dict[int, tuple[Health, anyio.CancelScope]] = {}  # by generation
        self._restarts: Counter[str] = Counter()

    def __call__(self, _at: float, _service: str, event: events.Event) -> None:
        match event:
            case events.WorkerSpawned(generation=generation):
                self._supervisor.tasks.start_soon(self._watch, self._supervisor.workers[generation])
            case events.WorkerReady(generation=generation):
                for older in [each for each in self._healths if each < generation]:
                    self._end(older)
            case events.WorkerExited(generation=generation):
                self._end(generation)
            case events.ReloadStarted():
                self.pause()
            case events.ReloadCancelled() | events.WorkerFailed(serving=True):
                for health, _ in self._healths.values():
                    health.resume()
            case _:
                pass

    def pause(self) -> None:
        """Ask nothing and keep nothing open: a server that is to end would wait for that."""
        for health, _ in self._healths.values():
            health.pause()

    def _end(self, generation: int) -> None:
        if generation in self._healths:
            self._healths.pop(generation)[1].cancel()

    def reasons(self) -> dict[str, str]:
        """What is not well now, by probe, as it is at this moment."""
        health, _ = self._healths.get(self._supervisor.current.generation, (None, None))
        verdicts = health.verdicts.items() if health is not None else ()
        return {name: verdict.reason for name, verdict in verdicts if not isinstance(verdict, Well)}

    def proves(self, name: str) -> bool:
        """Whether this probe has seen of the current worker what it is there to see, such as a growth."""
        health, _ = self._healths.get(self._supervisor.current.generation, (None, None))
        return health is not None and name not in health.unproved

    async def _watch(self, current: Current) -> None:
        """One worker, from its spawn to its end."""
        plan, ears = self._supervisor.plan, self._supervisor.terminal.voice.ears

        def tell(name: str, verdict: Verdict) -> None:
            self._supervisor.tasks.start_soon(self._tell, current, name, verdict)

        health = Health(self._probes, plan.cwd, plan.environment, lambda: self.url(current), tell)
        ears.append(health.feed)
        try:
            with anyio.CancelScope() as scope:
                self._healths[current.generation] = health, scope
                await health.until_ready()
                if READY in self._probes:
                    self._serves(current)
                    self._publish(READY, Well())
                await current.serves.wait()
                await health.watch()
        finally:
            ears.remove(health.feed)

    def _serves(self, current: Current) -> None:
        """The probe says so of a program that no agent, and no port, will speak for."""
        if current.ready is None and self._supervisor.plan.is_portless and not current.listened:
            self._supervisor.ready(current, "foreign", "", [], [])

    def url(self, current: Current) -> str:
        """Where the worker answers; nothing until it does."""
        if current.told is None:
            return ""
        urls = current.told.urls or self._supervisor.listeners.urls()
        ports = [f"http://127.0.0.1:{port}" for port in self._supervisor.plan.ports]
        return next(iter((*urls, *ports)), "").replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")

    def _publish(self, name: str, verdict: Verdict) -> None:
        kind = {Well: "well", Failing: "failing", Stalled: "stalled"}[type(verdict)]
        reason = "" if isinstance(verdict, Well) else verdict.reason
        self._supervisor.bus.publish(events.Probed(probe=name, verdict=kind, reason=reason))

    async def _tell(self, current: Current, name: str, verdict: Verdict) -> None:
        self._publish(name, verdict)
        if isinstance(verdict, Well):
            self._restarts[name] = 0
        if not isinstance(verdict, Stalled) or name == READY:
            return
        handle = current.handle
        action: str = self._probes[name].on_stall
        if action != "warn" and handle is not None and handle.is_debugged():
            action = "debugged"
        elif action == "restart" and self._restarts[name] >= _MOST:
            action = "given up"
        active = await self._supervisor.ask.active(1.0)
        stacks = await self._supervisor.hangs.stacks(current)
        told = events.ServiceStalled(
            generation=current.generation, probe=name, reason=verdict.reason, action=action, stacks=stacks, active=active
        )
        self._supervisor.bus.publish(told)
        if current is not self._supervisor.current:
            return
        if action == "restart":
            self._restarts[name] += 1
            self._supervisor.put(words.ReloadAsked(now=True))
        elif action == "stop":
            self._supervisor.put(words.StopAsked())
