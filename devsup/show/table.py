"""Tables of what runs, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devsup.show.text import as_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COLOURS = {"ready": "green", "completed": "green", "failed": "red", "stalled": "red", "degraded": "yellow", "draining": "yellow"}
_SERVICES = ("service", "state", "for", "gen", "pid", "address", "cpu", "memory", "active", "reason")
_REQUESTS = ("id", "service", "kind", "request", "age", "holds a reload", "is in")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_EXACT = 10  # seconds below which tenths are shown


def services_table(services: Iterable[Mapping[str, Any]], *, colour: bool) -> str:
    """How services stand, a row each."""
    from rich.text import Text  # noqa: PLC0415 - slow to import

    rows: list[list[str | Text]] = []
    for each in services:
        state = Text(each["state"], COLOURS.get(each["state"], ""))
        used = [f"{each['cpu']:.0f} %", f"{each['rss'] / 2**20:.0f} MiB"] if each["pid"] else ["", ""]
        generation = str(each["generation"] or "")
        facts = [span(each["seconds"]), generation, str(each["pid"] or ""), " ".join(each["urls"]), *used]
        notes = [each["reason"], "a reload waits" if each["reloading"] else "", "prompts" if each["prompting"] else ""]
        rows.append([each["name"], state, *facts, str(each["active"] or ""), ", ".join(filter(None, notes))])
    return as_table(_SERVICES, rows, colour=colour)


def requests_table(requests: Iterable[Mapping[str, Any]], *, colour: bool) -> str:
    """What is active, a row each."""
    rows = [
        [
            each["id"],
            each["service"],
            each["kind"],
            f"{each['method']} {each['path']}".strip(),
            span(each["age"]),
            "yes" if each["holds"] else "no",
            each["waits_in"],
        ]
        for each in requests
    ]
    return as_table(_REQUESTS, rows, colour=colour) if rows else "nothing is active\n"


def span(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _EXACT else f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < _DAY else f"{seconds / _DAY:.1f} d"
