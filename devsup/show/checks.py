"""What a smoke check has found: a line for each outcome, why it is bad, how long scenarios took, and the sum; also as JSON."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from devsup.show.failures import Failures, plain
from devsup.show.text import SEQUENCE, as_table, as_text, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from devsup.events import Diagnosis, Latency, Outcome, Place, Report, Round

VERDICTS = ("passed", "failed", "slow", "skipped")
_WORDS = {"passed": "PASS", "failed": "FAIL", "slow": "SLOW", "skipped": "SKIP"}
_MARKS = {"passed": "✓", "failed": "✗", "slow": "!", "skipped": "-"}
_COLOURS = {"passed": "green", "failed": "red", "slow": "yellow", "skipped": "dim"}
_LATENCY = ("min", "max", "mean", "median", "p95", "deviation")
_WIDEST = 32  # columns of a name, beyond which the others are not padded
_SHOWN = 0.1  # seconds from which on they are told
_MOST_LINES = 20  # of what was printed
_LONGEST = 2000  # characters of one text
_SEQUENCES = 8  # times as much is looked at, as colours do not count
_LONGEST_LINE = 500  # characters of a line that was printed
_BREAK = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


# -- what the texts are made of -------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """A check in all rounds; the service is in its name where there are several."""

    name: str
    outcomes: list[Outcome]

    @property
    def worst(self) -> Outcome:
        """The first that failed, else the first that was slow, else the first that has passed."""
        return min(self.outcomes, key=lambda each: ("failed", "slow", "passed", "skipped").index(each.verdict))

    @property
    def times(self) -> str:
        """In how many rounds it was bad: "failed in 2, slow in 1 of 10 rounds"."""
        found = counts(self.outcomes)
        bad = ", ".join(f"{verdict} in {found[verdict]}" for verdict in ("failed", "slow") if found[verdict])
        return f"{bad} of {len(self.outcomes)} rounds" if bad else ""


def by_check(report: Report) -> list[Check]:
    """The checks in the order in which they came first."""
    found: dict[str, list[Outcome]] = {}
    several = has_several(report)
    for outcome in report.outcomes:
        found.setdefault(name_of(outcome, several=several), []).append(outcome)
    return [Check(name, outcomes) for name, outcomes in found.items()]


def has_several(report: Report) -> bool:
    """Whether it is of more than one service."""
    return len({outcome.service for outcome in report.outcomes}) > 1


def name_of(outcome: Outcome, *, several: bool) -> str:
    """How a check is called."""
    return f"{outcome.service}.{outcome.name}" if several else outcome.name


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many there are of each verdict."""
    found = Counter[str](each.verdict for each in outcomes)
    return {verdict: found[verdict] for verdict in VERDICTS}


def counted(report: Report) -> str:
    """The same in words: "11 passed, 1 failed"."""
    found = counts(report.outcomes)
    return ", ".join(f"{number} {verdict}" for verdict, number in found.items() if number) or "nothing was checked"


def phases(rounds: Iterable[Round]) -> str:
    """What took how long, in all rounds together."""
    total: dict[str, float] = {}
    for each in rounds:
        for phase, seconds in each.phases.items():
            total[phase] = total.get(phase, 0.0) + seconds
    return ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in total.items())


def one_line(text: str, most: int = _LONGEST) -> str:
    """Somebody's text without colours, tabs, breaks and halves of characters, and not longer than people read."""
    begin = text[: most * _SEQUENCES]
    flat = _BREAK.sub(" ", SEQUENCE.sub("", encodable(begin)).rstrip()).expandtabs(4)
    return flat if len(flat) <= most and begin == text else f"{flat[:most]}… ({len(text)} characters)"


