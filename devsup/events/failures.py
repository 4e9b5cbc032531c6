"""What went wrong, and why."""

from __future__ import annotations

from devsup.events.base import Event
from devsup.events.values import Diagnosis, Exit, Place, Stack


class Diagnosed(Event, frozen=True):
    """Why a worker has ended as nobody meant it to, as far as that can be told."""

    generation: int
    diagnosis: Diagnosis


class WorkerFailed(Event, frozen=True):
    """The worker ended before it was ready; `tail` is the end of what it printed. With `final` no save starts another.

    With `serving` the code before it keeps answering.
    """

    generation: int
    exit: Exit
    tail: str
    final: bool = False
    serving: bool = False


class RestartScheduled(Event, frozen=True):
    """The worker died while it served; the next one starts in `delay` seconds."""

    delay: float
    crashes: int


class CrashLoop(Event, frozen=True):
    """It died too often: devsup waits for a save."""

    crashes: int


class NeverReady(Event, frozen=True):
    """A new worker was not ready in so many seconds and is ended; the old code keeps serving."""

    generation: int
    seconds: float


class Refused(Event, frozen=True):
    """Nothing can be run: what happened, what to do, and devsup's exit code. `taken`: somebody holds the port."""

    problem: str
    remedy: str
    code: int
    taken: bool = False


class Trouble(Event, frozen=True):
    """Something in devsup or its agent went wrong that does not stop the service."""

    text: str


class StillStarting(Event, frozen=True):
    """A worker takes long to start: where it is now ("" where that cannot be told), and the errors that it has logged."""

    generation: int
    seconds: float
    doing: str
    complaints: list[str]


class StartComplained(Event, frozen=True):
    """It serves, but its start has logged errors: something of it may be missing."""

    generation: int
    complaints: list[str]


class SlowStart(Event, frozen=True):
    """A start that took long is over: [what it was doing, seconds], the longest first, as sampled once a second."""

    generation: int
    seconds: float
    parts: list[tuple[str, float]]


class LoopBlocked(Event, frozen=True, kw_only=True):
    """An event loop does not turn, for at least so many seconds; `count` blocks have been seen at this place."""

    generation: int
    pid: int
    seconds: float
    doing: str
    requests: list[str]
    frames: list[Place]
    count: int


class LoopFree(Event, frozen=True):
    """It turns again, after so many seconds in all."""

    generation: int
    seconds: float
    doing: str


class NotStopping(Event, frozen=True):
    """A worker that was asked to end is killed: where its threads were."""

    generation: int
    stacks: list[Stack]


class Unhandled(Event, frozen=True, kw_only=True):
    """An exception that nobody caught, in a 'request' or a 'thread', while the process lives on.

    `id` names it within this run; `count` is how many of its signature there have been; `age` is the request's, in seconds.
    """

    generation: int
    id: str
    where: str
    name: str
    cause: str
    frames: list[Place]
    age: float | None
    count: int


class Stacks(Event, frozen=True):
    """Where every thread and task of a worker stands, because somebody asked."""

    generation: int
    stacks: list[Stack]
