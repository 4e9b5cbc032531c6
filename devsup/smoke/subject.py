"""A service while it is checked: what it and devsup have said, and the outcomes of its checks."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from devsup import events
from devsup.smoke.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devsup.events import Diagnosis, Event, Outcome, Stack
    from devsup.launch import Options
    from devsup.smoke.wishes import Names
    from devsup.team import Member

_Event = TypeVar("_Event", bound=events.Event)

_ALWAYS = frozenset({"start", "ready", "hold"})  # what fails there is told, whatever was asked for


class Subject:
    """One service. `tell` hears of each outcome; `alone` is the command that runs one check by itself, up to its name."""

    def __init__(
        self, options: Options, recorder: Recorder, names: Names, alone: Sequence[str], tell: Callable[[Outcome], None]
    ) -> None:
        self.name = options.name
        self.service, self.recorder, self._names, self._alone, self._tell = options.service, recorder, names, alone, tell
        self.member: Member
        self.outcomes: list[Outcome] = []
        self.began = time.monotonic()
        self.spells: list[tuple[float, float]] = []  # from when until when requests were answered with 500 or more (monotonic)
        self.ports: set[int] = set()  # that it served when it was asked to end
        self._story: list[tuple[float, Event]] = []

    def meet(self, member: Member) -> None:
        """It begins to live."""
        self.member = member
        member.bus.subscribe(lambda _at, _service, event: self._story.append((time.monotonic(), event)))

    @property
    def has_failed(self) -> bool:
        """It did not start, become ready or stay up: that is told, and not what follows from it."""
        return any(each.is_bad and each.name in _ALWAYS for each in self.outcomes)

    def said(self, kind: type[_Event], since: float = 0.0) -> list[_Event]:
        """Events of this kind, from that time (monotonic) on."""
        return [event for at, event in self._story if isinstance(event, kind) and at >= since]

    def near(self, kind: type[_Event], at: float, seconds: float) -> _Event | None:
        """The first event of this kind that came so soon before or after that time (monotonic)."""
        found = (event for when, event in self._story if isinstance(event, kind) and abs(when - at) <= seconds)
        return next(found, None)

    def last(self, kind: type[_Event]) -> _Event | None:
        """The last event of this kind."""
        return next(reversed(self.said(kind)), None)

    def wants(self, name: str) -> bool:
        """Whether this check is asked for."""
        return self._names.has(self.name, name)

    def passed(self, name: str, text: str, since: float | None = None, **more: Any) -> None:
        """It is as it should be."""
        self._add(name, "passed", text, since, **more)

    def skipped(self, name: str, text: str) -> None:
        """It could not be looked at, or there is nothing to look at."""
        self._add(name, "skipped", text, None)

    def failed(self, name: str, text: str, since: float | None = None, **more: Any) -> None:
        """It is not; what the service has printed meanwhile is told, too."""
        now = time.monotonic()
        if "lines" not in more:
            more["lines"] = self.recorder.lines(since or self.began, now)
        self._add(name, more.pop("verdict", "failed"), text, since, alone=self._command(name), **more)

    def _add(self, name: str, verdict: events.Verdict, text: str, since: float | None, **more: Any) -> None:
        if not self.wants(name) and (verdict != "failed" or name not in _ALWAYS):
            return
        seconds = more.pop("seconds", time.monotonic() - since if since is not None else 0.0)
        diagnosis: Diagnosis | None = more.get("diagnosis")
        place = diagnosis.place if diagnosis is not None else None
        outcome = events.Outcome(name=name, service=self.name, verdict=verdict, text=text, seconds=seconds, place=place, **more)
        masked = msgspec.structs.replace(self.member.bus.masked(outcome), lines=outcome.lines)  # what it printed itself passes
        self.outcomes.append(masked)
        self._tell(masked)

    def _command(self, name: str) -> str:
        head, *rest = self._alone
        return shlex.join([head, "check", "--only", name, *rest])


def uncaught(found: events.Unhandled | None) -> Diagnosis | None:
    """An exception that nobody caught, as a diagnosis of what it has broken; None where there was none."""
    if found is None:
        return None
    place = next((each for each in reversed(found.frames) if each.own), None)
    return events.Diagnosis(rule="unhandled", cause=found.cause, remedy="", place=place, frames=found.frames)


def standing(found: Sequence[Stack], cause: str) -> Diagnosis | None:
    """Where the user's own code stands, as a diagnosis of what hangs; None where none of it runs."""
    own = [each for each in found if any(frame.own for frame in each.frames)]
    if not own:
        return None
    main = next((each for each in own if "MainThread" in each.name), own[0])
    frames = list(reversed(main.frames))
    place = next(frame for frame in main.frames if frame.own)
    doing = f": {main.doing}" if main.doing else ""
    return events.Diagnosis(rule="hangs", cause=f"{cause}{doing} ({main.name})", remedy="", sure=True, place=place, frames=frames)