def encodable(text: str) -> str:
    """Without the halves of characters that a file name has which is no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def readable(text: str) -> str:
    """One line that every file and terminal takes: what cannot be printed is a question mark."""
    return "".join(char if char.isprintable() else "?" for char in one_line(text))


class Checks:
    """Renders outcomes as they come, and then all of them.

    Paths are shown from `folder` on; `names` are those that will come, as far as that is known, as `name_of` makes them.
    """

    def __init__(self, folder: Path, *, colour: bool, width: int, several: bool = False, names: Iterable[str] = ()) -> None:
        self._folder, self._colour, self._width, self._several = folder, colour, width, several
        self._pad = max((len(name) for name in names if len(name) <= _WIDEST), default=0)
        self._failures = Failures(folder, linked=colour, verbose=False)

    def outcome(self, outcome: Outcome) -> str:
        """One line, and what is to know of a bad one."""
        return self._text([self._line(outcome)]) + (self.details(outcome) if outcome.is_bad else "")

    def details(self, outcome: Outcome) -> str:
        """What was sent, why it went wrong, what was printed meanwhile, and how to try it alone; indented."""
        told = not outcome.request or outcome.request in outcome.text
        lines = [] if told else [f"request: {_said(one_line(outcome.request))}"]
        lines += self._why(outcome)
        if outcome.lines:
            lines += ["[dim]it printed:[/dim]", *map(_printed, _last(outcome.lines))]
        if outcome.alone:
            lines.append(f"[dim]run it alone:[/dim] {_said(one_line(outcome.alone))}")
        return self._text(f"    {line}" for line in lines)

    def latencies(self, rounds: Sequence[Round]) -> str:
        """A table of the scenarios that were run many times; empty where there is none."""
        rows, colours = latency_rows(rounds, several=self._several)
        if not rows:
            return ""
        from rich.text import Text  # noqa: PLC0415 - slow to import

        columns = [_aligned(head, cells) for head, cells in zip(LATENCY_HEAD, zip(*rows, strict=True), strict=True)]
        head, *body = zip(*columns, strict=True)
        cells = [[*row[:-1], Text(row[-1], colour)] for row, colour in zip(body, colours, strict=True)]
        table = as_table(head, cells, colour=self._colour, width=self._width if self._colour else 0, whole=head[1:])
        return f"latency in milliseconds\n{table}"

    def summary(self, report: Report) -> str:
        """How many have passed, how long it took, and what fails how often."""
        found = counts(report.outcomes)
        colour = "red" if found["failed"] else "yellow" if found["slow"] or not report.outcomes else "green"
        parts = phases(report.rounds)
        took = f" in {report.seconds:.1f} s" + (f" [dim]({plain(parts)})[/dim]" if parts else "")
        lines = [f"[bold {colour}]{counted(report)}[/bold {colour}]{took}"]
        if len(report.rounds) > 1:
            passed = sum(not any(outcome.is_bad for outcome in each.outcomes) for each in report.rounds)
            lines.append(f"{passed} of {len(report.rounds)} rounds passed")
            bad = [check for check in by_check(report) if check.worst.is_bad]
            lines += [f"  {_said(one_line(check.name))} {_rounds(check, len(report.rounds))}" for check in bad]
        return self._text(lines)

    def _line(self, outcome: Outcome) -> str:
        colour, words = _COLOURS[outcome.verdict], _MARKS if self._colour else _WORDS
        name = one_line(name_of(outcome, several=self._several), _LONGEST_LINE).ljust(self._pad)
        slow = f"  [{colour}]slow[/{colour}]" if outcome.verdict == "slow" and self._colour else ""
        said = one_line(outcome.text)
        text = _dim(said) if outcome.verdict == "skipped" else _said(said)
        seconds = f" [dim]({outcome.seconds:.1f} s)[/dim]" if outcome.seconds > _SHOWN else ""
        mark = f"[{colour}]{words[outcome.verdict]}[/{colour}]"
        return f"{mark} {_said(name)}{slow}{f'  {text}' if said else ''}{seconds}"

    def _why(self, outcome: Outcome) -> list[str]:
        """The diagnosis, but for a cause that the outcome's own line has told; else only the place."""
        if outcome.diagnosis is not None:
            cause, *rest = self._failures.why(_bounded(outcome.diagnosis))
            return rest if outcome.diagnosis.text in outcome.text else [cause, *rest]
        if outcome.place is None:
            return []
        place = _place(outcome.place)
        function = f" in {_said(place.function)}" if place.function else ""
        source = [f"  [bold]> {place.line}  {_said(one_line(place.source))} [/bold]"] if place.source else []
        return [f"at {plain(short(place.file, self._folder))}:{place.line}{function}", *source]

    def _text(self, lines: Iterable[str]) -> str:
        text = as_text(lines, colour=self._colour, width=max(self._width, 40))
        return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _said(text: str) -> str:
    """Somebody's text as markup, before a space or at the end: `plain` would double its last backslash."""
    bare = text.rstrip("\\")
    return plain(bare) + text[len(bare) :]


