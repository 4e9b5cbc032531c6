"""What the answers to a probe come to: the service does what is asked of it, it fails, or it runs and gets nowhere.

Every probe has a judge. It is told what was found, and when: `take` for an answer, `fail` for a question that had none. Its times
are those of one clock that only goes forward, and that may stand still.

A failure is told when it has come twice in a row: a single one is what another service's reload looks like from outside. The
second question comes soon after the first, and until then the verdict stays as it was. What stalls is told at once: it has had
its time.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from devsup.decide.fields import UnfitError, cut, find, shown

AGAIN = 0.5  # seconds after which what has failed once is asked again
_QUIET = 60.0  # seconds without a line that must not be printed, after which that is over
_SHOWN = 60  # characters of an expression
_LINE = 120  # characters of a line


class Well(msgspec.Struct, frozen=True):
    """It does what is asked of it."""


class Failing(msgspec.Struct, frozen=True):
    """It answers wrongly or not at all: the service is degraded."""

    reason: str


class Stalled(msgspec.Struct, frozen=True):
    """It answers, and what it is there for does not happen."""

    reason: str


Verdict = Well | Failing | Stalled


class Pace:
    """Something that has to happen `count` times in any `within` seconds (None: at some time); without a count, nothing."""

    def __init__(self, began: float = 0.0, within: float | None = None, count: int = 0) -> None:
        self.within, self.count = math.inf if within is None else within, count
        self._times: deque[float] = deque(maxlen=count)
        self.begin(began)

    def begin(self, at: float) -> None:
        """What was before counts no more."""
        self.since = self._began = at  # `since` when nothing has happened
        self._times.clear()

    def beat(self, at: float, times: int = 1) -> None:
        """It has happened."""
        self.since = at
        self._times.extend([at] * min(times, self.count))

    @property
    def limit(self) -> float:
        """When it will not have happened often enough, unless it happens before."""
        return (self._times[0] if self._times and len(self._times) == self.count else self._began) + self.within

    def recent(self, at: float) -> int:
        """How often it has happened in the time that counts, as far as that matters."""
        return sum(time > at - self.within for time in self._times)


class Judge:
    """What all judges share. Each kind has a `take` of its own."""

    def __init__(self, name: str, pace: Pace | None = None) -> None:
        self._name, self._pace = name, pace or Pace()
        self._failures = 0
        self._problem = f"{name} has not answered yet"
        self._before: Verdict = Well()

    def fail(self, problem: str) -> None:
        """The question was not answered, or not well; `problem` continues a sentence that begins with the probe's name."""
        self._failures += 1
        self._problem = f"{self._name} {problem}"

    def verdict(self, at: float) -> Verdict:
        """What all of that comes to now."""
        if self._failures != 1:
            self._before = Failing(self._problem) if self._failures else self._stalled(at)
        return self._before

    def due(self, at: float) -> float:
        """When to ask again at the latest, or to ask for the verdict: infinite, where time alone changes nothing."""
        if self._failures == 1:
            return at + AGAIN
        return self._pace.limit if self._pace.limit > at else math.inf

    def not_yet(self, at: float) -> str:
        """Why the service does not count as ready; empty when it does."""
        if self._problem:
            return self._problem
        return "" if self._pace.recent(at) >= self._pace.count else self._awaited(at)

    def _answered(self) -> None:
        self._failures, self._problem = 0, ""

    def _stalled(self, at: float) -> Verdict:
        return Stalled(self._late(at)) if self._pace.limit <= at else Well()

    def _late(self, at: float) -> str:
        """What has not happened in time."""
        raise NotImplementedError

    def _awaited(self, at: float) -> str:
        """What has to happen before it is ready."""
        raise NotImplementedError


class Reached(Judge):
    """Of what is well when it could be asked at all: a port that takes connections, a command that succeeds."""

    def take(self) -> None:
        """It could."""
        self._answered()


class _Growing(Judge):
    """Of a number that has to grow, from the first look on. One that falls has begun anew: the service was restarted."""

    _value: float | None = None

    def _measure(self, at: float, value: float) -> None:
        before = value if self._value is None else self._value
        if value > before:
            self._pace.beat(at)
        elif value < before:
            self._pace.begin(at)
        self._value = value


