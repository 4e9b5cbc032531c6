"""The reload state machine: `step(state, fact) -> (state, commands)`.

Theory of operation. One service has at most one worker that is not on its way out; each is numbered by its generation, and a
fact about a generation that is not the current one is stale and changes nothing. Timers are facts too: they carry the
generation and the round for which they were set, so none need ever be cancelled.

    Starting ──ready──▶ Serving ──change──▶ Waiting ──drained──▶ Stopping ──exited──▶ Starting …
        │                  │                   │ gate open: what was active at the change still runs, new work is let in
        │ exited           │ exited            │ gate closed: new work waits in the kernel, at most `gate_timeout` a round
        ▼                  ▼
     Broken ◀──3 in 60 s── Resting (back-off)          a save leaves Broken and Resting for Starting; Over is the end

In `handover` a reload is Serving ──change──▶ Starting (the worker before it serves on) ──ready──▶ Serving, and the old worker
retires: it takes in nothing new, finishes, and ends beside the one that serves. After a drain, too, the old interpreter may end
while the next worker starts. There is never more than one worker that retires.

A save while a worker boots is remembered (`stale`) and becomes one more reload. While a debugger prompts or is attached no limit
counts, but for the end of a worker whose work the user cuts: a timer that fires is set again.
"""

from __future__ import annotations

from typing import Literal, assert_never

from msgspec.structs import replace

from devsup import events
from devsup.decide import flapping
from devsup.decide.vocabulary import (
    Announce,
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
    Phase,
    Prompted,
    ReloadAsked,
    Resting,
    Retire,
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
    WorkerLeft,
    WorkerReady,
)


def begin(limits: Limits, spawned: int = 0) -> tuple[State, Commands]:
    """The first state and what to do in it, after so many workers of former lives."""
    state = State(Over(0), limits, spawned=spawned)
    phase, commands = _start(state)
    return replace(state, phase=phase, spawned=phase.generation), commands


def step(state: State, fact: Fact) -> tuple[State, Commands]:
    """What follows from one fact."""
    match fact:
        case Prompted(on):
            state = replace(state, prompting=on)
        case Changed() | ReloadAsked():
            state = replace(state, crashes=())
        case WorkerExited(generation, at=at, killed=killed) if generation == state.phase.generation:
            is_start = isinstance(state.phase, Starting)
            counts = (state.limits.retries or killed) if is_start else isinstance(state.phase, Serving) and not killed
            crashes = flapping.add(state.crashes, at) if counts else state.crashes
            state = replace(state, prompting=False, crashes=crashes)
        case WorkerExited(generation) if generation == state.retiring:
            state = replace(state, retiring=0)
            return _moved(state, _once_retired(state))
        case WorkerExited(generation) if generation == _before(state.phase):
            return replace(state, phase=replace(state.phase, before=0)), ()
        case TimerFired(name="retire", generation=generation) if generation == state.retiring:
            return state, _end_retiring(state, fact)
        case _:
            pass
    return _moved(state, _next(state, fact))


def _moved(state: State, step: Step) -> tuple[State, Commands]:
    phase, commands = step
    rounds = phase.round if isinstance(phase, Waiting) else state.rounds
    spawned = max(state.spawned, phase.generation)
    retiring = next((each.generation for each in commands if isinstance(each, Retire)), state.retiring)
    return replace(state, phase=phase, rounds=rounds, spawned=spawned, retiring=retiring), commands


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
            return _while_down(phase, state, fact)
    assert_never(phase)


def _start(state: State, before: int = 0) -> Step:
    limits, generation = state.limits, state.spawned + 1
    timers: Commands = (SetTimer("hold", limits.hold, generation),)
    if before:
        return Starting(generation, before=before), (
            Spawn(generation),
            *timers,
            SetTimer("boot", limits.drain_timeout, generation),
        )
    return Starting(generation), (Answer(on=False), Spawn(generation), *timers)


def _stop(state: State, then: Literal["start", "end"], *, cut: bool, before: int = 0) -> tuple[Stopping, Commands]:
    """Stop the current worker; at the end of all also the one before it, or the one that retires."""
    generation, limits, final = state.phase.generation, state.limits, then == "end"
    others: Commands = ()
    if final and (before or state.retiring):
        others, before = (Retire(before or state.retiring, final=True),), 0
    timer = SetTimer("stop", limits.stop_timeout, generation)
    return Stopping(generation, then, before), (Stop(generation, cut, final), *others, timer)


