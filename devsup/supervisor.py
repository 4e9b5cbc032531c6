"""One service's loop: a fact comes in, the policy says what follows, and it is carried out."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import anyio
import msgspec

from devsup import events
from devsup.changes import Changes
from devsup.current import Current
from devsup.decide import policy, secrets
from devsup.decide import vocabulary as words
from devsup.errors import UsageError
from devsup.explain import End, explain
from devsup.foreign import Foreign
from devsup.forks import Forks
from devsup.front import Front
from devsup.hangs import Hangs
from devsup.questions import Questions
from devsup.reloads import Reloads
from devsup.system.blackbox import BlackBox
from devsup.system.memory import oom_kills
from devsup.system.spawn import spawn
from devsup.system.worker import worker
from devsup.unhandled import Unhandled

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from devsup.bus import Bus
    from devsup.front import Render
    from devsup.launch import Plan
    from devsup.system.link import Link
    from devsup.system.listener import Listeners
    from devsup.system.meeting import Meeting
    from devsup.system.spawn import Spawned
    from devsup.system.terminal import Terminal
    from devsup.system.worker import WorkerHandle

_LAST_WORDS = 0.2  # seconds to say what is cut
_LETS_GO = 0.5  # seconds that a worker has to let nothing new in: longer, and its loop hangs
_SLEEPER = 0.3  # seconds that a program has to notice the end of its server


class Supervisor:
    """Holds a service's state; nobody else changes it. `on_spawn` is told each worker's process group."""

    def __init__(
        self,
        plan: Plan,
        bus: Bus,
        terminal: Terminal,
        meeting: Meeting,
        listeners: Listeners,
        tasks: TaskGroup,
        on_spawn: Callable[[int], None],
        render: Render,
    ) -> None:
        self.plan, self.bus, self.terminal, self.listeners = plan, bus, terminal, listeners
        self._meeting, self.tasks, self._on_spawn = meeting, tasks, on_spawn
        with suppress(UsageError):  # an env file that cannot be read: the spawn will tell
            bus.secrets = secrets.values(plan.environment())
        self.unhandled = Unhandled(plan, bus)
        self.ask, self.hangs = Questions(self), Hangs(self, plan.loop_block_warn)
        self.changes = Changes(plan.rules, bus, self.put, self.ask.compile, Path(meeting.file("writes")))
        self.reloads = Reloads(bus, tasks, self.changes, self.ask.active, self._stop_limit)
        self.foreign = Foreign(self, plan.probe)
        self.forks = Forks(plan, bus, terminal, meeting, tasks, lambda: {**plan.environment()})
        self.current = Current(0, 0.0, BlackBox(meeting.box(0)))  # the newest; with a handover another one may serve
        self.workers: dict[int, Current] = {}  # all that run
        self._send, self._inbox = anyio.create_memory_object_stream[words.Fact](float("inf"))
        self.front = Front(bus, tasks, listeners, render)
        self._left: list[int] = []
        self._first: tuple[Spawned, float] | None = None
        self.phase: words.Phase = words.Over(0)
        self.on_phase: Callable[[], None] = lambda: None

    def put(self, fact: words.Fact) -> None:
        """Anyone may say what happened."""
        self._send.send_nowait(fact)

    def group(self) -> int | None:
        """The process group of the current worker."""
        return self.current.handle.pid if self.current.handle is not None else None

    def has_agent(self) -> bool:
        """Whether an agent is in the current worker, which will say when it serves."""
        return self._meeting.has_agent(self.current.generation)

    async def run(self, first: tuple[Spawned, float] | None, spawned: int) -> int:
        """Run the service to its end, after so many workers of its former lives; returns its exit code.

        `first` is a worker that is spawned already, and when it was.
        """
        self._first = first
        state, commands = policy.begin(self.plan.limits, spawned)
        self._enter(state.phase)
        await self._carry_out(commands)
        while not isinstance(state.phase, words.Over):
            fact = await self._inbox.receive()
            state, commands = policy.step(state, fact)
            self._enter(state.phase)
            await self._carry_out(commands)
        self.front.close()
        self.bus.publish(events.Stopped(code=state.phase.code, left=self._left))
        return state.phase.code

    def _enter(self, phase: words.Phase) -> None:
        self.current = self.workers.get(phase.generation, self.current)  # the one before, when the new one came to nothing
        if self.current.handle is not None:
            self.terminal.serve(self.current.handle.streams)
        if isinstance(phase, words.Stopping) and phase.then == "end" and phase != self.phase:
            self.bus.publish(events.Stopping(reason="asked to"))
        if phase != self.phase:
            self.phase = phase
            self.reloads.entered(phase)
            self.on_phase()

    # -- what the policy asks for -----------------------------------------------------------------------------------

    async def _carry_out(self, commands: words.Commands) -> None:
        for command in commands:
            await self._do(command)

    async def _do(self, command: words.Command) -> None:
        handle = self._handle(getattr(command, "generation", 0))
        match command:
            case words.Spawn(generation):
                passed = time.monotonic() - self._first[1] if self._first is not None else 0.0
                changed = frozenset(self.changes.dirty)
                box = BlackBox(self._meeting.box(generation))
                current = Current(generation, time.monotonic() - passed, box, changed=changed, oom_kills=oom_kills())
                self.current = self.workers[generation] = current
                self.changes.spawned(generation, passed)
                self.tasks.start_soon(self._live, self.current)
            case words.SetTimer():
                self.tasks.start_soon(self._fire, command)
            case words.Tell(event):
                self.bus.publish(event)
            case words.Answer(on=True):
                starting = self.current.spawned if isinstance(self.phase, words.Starting) else None
                if starting is not None:
                    self.tasks.start_soon(self.hangs.look, self.current)
                self.front.answer(self.current.intended if self.current.ready is None else None, starting)
            case words.Answer():
                self.front.stop()
            case words.Announce(generation) if generation in self.workers:
                self._announce(self.workers[generation])
            case words.Retire(_, final) if handle is not None:
                self.front.wait()
                await self._retire(handle, final=final)
            case words.Stop(_, cut, final) if handle is not None:
                self.tasks.start_soon(handle.look_around)
                await handle.stop(cut=cut, final=final)
            case words.Kill() if handle is not None:
                await self._name_lost()
                await self.hangs.tell_of_end(self.workers[handle.generation])
                await anyio.to_thread.run_sync(handle.kill)
            case words.AskDrain() | words.CloseGate() | words.OpenGate() if handle is not None:
                await self._drain(handle, command)
            case _:  # it could not even be started, or is gone
                return

    async def _drain(self, handle: WorkerHandle, command: words.AskDrain | words.CloseGate | words.OpenGate) -> None:
        match command:
            case words.AskDrain(generation, number):
                await self._ask(handle, "drain", words.Cleared(generation, number))
            case words.CloseGate(generation, number):
                self.front.wait()
                await self._ask(handle, "close_gate", words.Drained(generation, number))
            case words.OpenGate(generation):
                await handle.tell("open_gate")
                if generation in self.workers and self.workers[generation].announced:
                    self.front.serve(handle)
            case _:
                assert_never(command)

    def _handle(self, generation: int) -> WorkerHandle | None:
        return self.workers[generation].handle if generation in self.workers else None

    async def _retire(self, handle: WorkerHandle, *, final: bool) -> None:
        """Nothing new goes to it; when it says so, what comes after is the next worker's."""
        if final:
            await handle.stop(cut=False, final=True)
            return
        async with anyio.create_task_group() as asking:
            for link in handle.serving():
                asking.start_soon(partial(link.ask, "retire", limit=_LETS_GO))

    async def _name_lost(self) -> None:
        """What devsup's own end cuts; a reload's has said so when it cut."""
        if not (isinstance(self.phase, words.Stopping) and self.phase.then == "end"):
            return
        for each in await self.ask.active(_LAST_WORDS):
            lost = events.WorkLost(self.phase.generation, each.name, each.age, "", each.origin, each.count)
            self.bus.publish(lost)

    async def _ask(self, handle: WorkerHandle, op: str, then: words.Cleared | words.Drained) -> None:
        """Every process that serves is asked; the fact is true when all have said so."""
        if not handle.serving():
            self.tasks.start_soon(self._settle, then)
            return
        for link in handle.links:  # who listens will serve in a moment, and may have let somebody in
            link.awaits = (op, then) if link.serves or (link.listens and op == "close_gate") else None
        for link in handle.serving():
            await link.send(op, seq=then.round)

    def holds(self, generation: int) -> bool:
        """Whether no process of that worker may let anything new in."""
        match self.phase:
            case words.Waiting(closed=held):
                return held
            case words.Starting(before=before) | words.Stopping(before=before) if before:
                return generation != before
            case phase:
                return isinstance(phase, words.Stopping)

    async def joins(self, link: Link) -> None:
        """A process serves late, when the others let nothing new in any more: it is waited for as they are."""
        if isinstance(self.phase, words.Waiting) and self.phase.closed:
            link.awaits = ("close_gate", words.Drained(self.phase.generation, self.phase.round))
            await link.send("close_gate", seq=self.phase.round)

    async def _settle(self, then: words.Cleared | words.Drained) -> None:
        """Without an agent there is no gate: what matters is over when the server is seen at rest."""
        if isinstance(then, words.Cleared):
            await self.foreign.settle(lambda: isinstance(self.phase, words.Waiting) and self.phase.round == then.round)
        self.put(then)

    def said(self, op: str, link: Link, seq: int) -> None:
        """An agent is done with a command."""
        if link.awaits is None or link.awaits[0] != op or link.awaits[1].round != seq:
            return
        fact, link.awaits = link.awaits[1], None
        handle = self.current.handle
        if handle is not None and not any(each.awaits for each in handle.links):
            self.put(fact)

    async def _fire(self, timer: words.SetTimer) -> None:
        await anyio.sleep(timer.seconds)
        self.put(words.TimerFired(timer.name, timer.generation, timer.round))

    # -- a worker's life --------------------------------------------------------------------------------------------

    async def _live(self, current: Current) -> None:
        """One worker, from its spawn until nothing of it is left."""
        generation, token = current.generation, self._meeting.token(current.generation)
        try:
            spawned = await self._spawn(current)
        except UsageError as exc:
            self.front.outage = events.Outage(how=str(exc))  # what is missing may come back with the next save
            del self.workers[generation]
            self.bus.publish(events.Trouble(text=str(exc)))
            ended, serving = events.Exit(code=exc.exit_code), isinstance(self.phase, words.Starting) and self.phase.before > 0
            self.bus.publish(events.WorkerFailed(generation, ended, str(exc), self.plan.is_final, serving))
            self.put(words.WorkerExited(generation, ended, time.monotonic()))
            return
        how, by_signal = self.plan.stop_signal, self.plan.stops_by_signal
        async with worker(spawned, generation, token, self.terminal, how, stops_by_signal=by_signal) as handle:
            current.handle = handle
            current.started.set()
            self.reloads.mark("forked" if current.forked else "spawned", time.monotonic())
            self._on_spawn(handle.pid)
            self.bus.publish(events.WorkerSpawned(generation=generation, pid=handle.pid))
            async with anyio.create_task_group() as watch:
                watch.start_soon(self.foreign.recognise, current)
                watch.start_soon(self.hangs.watch_start, current)
                ended = await handle.wait()
                watch.cancel_scope.cancel()
            left = await handle.end_leftovers()
            self._left += left
            if current is self.current:
                await self.foreign.freed()
            if left and ended.code == 0 and current.ready is None and not isinstance(self.phase, words.Stopping):
                text = f"It ended, and what it had left in the background (pid {', '.join(map(str, left))}) was ended too."
                self.bus.publish(events.Trouble(text=f"{text} Start a server in the foreground: devsup can keep no other."))
            if ended.code != 0:  # its last words belong to the diagnosis
                await self.terminal.finished(handle.streams)
            await self._ended(current, handle, ended)
            current.box.remove()
            del self.workers[generation]

    async def _spawn(self, current: Current) -> Spawned:
        if self._first is not None:
            (spawned, _), self._first = self._first, None
            return spawned
        kept = " ".join(map(str, self.listeners.ports()))
        ours = {**self._meeting.environment(current.generation), **self.changes.environment(), "DEVSUP_KEPT": kept}
        if self.holds(current.generation):
            ours["DEVSUP_HELD"] = "1"
        environment = {**self.plan.environment(), **ours}
        self.bus.secrets = secrets.values(environment)
        name = self.plan.worker(current.generation)
        forked = await self.forks.spawn(environment, current.changed, name)
        current.forked = forked is not None
        return forked or spawn(self.plan.command, self.plan.cwd, environment, self.terminal, name)

    async def _ended(self, current: Current, handle: WorkerHandle, ended: events.Exit) -> None:
        """The main process is gone: tell it, and let the policy go on."""
        now, is_newest = time.monotonic(), current is self.current
        expected = isinstance(self.phase, words.Stopping) or not is_newest
        served = None if current.ready is None else now - current.ready
        self.listeners.listen_again()
        self.terminal.prompting = self.terminal.prompting and not is_newest
        failed = served is None and not expected and (ended.code != 0 or current.listened)
        tail = handle.streams.tail()
        doubted = not expected and self.forks.doubts(current, ended, served, tail)
        if current.refused is not None and failed:
            self.bus.publish(current.refused)
        self.bus.publish(
            events.WorkerExited(generation=current.generation, pid=handle.pid, exit=ended, served=served, expected=expected)
        )
        end = End(ended, handle.pid, served, tail)
        why = None if expected or doubted or current.refused is not None else await self._why(current, end)
        if why is not None:
            self.bus.publish(events.Diagnosed(generation=current.generation, diagnosis=why))
        if current.refused is None and failed and not doubted:
            self.changes.failed()
            serving = isinstance(self.phase, words.Starting) and self.phase.before > 0
            final, generation = self.plan.is_final, current.generation
            self.bus.publish(events.WorkerFailed(generation=generation, exit=ended, tail=tail, final=final, serving=serving))
        if not expected:
            how = f"The worker (generation {current.generation}) ended: {ended.text}."
            self.front.outage = events.Outage(generation=current.generation, how=how, diagnosis=why, tail=tail)
        refused = current.refused.code if current.refused is not None else None
        killed = current.was_killed(ended, now)
        self.put(words.WorkerExited(current.generation, ended, now, current.listened, refused, doubted, killed))

    async def _why(self, current: Current, end: End) -> events.Diagnosis | None:
        try:
            return await explain(self.plan, current, end, self.bus.hide)
        except Exception as exc:  # noqa: BLE001 - a diagnosis never ends the service
            self.bus.publish(events.Trouble(text=f"its end could not be explained: {exc!r}"))
            return None

    async def wake_sleeper(self, current: Current, link: Link) -> None:
        """A server that ran in a thread has ended: a main thread that sleeps beside it is told, as by Ctrl-C."""
        await anyio.sleep(_SLEEPER)
        handle = current.handle
        if handle is not None and not handle.serving() and isinstance(self.phase, words.Stopping):
            handle.interrupt(link)

    async def over(self, link: Link) -> None:
        """A program is over but for its interpreter: if nothing else of its tree runs, the next one may start."""
        handle, link.serves = self._handle(link.generation), False
        if handle is not None and handle.pid == link.pid and await handle.is_alone():
            self.put(words.WorkerLeft(link.generation))

    def ready(self, current: Current, server: str, python: str, urls: list[str], routes: list[str]) -> None:
        """A worker serves; an agent may say so of one that was taken for foreign."""
        if current.handle is None or (current.ready is not None and not (current.server == "foreign" != server)):
            return
        current.ready, current.server = time.monotonic(), server
        current.serves.set()
        if server == "foreign" and self.plan.limits.reload == "handover" and not any(w.announced for w in self.workers.values()):
            problem = "--reload handover needs devsup inside the server, to hand its listener from one worker to the next."
            remedy = "This one has no agent: run it with --reload drain (or restart)."
            current.refused = events.Refused(problem=problem, remedy=remedy, code=2)
            self.bus.publish(current.refused)
            self.put(words.StopAsked())
        current.told = events.WorkerReady(
            generation=current.generation,
            pid=current.handle.pid,
            server=server,
            python=python,
            urls=urls,
            routes=routes,
            seconds=current.ready - current.spawned,
        )
        if current.announced:
            self._announce(current)
        else:
            self.put(words.WorkerReady(current.generation))

    def _announce(self, current: Current) -> None:
        if current.told is None or current.ready is None or current.handle is None:
            return
        current.announced = True
        if not current.forked:
            self.tasks.start_soon(self.forks.watch, lambda: current is self.current and current.generation in self.workers)
        self.front.serve(current.handle)
        self.unhandled.look(current)
        self.changes.ready()
        for address in self.listeners.close_unserved(current.generation) if current.server != "foreign" else []:
            self.bus.publish(events.ListenerClosed(url=address.url))
        self.bus.publish(msgspec.structs.replace(current.told, urls=current.told.urls or self.listeners.urls()))
        self.reloads.ready(current.generation, current.spawned, current.ready)

    def _stop_limit(self) -> float | None:
        handle = self.current.handle
        return None if handle is not None and handle.is_debugged() else self.plan.limits.stop_timeout