class Answer(_Growing):
    """Of an endpoint: its status (None: no error), and a field of its JSON, which has to equal something or to grow."""

    def __init__(
        self, name: str, *, status: int | None = None, field: str | None = None, equals: object = None, pace: Pace | None = None
    ) -> None:
        super().__init__(name, pace)
        self._status, self._field, self._equals = status, field, equals
        self._wrong = ""

    def take(self, at: float, status: int, body: bytes | None) -> None:
        """It has answered; None is a body that did not end in time."""
        try:
            self._look(at, status, body)
        except UnfitError as exc:
            self.fail(str(exc))
        else:
            self._answered()

    def not_yet(self, at: float) -> str:
        """As of Judge."""
        return self._problem or self._wrong or super().not_yet(at)

    def _look(self, at: float, status: int, body: bytes | None) -> None:
        if self._status is not None and status != self._status:
            raise UnfitError(f"answered {status}, {self._status} expected")
        if self._status is None and not 200 <= status < 400:
            raise UnfitError(f"answered {status}")
        if self._field is None:
            return
        value = find(body, self._field)
        if self._equals is not None:
            is_wrong = value != self._equals or isinstance(value, bool) != isinstance(self._equals, bool)
            is_what = f"{self._name} {self._field} is {shown(value)}, {shown(self._equals)} expected"
            self._wrong = is_what if is_wrong else ""
        if self._pace.count:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UnfitError(f"{self._field} is {shown(value)}, a number expected")
            self._measure(at, value)

    def _stalled(self, at: float) -> Verdict:
        return Stalled(self._wrong) if self._wrong else super()._stalled(at)

    def _late(self, at: float) -> str:
        return f"{self._name} {self._field} is {shown(self._value)} for {_seconds(at - self._pace.since)}"

    def _awaited(self, at: float) -> str:  # noqa: ARG002 - it is always the same
        return f"{self._name} {self._field} is {shown(self._value)} and has not grown yet"


class Size(_Growing):
    """Of a file, which has to be there, and may have to grow."""

    def take(self, at: float, size: int | None) -> None:
        """So large it is; None: there is none."""
        self._measure(at, size or 0)  # that it comes to be is growth
        if size is None:
            self.fail("is not there")
        else:
            self._answered()

    def _late(self, at: float) -> str:
        return f"{self._name} has not grown for {_seconds(at - self._pace.since)} ({self._value:,} bytes)"

    def _awaited(self, at: float) -> str:  # noqa: ARG002 - it is always the same
        return f"{self._name} has not grown yet ({self._value:,} bytes)"


class Events(Judge):
    """Of a stream, in which so many events have to come in any so many seconds, from when it could first be opened."""

    def take(self, at: float, events: int = 0) -> None:
        """It is open, and so many have come."""
        if self._problem:
            self._pace.begin(at)
        self._answered()
        if events:
            self._pace.beat(at, events)

    def _late(self, at: float) -> str:
        return f"{self._name}: {self._count(at)} in {_seconds(self._pace.within)}, {self._pace.count} expected"

    def _awaited(self, at: float) -> str:
        return f"{self._name}: {self._count(at)} so far, {self._pace.count} expected"

    def _count(self, at: float) -> str:
        number = self._pace.recent(at)
        return f"{number} event{'' if number == 1 else 's'}"


class Printed(Judge):
    """Of a line that has to be printed."""

    def __init__(self, expression: str, pace: Pace) -> None:
        super().__init__("", pace)
        self._what = f'nothing like "{cut(expression, _SHOWN)}" was printed'
        self._answered()

    def take(self, at: float, _expression: str, _line: str) -> None:
        """It was."""
        self._pace.beat(at)

    def _late(self, at: float) -> str:
        return f"{self._what} for {_seconds(at - self._pace.since)}"

    def _awaited(self, at: float) -> str:  # noqa: ARG002 - it is always the same
        return f"{self._what} yet"


class Unprinted(Judge):
    """Of lines that must not be printed. When one was, that holds until a minute has passed without."""

    def __init__(self) -> None:
        super().__init__("")
        self._answered()
        self._over, self._said = -math.inf, ""

    def take(self, at: float, expression: str, line: str) -> None:
        """One was."""
        self._over = at + _QUIET
        self._said = f'"{cut(expression, _SHOWN)}" was printed: {cut(line.strip(), _LINE)}'

    def verdict(self, at: float) -> Verdict:
        """As of Judge; a line that was printed needs no second one."""
        return Failing(self._said) if at < self._over else Well()

    def due(self, at: float) -> float:
        """As of Judge."""
        return self._over if self._over > at else math.inf


def _seconds(seconds: float) -> str:
    return f"{round(seconds, 1 if seconds < 2 else None):g} s"
