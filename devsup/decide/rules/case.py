"""What rules look at: the evidence of an end, and what has been read off it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from devsup.decide import stacks, tracebacks
from devsup.decide.project import Project
from devsup.events import Place

if TYPE_CHECKING:
    from devsup.decide.tracebacks import Frame, Raised
    from devsup.events import Exit

NATIVE = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 10: "SIGBUS", 11: "SIGSEGV"}
LONGEST = 280  # characters of what is shown in a line


class Evidence(NamedTuple):
    """What is known of an end. `files` are the project's Python files, relative to `folder`; `served` is in seconds.

    `exceptions` are the agent's, if it could tell; `native` is what faulthandler wrote. `intended` is the address that the
    program said it would serve. `oom_kills` are the kernel's for want of memory meanwhile: in our own cgroup, and on the
    machine; `peak` is in bytes, 0 where it is not known. `environments` are others of the project: folder, names of what
    is installed. `guess`: the exceptions need not be what the main process has ended of.
    """

    exit: Exit
    output: list[str]
    folder: str
    interpreter: str
    files: frozenset[str] = frozenset()
    served: float | None = None
    listened: bool = False
    exceptions: tuple[Raised, ...] = ()
    native: str = ""
    intended: str = ""
    phase: str = ""
    changed: tuple[str, ...] = ()
    oom_kills: tuple[int, int] = (0, 0)
    peak: int = 0
    environments: tuple[tuple[str, frozenset[str]], ...] = ()
    guess: bool = False


class Case(NamedTuple):
    """Evidence, and what has been read off it: the exceptions, the last one, and all of the output as one text."""

    evidence: Evidence
    project: Project
    chain: tuple[Raised, ...]
    raised: Raised | None
    text: str

    @property
    def place(self) -> Place | None:
        """The deepest frame of the user's own: of the crash, or of the last exception that has one."""
        own = stacks.own_frame(self.crashed, self.project.is_own)
        if own is not None:
            return as_place(own)
        for raised in reversed(self.chain):
            for frame in reversed(raised.frames):
                if self.project.is_own(frame.file):
                    return as_place(frame)
        return None

    @property
    def crashed(self) -> tuple[Frame, ...]:
        """The stack of the thread in which native code has crashed, the innermost frame first."""
        if not self.has_crashed:  # what was left is of a process that it had started
            return ()
        threads = stacks.parse(stacks.crash(self.evidence.native))
        return next((thread.frames for thread in threads if thread.is_current), ())

    @property
    def has_crashed(self) -> bool:
        """Whether native code has ended it."""
        ended = self.evidence.exit
        number = ended.signal if ended.signal is not None else (ended.code or 0) - 128
        return number in NATIVE

    def where(self) -> str:
        """That frame in words: " (main.py:3)"."""
        return f" ({self.short(self.place)})" if self.place is not None else ""

    def short(self, place: Place) -> str:
        """As people write it."""
        return f"{self.project.short(place.file)}:{place.line}"

    def healthy(self) -> str:
        """How long it had served, in words."""
        served = self.evidence.served
        return f" after {served:.1f} s of service" if served is not None else ""


def read(evidence: Evidence) -> Case:
    """What the evidence says."""
    # What ended by a signal has not ended of an exception, whatever it has printed before.
    chain = evidence.exceptions or (tracebacks.last(evidence.output) if evidence.exit.signal is None else ())
    return Case(evidence, Project(evidence.folder), chain, chain[-1] if chain else None, "\n".join(evidence.output))


def as_place(frame: Frame, *, own: bool = True) -> Place:
    """A frame as it is shown."""
    return Place(file=frame.file, line=frame.line, function=one_line(frame.function), source=one_line(frame.source), own=own)


def one_line(text: str) -> str:
    """What a program has said may be anything: no line breaks, nothing that a terminal obeys, not longer than can be read."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text[:LONGEST]).split())
    return plain if len(text) < LONGEST else f"{plain}…"
