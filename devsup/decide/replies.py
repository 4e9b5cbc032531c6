"""Whether an HTTP answer is the one that a check demands, and whether its runs were quick enough."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from devsup.decide.fields import UnfitError, cut, find, shown
from devsup.events import Latency

_PERCENTILE = 0.95


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What is demanded: a status from `least` to `most`, fields of the JSON by path, expressions of headers or the body.

    `redirect` is a whole URL.
    """

    least: int = 200
    most: int = 399
    fields: Mapping[str, object] = {}
    headers: Mapping[str, str] = {}
    pattern: str | None = None
    redirect: str | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; the names of headers are in lower case. `location` is where a redirect leads, as a whole URL ("": nowhere)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    location: str = ""


def wrong(expected: Expected, reply: Reply) -> str:
    """What is not as demanded, the first of it; empty where all is. It continues a sentence that begins with the request."""
    return next(_differences(expected, reply), "")


def _differences(expected: Expected, reply: Reply) -> Iterator[str]:
    least, most = (300, 399) if expected.redirect is not None and expected.least == 200 else (expected.least, expected.most)
    if not least <= reply.status <= most:
        yield f"answered {reply.status}, {_statuses(least, most)} expected"
    if expected.redirect is not None and reply.location != expected.redirect:
        yield f"redirects to {reply.location or 'nowhere'}, {expected.redirect} expected"
    for name, expression in expected.headers.items():
        value = reply.headers.get(name.lower())
        if value is None or not matches(expression, value):
            yield f"has {f'{name}: {cut(value)}' if value is not None else f'no header {name}'}, {shown(expression)} expected"
    yield from _fields(expected.fields, reply.body)
    if expected.pattern is not None and not matches(expected.pattern, reply.body.decode("utf-8", "replace")):
        yield f"has nothing like {shown(expected.pattern)} in its {len(reply.body):,} bytes"


def matches(expression: str, text: str) -> bool:
    """Whether the regular expression occurs in the text; `^` and `$` are those of a line."""
    return re.search(expression, text, re.MULTILINE) is not None


def _statuses(least: int, most: int) -> str:
    return str(least) if least == most else f"less than {most + 1}" if least <= 200 else f"{least} to {most}"


def _fields(wanted: Mapping[str, object], body: bytes) -> Iterator[str]:
    for field, value in wanted.items():
        try:
            found = find(body, field)
        except UnfitError as exc:
            yield str(exc)
            return
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            yield f"has {field} = {shown(found)}, {shown(value)} expected"


def measured(times: Sequence[float], errors: int, budgets: Mapping[str, float]) -> Latency:
    """The figures of a scenario: its runs in seconds, at least one, and how many of them were answered wrongly."""
    ordered = sorted(times)
    return Latency(
        runs=len(ordered),
        errors=errors,
        min=ordered[0],
        max=ordered[-1],
        mean=statistics.fmean(ordered),
        median=statistics.median(ordered),
        p95=ordered[math.ceil(_PERCENTILE * len(ordered)) - 1],
        deviation=statistics.stdev(ordered) if len(ordered) > 1 else 0.0,
        budgets=dict(budgets),
    )


def over_budget(latency: Latency) -> list[str]:
    """The figures that are above what was allowed, in words."""
    found = {name: getattr(latency, name) for name in latency.budgets}
    return [
        f"{name} {milliseconds(found[name])}, {milliseconds(most)} allowed"
        for name, most in latency.budgets.items()
        if found[name] > most
    ]


def milliseconds(seconds: float) -> str:
    """A time as people read it."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
