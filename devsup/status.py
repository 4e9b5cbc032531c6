"""How every service stands: a fold over the events, for `devsup status`, the last row of the terminal, and who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from devsup import events

if TYPE_CHECKING:
    from devsup.events import Event

State = Literal["waiting", "starting", "ready", "degraded", "stalled", "draining", "stopping", "failed", "completed", "stopped"]
_UP: frozenset[State] = frozenset({"ready", "degraded", "stalled", "draining"})
_LOOP = "event loop"  # among the problems
_LONGEST = 200  # characters of a reason


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One service, as far as events tell. `since` is when the state began, in seconds since the epoch.

    `problems` are the probes that are not well: the verdict (failing, stalled) and the reason; of `ready`, why it is not yet.
    """

    service: str
    state: State = "waiting"
    since: float = 0.0
    reason: str = ""
    generation: int = 0
    pid: int | None = None
    urls: list[str] = []
    code: int | None = None  # once it is over
    serving: int = 0  # the generation that does
    reloading: bool = False  # a change has not become a new worker yet
    waits_for: str = ""  # what a reload waits for
    prompting: bool = False
    problems: dict[str, list[str]] = {}
    asked_ready: bool = False  # it has a `ready` probe

    @property
    def is_up(self) -> bool:
        """Whether its clients are answered."""
        return self.state in _UP


def fold(status: Status, at: float, event: Event) -> Status:
    """The status after this event."""
    new = _running(status, event)
    return new if new.state == status.state else replace(new, since=at)


def _running(status: Status, event: Event) -> Status:
    match event:
        case events.DependencyAwaited(on=on, reason=reason):
            return replace(status, state="waiting", reason=f"waits for {on}, which {reason}")
        case events.WorkerSpawned(generation=generation, pid=pid):
            spawned = replace(status, generation=generation, pid=pid, code=None)
            unready = {"ready": ["failing", ""]} if status.asked_ready else {}
            return spawned if status.serving else _judged(replace(spawned, problems=unready))
        case events.WorkerReady(generation=generation, pid=pid, urls=urls):
            return _judged(replace(status, pid=pid, urls=urls, serving=generation))
        case events.Probed(probe=probe, verdict=verdict, reason=reason):
            return _judged(_with(status, probe, [verdict, reason] if verdict != "well" else None))
        case events.LoopBlocked(seconds=seconds, doing=doing):
            return _judged(_with(status, _LOOP, ["failing", f"event loop blocked for {seconds:.1f} s {doing}"]))
        case events.LoopFree():
            return _judged(_with(status, _LOOP, None))
        case events.Prompting(on=on):
            return replace(status, prompting=on)
        case _:
            return _over(_reloading(status, event), event)


def _with(status: Status, name: str, problem: list[str] | None) -> Status:
    others = {key: each for key, each in status.problems.items() if key != name}
    return replace(status, problems={**others, name: problem} if problem is not None else others)


def _reloading(status: Status, event: Event) -> Status:
    match event:
        case events.ReloadStarted():
            return replace(status, reloading=True)
        case events.ReloadWaiting(active=active):
            return _judged(replace(status, waits_for=", ".join(each.name for each in active[:3]) or "the program"))
        case events.ReloadCancelled():
            return _judged(replace(status, waits_for="", reloading=False))
        case events.Stopping():
            return replace(status, state="stopping", reason="", waits_for="")
        case events.Reloaded() | events.WorkerFailed():
            return replace(status, reloading=False)
        case _:
            return status


def _over(status: Status, event: Event) -> Status:
    match event:
        case events.WorkerExited(generation=generation) if status.serving not in {0, generation}:
            return status  # it has retired, or has come to nothing beside the one that serves
        case events.WorkerExited(generation=generation, expected=expected, exit=ended):
            followed = status.generation != generation  # the next one has begun, while it ended
            pid = status.pid if followed else None
            problems = {"ready": status.problems["ready"]} if followed and "ready" in status.problems else {}  # of the next
            gone = replace(status, serving=0, pid=pid, prompting=False, problems=problems, waits_for="")
            if followed or expected:
                return gone if status.state in {"failed", "stopping"} else _judged(gone)
            return replace(gone, state="failed" if ended.code != 0 else "completed", reason=ended.text)
        case events.Diagnosed(generation=generation, diagnosis=diagnosis) if generation == status.generation:
            return replace(status, reason=diagnosis.text)
        case events.WorkerFailed(exit=ended, tail=tail, serving=False):
            reason = status.reason or tail.strip().rpartition("\n")[2][:_LONGEST] or ended.text
            return replace(status, state="failed", reason=reason, serving=0, pid=None)
        case events.RestartScheduled(delay=delay):
            reason = f"{status.reason.partition('; again in ')[0]}; again in {delay:.1f} s".removeprefix("; ")
            return replace(status, state="starting", reason=reason)
        case events.Refused(problem=problem):
            return replace(status, state="failed", reason=problem)
        case events.Stopped(code=code):
            over = replace(status, pid=None, urls=[], serving=0, problems={}, code=code, reloading=False)
            if code:
                return replace(over, state="failed", reason=status.reason or f"exit code {code}")
            return replace(over, state="completed" if status.state == "completed" else "stopped", reason="")
        case _:
            return status


def _judged(status: Status) -> Status:
    """What its worker and its probes amount to."""
    problems = status.problems
    if not status.serving or "ready" in problems:
        return replace(status, state="starting", reason=problems["ready"][1] if "ready" in problems else "")
    verdicts: tuple[tuple[str, State], ...] = (("stalled", "stalled"), ("failing", "degraded"))
    if status.waits_for:
        return replace(status, state="draining", reason=status.waits_for)
    for verdict, state in verdicts:
        reasons = [reason for found, reason in problems.values() if found == verdict]
        if reasons:
            return replace(status, state=state, reason="; ".join(reasons))
    return replace(status, state="ready", reason="")
