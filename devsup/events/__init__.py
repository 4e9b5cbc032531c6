"""Everything that devsup says: one typed record per thing that happened; console, event log and tests fold the same stream."""

from __future__ import annotations

from devsup.events.base import Event, to_json
from devsup.events.failures import (
    CrashLoop,
    Diagnosed,
    LoopBlocked,
    LoopFree,
    NeverReady,
    NotStopping,
    Refused,
    RestartScheduled,
    SlowStart,
    Stacks,
    StartComplained,
    StillStarting,
    Trouble,
    Unhandled,
    WorkerFailed,
)
from devsup.events.outcomes import Latency, Outcome, Report, Round, Verdict
from devsup.events.values import Active, BrokenFile, Diagnosis, Exit, Outage, Place, Stack

# fmt: off
__all__ = [
    "Active",
    "BrokenFile",
    "BrowserNotOpened",
    "ChangeIgnored",
    "CrashLoop",
    "DaemonLearned",
    "DependencyAwaited",
    "Diagnosed",
    "Diagnosis",
    "Event",
    "Exit",
    "FirstAnswer",
    "ForeignServer",
    "ForkDoubted",
    "ForkServerOff",
    "ForkServerReady",
    "Latency",
    "LeftoversEnded",
    "ListenerClosed",
    "ListenerKept",
    "LoopBlocked",
    "LoopFree",
    "NeverReady",
    "NotStopping",
    "Outage",
    "Outcome",
    "Place",
    "PlaceholderShown",
    "Probed",
    "Prompting",
    "Refused",
    "ReloadCancelled",
    "ReloadStarted",
    "ReloadSuspended",
    "ReloadWaiting",
    "Reloaded",
    "ReloaderOff",
    "Report",
    "RestartScheduled",
    "Round",
    "SecondListener",
    "SecondListenerGone",
    "ServiceStalled",
    "ServiceStarted",
    "SlowStart",
    "Stack",
    "Stacks",
    "StartComplained",
    "Status",
    "StillStarting",
    "StopWaiting",
    "Stopped",
    "Stopping",
    "StreamLearned",
    "SyntaxBroken",
    "Trouble",
    "Unhandled",
    "Verdict",
    "WorkLost",
    "WorkerExited",
    "WorkerFailed",
    "WorkerReady",
    "WorkerSpawned",
    "to_json",
]
# fmt: on


class ServiceStarted(Event, frozen=True):
    """devsup begins to run a service. `reason` says why this interpreter."""

    command: list[str]
    cwd: str
    interpreter: str
    reason: str
    reload: str
    config: str | None = None


class WorkerSpawned(Event, frozen=True):
    """A process was started for the service's command."""

    generation: int
    pid: int


class WorkerReady(Event, frozen=True):
    """The worker serves. `seconds` since it was spawned; `server` is 'foreign' where no agent is in it."""

    generation: int
    pid: int
    server: str
    python: str
    urls: list[str]
    routes: list[str]
    seconds: float


class ForeignServer(Event, frozen=True):
    """No agent is in what serves; said once. `command` reloads it on saves ("": globs are given, or nothing reloads)."""

    command: str


class WorkerExited(Event, frozen=True):
    """The worker's process is gone. `served` is how long it had been ready, in seconds; None if it never was."""

    generation: int
    pid: int
    exit: Exit
    served: float | None
    expected: bool


class ReloaderOff(Event, frozen=True):
    """The app's own reloader was switched off; devsup reloads, by its rules."""

    name: str


class ListenerKept(Event, frozen=True):
    """devsup holds this listener until it exits."""

    url: str


class ListenerClosed(Event, frozen=True):
    """What the worker before served, the new one does not: if it was kept, it was closed."""

    url: str


class SecondListener(Event, frozen=True):
    """Clients of `url` may reach somebody else, who listens at `where`; `pid` is None where it cannot be seen."""

    url: str
    where: str
    pid: int | None
    holder: str


class SecondListenerGone(Event, frozen=True):
    """Nobody else listens there any more."""

    url: str
    where: str
    pid: int | None


class LeftoversEnded(Event, frozen=True):
    """A former devsup was killed together with its keeper: what it had left is ended."""

    pids: list[int]


class BrowserNotOpened(Event, frozen=True):
    """The program wanted to open a browser once more; the one from its first start is there."""

    url: str


