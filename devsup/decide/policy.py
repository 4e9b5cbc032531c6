"""The reload state machine: `step(state, fact) -> (state, commands)`.

Theory of operation. One service has at most one worker that is not on its way out; each is numbered by its generation, and a
fact about a generation that is not the current one is stale and changes nothing. Timers are facts too: they carry the
generation and the round for which they were set, so none need ever be cancelled.

    Starting ──ready──▶ Serving ──change──▶ Waiting ──drained──▶ Stopping ──exited──▶ Starting …
        │                  │                   │ gate open: what was active at the change still runs, new work is let in
        │ exited           │ exited            │ gate closed: new work waits in the kernel, at most `gate_timeout` a round
        ▼                  ▼
     Broken ◀──3 in 60 s── Resting (back-off)          a save leaves Broken and Resting for Starting; Over is the end

A save while a worker boots is remembered (`stale`) and becomes one more reload. While a debugger prompts or is attached no limit
counts, but for the end of a worker whose work the user cuts: a timer that fires is set again.
"""

from __future__ import annotations

from typing import Literal, assert_never

from msgspec.structs import replace

from devsup import events
from devsup.decide import flapping
from devsup.decide.vocabulary import (
    Answer,
    AskDrain,
    Broken,
    Changed,
    Cleared,
    CloseGate,
    Commands,
    Drained,
    Fact,
    Kill,
    Limits,
    OpenGate,
    Over,
    Prompted,
    ReloadAsked,
    Resting,
    Serving,
    SetTimer,
    Spawn,
    Starting,
    State,
    Step,
    Stop,
    StopAsked,
    Stopping,
    Tell,
    TimerFired,
    Unchanged,
    Waiting,
    WorkerExited,
    WorkerReady,
)


def begin(limits: Limits) -> tuple[State, Commands]:
    """The first state and what to do in it."""
    phase, commands = _start(0, limits)
    return State(phase, limits), commands


def step(state: State, fact: Fact) -> tuple[State, Commands]:
    """What follows from one fact."""
    match fact:
        case Prompted(on):
            state = replace(state, prompting=on)
        case Changed() | ReloadAsked():
            state = replace(state, crashes=())
        case WorkerExited(generation, at=at) if generation == state.phase.generation:
            crashes = flapping.add(state.crashes, at) if isinstance(state.phase, Serving) else state.crashes
            state = replace(state, prompting=False, crashes=crashes)
        case _:
            pass
    phase, commands = _next(state, fact)
    rounds = phase.round if isinstance(phase, Waiting) else state.rounds
    return replace(state, phase=phase, rounds=rounds), commands


def _next(state: State, fact: Fact) -> Step:
    phase = state.phase
    generation = getattr(fact, "generation", phase.generation)
    if isinstance(phase, Over) or generation != phase.generation:
        return phase, ()
    match phase:
        case Starting():
            return _while_starting(phase, state, fact)
        case Serving():
            return _while_serving(phase, state, fact)
        case Waiting():
            return _while_waiting(phase, state, fact)
        case Stopping():
            return _while_stopping(phase, state, fact)
        case Resting() | Broken():
            return _while_down(phase, state.limits, fact)
    assert_never(phase)


def _start(previous: int, limits: Limits) -> Step:
    generation = previous + 1
    return Starting(generation), (Answer(on=False), Spawn(generation), SetTimer("hold", limits.hold, generation))


def _stop(generation: int, then: Literal["start", "end"], limits: Limits, *, cut: bool) -> Step:
    return Stopping(generation, then), (Stop(generation, cut, then == "end"), SetTimer("stop", limits.stop_timeout, generation))


def _reload(generation: int, state: State) -> Step:
    limits = state.limits
    if limits.reload == "drain":
        number = state.rounds + 1
        timer = SetTimer("drain", limits.drain_timeout, generation, number)
        return Waiting(generation, round=number, first=number), (AskDrain(generation, number), timer)
    if state.prompting:  # nothing is restarted under a debugger's prompt
        return Serving(generation, stale=True), ()
    return _stop(generation, "start", limits, cut=True)


def _while_starting(phase: Starting, state: State, fact: Fact) -> Step:
    generation, limits = phase.generation, state.limits
    match fact:
        case Changed() if limits.reload == "off":
            return phase, ()
        case Changed() if not phase.late or state.prompting:
            return replace(phase, stale=True), ()
        case Unchanged():
            return replace(phase, stale=False), ()
        case Prompted(on=False) if phase.stale and phase.late:
            return _stop(generation, "start", limits, cut=True)
        case Changed() | ReloadAsked():
            return _stop(generation, "start", limits, cut=True)
        case StopAsked():
            return _stop(generation, "end", limits, cut=False)
        case WorkerReady():
            followed, commands = _reload(generation, state) if phase.stale else (Serving(generation), ())
            return followed, (Answer(on=False), *commands)
        case TimerFired(name="hold") if state.prompting:
            return phase, (SetTimer("hold", limits.hold, generation),)
        case TimerFired(name="hold") if phase.stale:
            return _stop(generation, "start", limits, cut=True)
        case TimerFired(name="hold"):
            return replace(phase, late=True), (Answer(on=True),)
        case WorkerExited():
            return _after_failed_start(phase, limits, fact)
        case _:
            return phase, ()