def _dim(text: str) -> str:
    """Somebody's text, whose last backslashes would be the tag's."""
    bare = text.rstrip("\\")
    return f"[dim]{plain(bare)}{text[len(bare) :] * 2}[/dim]"


def _printed(line: str) -> str:
    """A line of the service's own. GitHub would take "::error::" at its beginning for a command; so there is a bar."""
    return _dim(f"| {one_line(line, _LONGEST_LINE)}")


def _last(lines: Sequence[str]) -> list[str]:
    left = len(lines) - _MOST_LINES
    return [f"({left} more before)", *lines[left:]] if left > 0 else list(lines)


def _rounds(check: Check, rounds: int) -> str:
    return check.times if len(check.outcomes) == rounds else f"{check.times}, of {rounds}"


def _bounded(diagnosis: Diagnosis) -> Diagnosis:
    """The same for people: what a program's exception says may be a megabyte."""
    return msgspec.structs.replace(
        diagnosis,
        cause=one_line(diagnosis.cause),
        remedy=one_line(diagnosis.remedy),
        place=_place(diagnosis.place) if diagnosis.place is not None else None,
        frames=list(map(_place, diagnosis.frames)),
        code=[(number, one_line(text, _LONGEST_LINE)) for number, text in diagnosis.code],
    )


def _place(place: Place) -> Place:
    return msgspec.structs.replace(place, file=one_line(place.file), function=one_line(place.function, _LONGEST_LINE))


# -- latency --------------------------------------------------------------------------------------------------------------

LATENCY_HEAD = ("scenario", "round", "runs", "errors", *_LATENCY, "budget", "verdict")


def latency_rows(rounds: Sequence[Round], *, several: bool) -> tuple[list[list[str]], list[str]]:
    """A row of cells for each that has a latency, and the colour of each."""
    rows, colours = [], []
    for number, each in enumerate(rounds, 1):
        for outcome in each.outcomes:
            if outcome.latency is not None:
                name = readable(name_of(outcome, several=several))
                cells = _latency(outcome.latency)
                rows.append([name, str(number) if len(rounds) > 1 else "", *cells, _WORDS[outcome.verdict]])
                colours.append(_COLOURS[outcome.verdict])
    return rows, colours


def _latency(latency: Latency) -> list[str]:
    times = [_milliseconds(getattr(latency, name)) for name in _LATENCY]
    budget = ", ".join(f"{readable(name)} {_milliseconds(allowed)}" for name, allowed in latency.budgets.items())
    return [str(latency.runs), str(latency.errors or ""), *times, budget]


def _milliseconds(seconds: float) -> str:
    """Three digits, or as many as it has before the point."""
    value = seconds * 1000
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _aligned(head: str, cells: Sequence[str]) -> list[str]:
    """A column: numbers stand at the right, below a head that does."""
    if head in {"scenario", "budget", "verdict"} or not any(cells):
        return [head, *cells]
    width = max(map(len, (head, *cells)))
    return [cell.rjust(width) for cell in (head, *cells)]


# -- for programs ---------------------------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """All of it, and how many there are of each verdict."""
    record = {**msgspec.to_builtins(report), "counts": counts(report.outcomes)}
    return msgspec.json.format(msgspec.json.encode(_encodable(record)), indent=2).decode()


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return encodable(value)
        case dict():
            return {_encodable(key): _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return [_encodable(each) for each in value]
        case _:
            return value