class ChangeIgnored(Event, frozen=True):
    """A saved file that reloads nothing, said once per file; `more` are meant that were saved together with it."""

    path: str
    reason: str
    more: int = 0


class ReloadSuspended(Event, frozen=True):
    """Files that change whenever the worker starts: what they bring waits for another save, or for the user's wish."""

    files: list[str]


class SyntaxBroken(Event, frozen=True):
    """A saved file does not compile: nothing was stopped."""

    files: list[BrokenFile]
    serving: bool


class ReloadStarted(Event, frozen=True):
    """A reload of the worker begins, because of these files (none: it was asked for)."""

    generation: int
    files: list[str]


class ReloadWaiting(Event, frozen=True):
    """What the reload waits for, said at once and again; `held` tells that new connections wait in the kernel."""

    generation: int
    active: list[Active]
    seconds: float
    held: bool


class ReloadCancelled(Event, frozen=True):
    """The reload is not needed any more."""

    reason: str


class Reloaded(Event, frozen=True):
    """New code serves. Seconds: waited for work, stopped the old worker, started the new one; `total` from the change.

    `timeline` has the seconds from the save until each step was done, those of them that are known: seen, settled, compiled,
    drained, stopped, forked (or spawned), imported, started. The first answer is an event of its own.
    """

    generation: int
    files: list[str]
    waited: float
    stopped: float
    started: float
    total: float
    timeline: dict[str, float]


class FirstAnswer(Event, frozen=True):
    """The first answer after a reload was given so many seconds after the save."""

    generation: int
    seconds: float


class ForkServerReady(Event, frozen=True):
    """The next worker can be forked: so many modules are imported, in so many bytes; [name, reason] of those left out."""

    modules: int
    memory: int
    left: list[list[str]]


class ForkServerOff(Event, frozen=True):
    """Every worker is started cold from now on; `shown` where the user has seen the reason happen."""

    reason: str
    shown: bool = False


class ForkDoubted(Event, frozen=True):
    """A forked worker has died, and nothing says that a cold start would have: that is tried next."""

    how: str


class WorkLost(Event, frozen=True):
    """Work that did not reach its end: what, how old, and what is known of its answer; `origin` and `count` as in `Active`."""

    generation: int
    name: str
    age: float
    detail: str
    origin: str = ""
    count: int = 1


class DaemonLearned(Event, frozen=True):
    """A background task that outlived its grace: from now on no reload waits for its like."""

    name: str
    origin: str


class StreamLearned(Event, frozen=True):
    """From what its event streams did: a route's are 'endless', or 'work' that a reload waits for."""

    route: str
    decision: str


class Status(Event, frozen=True):
    """What the service is doing, because somebody asked."""

    generation: int
    pid: int | None
    phase: str
    active: list[Active]


class PlaceholderShown(Event, frozen=True):
    """While no worker can run, clients get a 503 with the reason."""

    urls: list[str]
    reason: str


class Stopping(Event, frozen=True):
    """devsup ends the service."""

    reason: str


class StopWaiting(Event, frozen=True):
    """What the end of the service waits for, said again and again; in `left` seconds it is killed (None: it is debugged)."""

    generation: int
    active: list[Active]
    left: float | None


class Stopped(Event, frozen=True):
    """devsup is done; `left` names processes of the worker that had to be ended."""

    code: int
    left: list[int]


class DependencyAwaited(Event, frozen=True):
    """A service waits for another one, and why that is not so far; said again and again. `overdue`: for longer than its limit."""

    on: str
    condition: str
    reason: str
    seconds: float
    overdue: bool = False


class Probed(Event, frozen=True):
    """What a probe finds is another thing than before: 'well', 'failing' or 'stalled'."""

    probe: str
    verdict: str
    reason: str


class Prompting(Event, frozen=True):
    """The service begins, or ends, to read from its terminal."""

    on: bool


class ServiceStalled(Event, frozen=True):
    """A service runs and does not work: why, where it stands, and what it has in hand.

    `action` is 'warn', 'restart' or 'stop', as the probe asks for; 'debugged' or 'given up' where that is not done.
    """

    generation: int
    probe: str
    reason: str
    action: str
    stacks: list[Stack]
    active: list[Active]