def _after_failed_start(phase: Starting, limits: Limits, fact: WorkerExited) -> Step:
    generation = phase.generation
    if fact.refused is not None:
        return Over(fact.refused), ()
    if fact.exit.code == 0 and not fact.listened:
        return Over(0), ()
    if phase.stale:
        return _start(generation, limits)
    if limits.reload == "off":
        return Over(exit_code(fact.exit)), ()
    if limits.exit_on_failure:
        return Over(1), ()
    return Broken(generation), (Answer(on=True),)


def _while_serving(phase: Serving, state: State, fact: Fact) -> Step:
    generation, limits = phase.generation, state.limits
    match fact:
        case Changed() if limits.reload == "off":
            return phase, ()
        case ReloadAsked() if limits.reload != "drain":
            return _stop(generation, "start", limits, cut=True)
        case Changed() | ReloadAsked():
            return _reload(generation, state)
        case Prompted(on=False) if phase.stale:
            return _reload(generation, state)
        case Unchanged():
            return Serving(generation), ()
        case StopAsked():
            return _stop(generation, "end", limits, cut=False)
        case WorkerExited():
            return _after_death(generation, state, fact)
        case _:
            return phase, ()


def _after_death(generation: int, state: State, fact: WorkerExited) -> Step:
    limits, crashes = state.limits, len(state.crashes)
    if limits.reload == "off":
        return Over(exit_code(fact.exit)), ()
    if limits.exit_on_failure:
        return Over(1), ()
    if flapping.is_loop(state.crashes):
        return Broken(generation), (Tell(events.CrashLoop(crashes=crashes)), Answer(on=True))
    delay = flapping.back_off(crashes)
    scheduled = Tell(events.RestartScheduled(delay=delay, crashes=crashes))
    return Resting(generation), (scheduled, SetTimer("backoff", delay, generation))


def _while_waiting(phase: Waiting, state: State, fact: Fact) -> Step:
    generation, limits = phase.generation, state.limits
    match fact:
        case Unchanged(reason):
            opening = (OpenGate(generation),) if phase.closed else ()
            return Serving(generation), (*opening, Tell(events.ReloadCancelled(reason=reason)))
        case Cleared(round=number) if number == phase.round and not phase.closed:
            return replace(phase, closed=True), (CloseGate(generation, phase.round), _gate_timer(phase, limits))
        case Drained(round=number) if number == phase.round and phase.closed:
            return _stop(generation, "start", limits, cut=False)
        case TimerFired(name="gate", round=number) if number == phase.round and phase.closed:
            if state.prompting:
                return phase, (_gate_timer(phase, limits),)
            # A request that waits for its own server would never end behind the gate: let that one in, then try again.
            reopened = replace(phase, closed=False, round=number + 1)
            return reopened, (OpenGate(generation), AskDrain(generation, number + 1))
        case TimerFired(name="drain", round=number) if number == phase.first and state.prompting:
            return phase, (SetTimer("drain", limits.drain_timeout, generation, phase.first),)
        case TimerFired(name="drain", round=number) if number == phase.first:
            return _stop(generation, "start", limits, cut=True)
        case ReloadAsked():
            return _stop(generation, "start", limits, cut=True)
        case StopAsked():
            return _stop(generation, "end", limits, cut=False)
        case WorkerExited():
            return _start(generation, limits)
        case _:
            return phase, ()


def _gate_timer(phase: Waiting, limits: Limits) -> SetTimer:
    """Each round twice as long: clients that come steadily, with work longer than the first, would else never let it drain."""
    return SetTimer("gate", limits.gate_timeout * 2 ** (phase.round - phase.first), phase.generation, phase.round)


def _while_stopping(phase: Stopping, state: State, fact: Fact) -> Step:
    match fact:
        case WorkerExited():
            return (Over(0), ()) if phase.then == "end" else _start(phase.generation, state.limits)
        case TimerFired(name="stop") if state.prompting and phase.then == "end":
            return phase, (SetTimer("stop", state.limits.stop_timeout, phase.generation),)
        case TimerFired(name="stop"):
            return phase, (Kill(phase.generation),)
        case StopAsked() if phase.then == "start":
            return replace(phase, then="end"), ()
        case StopAsked():
            return phase, (Kill(phase.generation),)
        case _:
            return phase, ()


def _while_down(phase: Resting | Broken, limits: Limits, fact: Fact) -> Step:
    match fact:
        case Changed() | Unchanged() | ReloadAsked():
            return _start(phase.generation, limits)
        case TimerFired(name="backoff") if isinstance(phase, Resting):
            return _start(phase.generation, limits)
        case StopAsked():
            return Over(0), ()
        case _:
            return phase, ()


def exit_code(ended: events.Exit) -> int:
    """A process's ending as a shell tells it: its code, or 128 and its signal."""
    return ended.code if ended.code is not None else 128 + (ended.signal or 0)