def _reload(state: State, *, asked: bool = False) -> Step:
    generation, limits = state.phase.generation, state.limits
    if limits.reload == "drain":
        number = state.rounds + 1
        timer = SetTimer("drain", limits.drain_timeout, generation, number)
        return Waiting(generation, round=number, first=number), (AskDrain(generation, number), timer)
    if state.prompting and not asked:  # nothing is restarted under a debugger's prompt
        return Serving(generation, stale=True), ()
    if limits.reload == "handover" and state.retiring:  # one at a time: a third would be one too many
        return Serving(generation, stale=True), (Stop(state.retiring, cut=True),) if asked else ()
    if limits.reload == "handover":
        return _start(state, before=generation)
    return _stop(state, "start", cut=True)


def _once_retired(state: State) -> Step:
    match state.phase:
        case Serving(stale=True):
            return _reload(state)
        case Stopping(gone=True):
            return Over(0), ()
        case phase:
            return phase, ()


def _end_retiring(state: State, fired: TimerFired) -> Commands:
    """Its time is over: first its work is cut, then it is killed."""
    generation, limits = state.retiring, state.limits
    if state.prompting:
        return (SetTimer("retire", limits.drain_timeout, generation, fired.round),)
    if fired.round:
        return (Kill(generation),)
    return Stop(generation, cut=True), SetTimer("retire", limits.stop_timeout, generation, 1)


def _before(phase: Phase) -> int:
    return phase.before if isinstance(phase, Starting | Stopping) else 0


def _while_starting(phase: Starting, state: State, fact: Fact) -> Step:
    generation, limits, before = phase.generation, state.limits, phase.before
    match fact:
        case Changed() if limits.reload == "off":
            return phase, ()
        case Changed() if not phase.late or state.prompting:
            return replace(phase, stale=True), ()
        case Unchanged():
            return replace(phase, stale=False), ()
        case Prompted(on=False) if phase.stale and phase.late:
            return _stop(state, "start", cut=True, before=before)
        case Changed() | ReloadAsked():
            return _stop(state, "start", cut=True, before=before)
        case StopAsked():
            return _stop(state, "end", cut=False, before=before)
        case WorkerReady():
            return _once_ready(phase, state)
        case TimerFired(name="hold") if state.prompting:
            return phase, (SetTimer("hold", limits.hold, generation),)
        case TimerFired(name="hold") if phase.stale:
            return _stop(state, "start", cut=True, before=before)
        case TimerFired(name="hold"):
            return replace(phase, late=True), () if before else (Answer(on=True),)
        case TimerFired(name="boot") if before and state.prompting:
            return phase, (SetTimer("boot", limits.drain_timeout, generation),)
        case TimerFired(name="boot") if before:
            return phase, (Tell(events.NeverReady(generation=generation, seconds=limits.drain_timeout)), Kill(generation))
        case WorkerExited():
            return _after_failed_start(phase, state, fact)
        case _:
            return phase, ()


def _once_ready(phase: Starting, state: State) -> Step:
    generation, before, limits = phase.generation, phase.before, state.limits
    if before and phase.stale:  # what serves is older still, but whole
        return _stop(state, "start", cut=False, before=before)
    if before:
        over = Retire(before), SetTimer("retire", limits.drain_timeout, before)
        return Serving(generation), (*over, OpenGate(generation), Announce(generation))
    serving = Serving(generation)
    followed, commands = _reload(replace(state, phase=serving)) if phase.stale else (serving, ())
    gate = (OpenGate(generation),) if limits.reload == "handover" else ()  # it may have begun behind one
    return followed, (Answer(on=False), *gate, Announce(generation), *commands)


def _after_failed_start(phase: Starting, state: State, fact: WorkerExited) -> Step:
    generation, limits, before = phase.generation, state.limits, phase.before
    if fact.doubted or phase.stale:
        return _start(state, before)
    if before:
        return Serving(before), ()
    if fact.refused is not None:
        return Over(fact.refused), ()
    if _is_done(fact, limits):
        return Over(0), ()
    if limits.reload == "off" and not limits.retries:
        return Over(exit_code(fact.exit)), ()
    if limits.exit_on_failure:
        return Over(1), ()
    if (limits.retries or fact.killed) and limits.restart != "never":
        resting, commands = _again(generation, state, fact)
        return resting, commands if isinstance(resting, Broken) else (*commands, Answer(on=True))
    return Broken(generation), (Answer(on=True),)


def _is_done(fact: WorkerExited, limits: Limits) -> bool:
    """Whether a program that served nobody has done what it was to do."""
    return fact.exit.code == 0 and not fact.listened and limits.restart != "always"


