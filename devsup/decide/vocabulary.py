"""The policy's words: phases are what is true of a service, facts what happened, commands what is to be done."""

from __future__ import annotations

from typing import Literal

import msgspec

from devsup import events

Timer = Literal["hold", "boot", "drain", "gate", "stop", "retire", "backoff"]


class Limits(msgspec.Struct, frozen=True):
    """The service's settings that decide; times in seconds."""

    reload: Literal["drain", "handover", "restart", "off"] = "drain"
    drain_timeout: float = 60.0
    gate_timeout: float = 5.0
    stop_timeout: float = 5.0
    hold: float = 10.0
    exit_on_failure: bool = False
    restart: Literal["on-failure", "always", "never"] = "on-failure"
    retries: bool = False  # a start that fails is tried again, too: the user has asked for restarts


# -- phases: what is true of the service ----------------------------------------------------------------------------------


class Starting(msgspec.Struct, frozen=True):
    """A worker boots; `stale` when files have changed since, `late` when it takes so long that a change need not wait.

    `before` is the worker that serves meanwhile (0: none does).
    """

    generation: int
    stale: bool = False
    late: bool = False
    before: int = 0


class Serving(msgspec.Struct, frozen=True):
    """A worker serves; `stale` when a change waits for a debugger's prompt to end."""

    generation: int
    stale: bool = False


class Waiting(msgspec.Struct, frozen=True):
    """A reload waits for active work, with the gate open or closed; its rounds are numbered from `first`, and never reused."""

    generation: int
    closed: bool = False
    round: int = 1
    first: int = 1


class Stopping(msgspec.Struct, frozen=True):
    """A worker was told to stop; then the next one starts, or devsup ends. `before` as in Starting; `gone` once it has ended."""

    generation: int
    then: Literal["start", "end"]
    before: int = 0
    gone: bool = False


class Resting(msgspec.Struct, frozen=True):
    """The worker died; the next one starts after the back-off."""

    generation: int


class Broken(msgspec.Struct, frozen=True):
    """No worker can run; a save starts the next one."""

    generation: int


class Over(msgspec.Struct, frozen=True):
    """The end, with devsup's exit code."""

    code: int
    generation: int = 0


Phase = Starting | Serving | Waiting | Stopping | Resting | Broken | Over


class State(msgspec.Struct, frozen=True):
    """All that the policy remembers. `crashes` are monotonic times.

    `retiring` is an older worker that serves nothing new and is on its way out (0: there is none).
    """

    phase: Phase
    limits: Limits
    crashes: tuple[float, ...] = ()
    prompting: bool = False
    rounds: int = 0  # of waiting, so far
    spawned: int = 0  # workers so far
    retiring: int = 0


# -- facts: what happened ---------------------------------------------------------------------------------------------------


class Changed(msgspec.Struct, frozen=True):
    """Files that matter have new content."""


class Unchanged(msgspec.Struct, frozen=True):
    """All files are again what the worker loaded, or do not compile: a reload would bring nothing."""

    reason: str = "the files are again what the worker has loaded"


class ReloadAsked(msgspec.Struct, frozen=True):
    """The user wants new code; `now`: whatever is active."""

    now: bool = False


class StopAsked(msgspec.Struct, frozen=True):
    """Ctrl-C, SIGTERM or `q`; a second one kills."""


class Prompted(msgspec.Struct, frozen=True):
    """The worker began (or ended) to read from the terminal, or to be looked at by a debugger."""

    on: bool


class WorkerReady(msgspec.Struct, frozen=True):
    """The worker serves."""

    generation: int


class Cleared(msgspec.Struct, frozen=True):
    """What was active when the round began has finished."""

    generation: int
    round: int


class Drained(msgspec.Struct, frozen=True):
    """Nothing is active, and nothing new was let in."""

    generation: int
    round: int


class WorkerLeft(msgspec.Struct, frozen=True):
    """The program has done all that it does; only its interpreter has yet to end."""

    generation: int


class WorkerExited(msgspec.Struct, frozen=True):
    """The process is gone (waitpid). `listened`: it had a listener; `refused`: an exit code when starting again is no use.

    `doubted`: it was forked, and nothing says that a cold start would have failed too; `killed`: somebody has ended it, and its
    code is not to blame.
    """

    generation: int
    exit: events.Exit
    at: float
    listened: bool = False
    refused: int | None = None
    doubted: bool = False
    killed: bool = False


class TimerFired(msgspec.Struct, frozen=True):
    """A limit has passed."""

    name: Timer
    generation: int
    round: int = 0


Fact = (
    Changed
    | Unchanged
    | ReloadAsked
    | StopAsked
    | Prompted
    | WorkerReady
    | Cleared
    | Drained
    | WorkerLeft
    | WorkerExited
    | TimerFired
)


# -- commands: what is to be done -------------------------------------------------------------------------------------------


class Spawn(msgspec.Struct, frozen=True):
    """Start a worker of this generation."""

    generation: int


class AskDrain(msgspec.Struct, frozen=True):
    """Report `Cleared` once what is active now has finished."""

    generation: int
    round: int


class CloseGate(msgspec.Struct, frozen=True):
    """Let nothing new in, and report `Drained`."""

    generation: int
    round: int


class Announce(msgspec.Struct, frozen=True):
    """Tell that the worker serves: from now on its code answers."""

    generation: int


class Retire(msgspec.Struct, frozen=True):
    """Let the worker take in nothing new, hand over its idle connections, and end when its work is done.

    After a `final` one no worker follows.
    """

    generation: int
    final: bool = False


class OpenGate(msgspec.Struct, frozen=True):
    """Let new work in again."""

    generation: int


class Stop(msgspec.Struct, frozen=True):
    """End the worker: after its active work, or cutting it; no worker follows a `final` stop."""

    generation: int
    cut: bool
    final: bool = False


class Kill(msgspec.Struct, frozen=True):
    """End the worker's whole tree now."""

    generation: int


class SetTimer(msgspec.Struct, frozen=True):
    """Report `TimerFired` with the same name, generation and round after `seconds`."""

    name: Timer
    seconds: float
    generation: int
    round: int = 0


class Answer(msgspec.Struct, frozen=True):
    """Let the placeholder answer on the kept listeners, or stop it."""

    on: bool


class Tell(msgspec.Struct, frozen=True):
    """Publish an event."""

    event: events.Event


Command = Spawn | Announce | Retire | AskDrain | CloseGate | OpenGate | Stop | Kill | SetTimer | Answer | Tell
Commands = tuple[Command, ...]
Step = tuple[Phase, Commands]
