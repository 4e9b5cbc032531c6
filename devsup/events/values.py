"""What events are made of."""

from __future__ import annotations

import signal as signals
from contextlib import suppress

import msgspec


class Exit(msgspec.Struct, frozen=True):
    """How a process ended: one of `code` and `signal` (a number) is set."""

    code: int | None = None
    signal: int | None = None

    @property
    def text(self) -> str:
        """'exit code 3' or 'SIGKILL'."""
        if self.signal is None:
            return f"exit code {self.code}"
        with suppress(ValueError):
            return signals.Signals(self.signal).name
        return f"signal {self.signal}"


class Active(msgspec.Struct, frozen=True):
    """Work that a reload waits for: 'WS /ws/query', its age in seconds, and its route where it is an undecided event stream.

    `count` is how many of them this stands for. `origin` is the request that has left it behind, where it is a background task;
    the age is then that request's.
    """

    name: str
    age: float
    stream: str = ""
    count: int = 1
    origin: str = ""


class BrokenFile(msgspec.Struct, frozen=True):
    """A changed file that does not compile."""

    path: str
    line: int
    problem: str
    source: str = ""


class Place(msgspec.Struct, frozen=True):
    """A line of code; `function` is empty where none runs, as for a syntax error. `own` is false in libraries."""

    file: str
    line: int
    function: str = ""
    source: str = ""
    own: bool = True


class Stack(msgspec.Struct, frozen=True):
    """A thread or a task ("thread MainThread", "task chat"), its process, and its frames, the innermost first."""

    name: str
    pid: int
    doing: str
    frames: list[Place]


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Why something ended: one line, whether that is sure, what to do ("": nothing to paste), and where in the user's code.

    `frames` go from the outermost in, `code` is [line, text] around `place`, `evidence` what speaks for the cause.
    """

    rule: str
    cause: str
    remedy: str
    sure: bool = True
    place: Place | None = None
    frames: list[Place] = []
    code: list[tuple[int, str]] = []
    evidence: list[str] = []

    @property
    def text(self) -> str:
        """The cause, and whether it is one."""
        return self.cause if self.sure else f"Probably: {self.cause}"

    @property
    def advice(self) -> str:
        """And what to do."""
        return f"{self.text}\n{self.remedy}".rstrip()


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing serves, for who asks meanwhile. `generation` is that of the worker that ended; `tail` is what it printed."""

    generation: int = 0
    how: str = ""
    diagnosis: Diagnosis | None = None
    tail: str = ""
    starting: float | None = None  # monotonic: since when one boots, if it does
    doing: str = ""
