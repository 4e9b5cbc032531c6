"""The policy's words: phases are what is true of a service, facts what happened, commands what is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from devsup import events


@dataclass(frozen=True, slots=True)
class Limits:
    """The service's settings that decide; times in seconds."""

    reload: Literal["drain", "restart", "off"] = "drain"
    drain_timeout: float = 60.0
    gate_timeout: float = 5.0
    stop_timeout: float = 5.0
    hold: float = 10.0
    exit_on_failure: bool = False


# -- phases: what is true of the service ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Starting:
    """A worker boots; `stale` when files have changed since, `late` when it takes so long that a change need not wait."""

    generation: int
    stale: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True)
class Serving:
    """A worker serves; `stale` when a change waits for a debugger's prompt to end."""

    generation: int
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reload waits for active work, with the gate open or closed."""

    generation: int
    closed: bool = False
    round: int = 1


@dataclass(frozen=True, slots=True)
class Stopping:
    """A worker was told to stop; then the next one starts, or devsup ends."""

    generation: int
    then: Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Resting:
    """The worker died; the next one starts after the back-off."""

    generation: int


@dataclass(frozen=True, slots=True)
class Broken:
    """No worker can run; a save starts the next one."""

    generation: int


@dataclass(frozen=True, slots=True)
class Over:
    """The end, with devsup's exit code."""

    code: int
    generation: int = 0


Phase = Starting | Serving | Waiting | Stopping | Resting | Broken | Over


@dataclass(frozen=True, slots=True)
class State:
    """All that the policy remembers. `crashes` are monotonic times."""

    phase: Phase
    limits: Limits
    crashes: tuple[float, ...] = ()
    prompting: bool = False


# -- facts: what happened ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changed:
    """Files that matter have new content."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """All files are again what the worker loaded, or do not compile: a reload would bring nothing."""

    reason: str = "the files are again what the worker has loaded"


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """The user wants new code now."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Ctrl-C, SIGTERM or `q`; a second one kills."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """The worker began (or ended) to read from the terminal."""

    on: bool


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker serves."""

    generation: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was active when the round began has finished."""

    generation: int
    round: int


@dataclass(frozen=True, slots=True)
class Drained:
    """Nothing is active, and nothing new was let in."""

    generation: int
    round: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The process is gone (waitpid). `listened`: it had a listener; `refused`: an exit code when starting again is no use."""

    generation: int
    exit: events.Exit
    at: float
    listened: bool = False
    refused: int | None = None


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A limit has passed."""

    name: Literal["hold", "drain", "gate", "stop", "backoff"]
    generation: int
    round: int = 0


Fact = Changed | Unchanged | ReloadAsked | StopAsked | Prompted | WorkerReady | Cleared | Drained | WorkerExited | TimerFired


# -- commands: what is to be done -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker of this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class AskDrain:
    """Report `Cleared` once what is active now has finished."""

    generation: int
    round: int


@dataclass(frozen=True, slots=True)
class CloseGate:
    """Let nothing new in, and report `Drained`."""

    generation: int
    round: int


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Let new work in again."""

    generation: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the worker: after its active work, or cutting it."""

    generation: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """End the worker's whole tree now."""

    generation: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Report `TimerFired` with the same name, generation and round after `seconds`."""

    name: Literal["hold", "drain", "gate", "stop", "backoff"]
    seconds: float
    generation: int
    round: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Let the placeholder answer on the kept listeners, or stop it."""

    on: bool


@dataclass(frozen=True, slots=True)
class Tell:
    """Publish an event."""

    event: events.Event


Command = Spawn | AskDrain | CloseGate | OpenGate | Stop | Kill | SetTimer | Answer | Tell
Commands = tuple[Command, ...]
Step = tuple[Phase, Commands]