def _while_serving(phase: Serving, state: State, fact: Fact) -> Step:
    generation, limits = phase.generation, state.limits
    match fact:
        case Changed() if limits.reload == "off":
            return phase, ()
        case ReloadAsked(now) if now or limits.reload in {"restart", "off"}:
            return _stop(state, "start", cut=True)
        case Changed():
            return _reload(state)
        case ReloadAsked():
            return _reload(state, asked=True)
        case Prompted(on=False) if phase.stale:
            return _reload(state)
        case Unchanged():
            return Serving(generation), ()
        case StopAsked():
            return _stop(state, "end", cut=False)
        case WorkerExited():
            return _after_death(generation, state, fact)
        case _:
            return phase, ()


def _after_death(generation: int, state: State, fact: WorkerExited) -> Step:
    limits = state.limits
    if _is_done(fact, limits):
        return Over(0), ()
    if limits.reload == "off" and not limits.retries:
        return Over(exit_code(fact.exit)), ()
    if limits.exit_on_failure:
        return Over(1), ()
    if limits.restart == "never":
        return Broken(generation), (Answer(on=True),)
    return _again(generation, state, fact)


def _again(generation: int, state: State, fact: WorkerExited) -> Step:
    crashes = len(state.crashes)
    if flapping.is_loop(state.crashes, patient=state.limits.retries):
        return Broken(generation), (Tell(events.CrashLoop(crashes=crashes)), Answer(on=True))
    delay = flapping.back_off(crashes, fact.at)
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
            return _stop(state, "start", cut=False)
        case TimerFired(name="gate", round=number) if number == phase.round and phase.closed:
            if state.prompting:
                return phase, (_gate_timer(phase, limits),)
            # A request that waits for its own server would never end behind the gate: let that one in, then try again.
            reopened = replace(phase, closed=False, round=number + 1)
            return reopened, (OpenGate(generation), AskDrain(generation, number + 1))
        case TimerFired(name="drain", round=number) if number == phase.first and state.prompting:
            return phase, (SetTimer("drain", limits.drain_timeout, generation, phase.first),)
        case TimerFired(name="drain", round=number) if number == phase.first:
            return _stop(state, "start", cut=True)
        case ReloadAsked():
            return _stop(state, "start", cut=True)
        case StopAsked():
            return _stop(state, "end", cut=False)
        case WorkerExited():
            return _start(state)
        case _:
            return phase, ()


def _gate_timer(phase: Waiting, limits: Limits) -> SetTimer:
    """Each round twice as long: clients that come steadily, with work longer than the first, would else never let it drain."""
    return SetTimer("gate", limits.gate_timeout * 2 ** (phase.round - phase.first), phase.generation, phase.round)


def _while_stopping(phase: Stopping, state: State, fact: Fact) -> Step:
    match fact:
        case WorkerLeft() if phase.then == "start" and not (phase.before or state.retiring):
            started, commands = _start(state)
            left = Retire(phase.generation), SetTimer("retire", state.limits.stop_timeout, phase.generation, 1)
            return started, (*left, *commands)
        case WorkerExited() if phase.then == "start":
            return _start(state, phase.before)
        case WorkerExited():
            return (replace(phase, gone=True) if state.retiring else Over(fact.refused or 0)), ()
        case TimerFired(name="stop") if state.prompting and phase.then == "end":
            return phase, (SetTimer("stop", state.limits.stop_timeout, phase.generation),)
        case TimerFired(name="stop"):
            return phase, _kill(phase, state)
        case StopAsked() if phase.then == "start":
            other = phase.before or state.retiring
            limit = SetTimer("retire", state.limits.stop_timeout, other, 1)
            return replace(phase, then="end", before=0), (Retire(other, final=True), limit) if other else ()
        case StopAsked():
            return phase, _kill(phase, state)
        case _:
            return phase, ()


def _kill(phase: Stopping, state: State) -> Commands:
    alive = [] if phase.gone else [phase.generation]
    if state.retiring and phase.then == "end":
        alive.append(state.retiring)
    return tuple(map(Kill, alive))


def _while_down(phase: Resting | Broken, state: State, fact: Fact) -> Step:
    match fact:
        case Changed() | Unchanged() | ReloadAsked():
            return _start(state)
        case TimerFired(name="backoff") if isinstance(phase, Resting):
            return _start(state)
        case StopAsked() if state.retiring:
            ending, commands = _stop(state, "end", cut=False)
            return replace(ending, gone=True), commands[1:]
        case StopAsked():
            return Over(0), ()
        case _:
            return phase, ()


def exit_code(ended: events.Exit) -> int:
    """A process's ending as a shell tells it: its code, or 128 and its signal."""
    return ended.code if ended.code is not None else 128 + (ended.signal or 0)
