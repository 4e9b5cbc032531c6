"""What a smoke check has found, for GitHub's workflows: annotations at lines of code, and a summary of the job."""

import html
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from devsup.events import Place, Report
from devsup.show.checks import LATENCY_HEAD, Check, Checks, by_check, counted, has_several, latency_rows, phases, readable

_MOST = 10  # errors that GitHub takes from a step
_LONGEST = 300  # characters of a cell
_LONGEST_COMMAND = 2000
_LONGEST_DETAILS = 20_000  # characters of one check's
_LARGEST = 1_000_000  # bytes; GitHub drops a summary that is larger than 1 MiB
_SIGNS = {"passed": "✅ passed", "failed": "❌ failed", "slow": "⚠️ slow", "skipped": "➖ skipped"}
_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = {**_DATA, ord(":"): "%3A", ord(","): "%2C"}
_MARKUP = str.maketrans({char: f"&#{ord(char)};" for char in "\\`*_{}[]<>()#!|~&:@$'\""})


# -- annotations ----------------------------------------------------------------------------------------------------------


def annotations(report: Report, root: Path) -> str:
    """An error for each check that is bad, at its place if that is in this repository; a line each."""
    bad = [check for check in by_check(report) if check.worst.is_bad]
    return "".join(f"{_annotation(check, root, len(report.rounds))}\n" for check in bad[:_MOST])


def _annotation(check: Check, root: Path, rounds: int) -> str:
    outcome = check.worst
    diagnosis = outcome.diagnosis
    place = outcome.place or (diagnosis.place if diagnosis is not None else None)
    fields = _location(place, root) if place is not None else {}
    fields["title"] = f"devsup check: {readable(check.name)}"
    told = [outcome.text, check.times if rounds > 1 else "", outcome.request]
    told += [diagnosis.text, diagnosis.remedy] if diagnosis is not None else []
    told += [f"run it alone: {outcome.alone}"] if outcome.alone else []
    message = "\n".join(dict.fromkeys(readable(each) for each in told if each))
    properties = ",".join(f"{name}={value.translate(_PROPERTY)}" for name, value in fields.items())
    return f"::error {properties}::{message.translate(_DATA)}"


def _location(place: Place, root: Path) -> dict[str, str]:
    """As GitHub knows it; nothing where it does not."""
    path = os.path.relpath(os.path.realpath(root / readable(place.file)), os.path.realpath(root))
    is_outside = path in {os.curdir, os.pardir} or path.startswith(os.pardir + os.sep)
    return {} if is_outside else {"file": path, "line": str(place.line)}


# -- the summary ----------------------------------------------------------------------------------------------------------


def summary(report: Report, folder: Path | None = None) -> str:
    """Markdown: every check, why bad ones are bad, and how long it took. Paths are shown from `folder` on, or from here."""
    return _limited(_parts(report, folder or Path.cwd()))


def _parts(report: Report, folder: Path) -> Iterator[str]:
    found, several = by_check(report), has_several(report)
    yield f"## devsup check: {counted(report)}\n\n<code>{_inline(report.command, _LONGEST_COMMAND)}</code>\n\n"
    yield from _table(["", "check", "found", "seconds", "rounds"], [_row(check, len(report.rounds)) for check in found])
    checks = Checks(folder, colour=False, width=0, several=several)
    yield from (_details(check, checks) for check in found if check.worst.is_bad)
    rows, _ = latency_rows(report.rounds, several=several)
    if rows:
        yield "### Latency in milliseconds\n\n"
        yield from _table(LATENCY_HEAD, rows)
    yield f"{report.seconds:.1f} s: {_inline(phases(report.rounds), _LONGEST_COMMAND)}\n"


def _row(check: Check, rounds: int) -> list[str]:
    outcome = check.worst
    return [_SIGNS[outcome.verdict], check.name, outcome.text, f"{outcome.seconds:.2f}", check.times if rounds > 1 else ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Its lines, without columns that are empty, and an empty line."""
    filled = [number for number in range(len(head)) if any(row[number] for row in rows)]
    lines = [[head[number] for number in filled], ["---"] * len(filled)]
    lines += [[_inline(row[number], _LONGEST) for number in filled] for row in rows]
    return [*(f"| {' | '.join(line)} |\n" for line in lines), "\n"]


def _details(check: Check, checks: Checks) -> str:
    """A block that opens, if there is more to tell. In it is text: nothing of it can end the <pre>."""
    told, text = readable(check.worst.text), checks.details(check.worst)
    if len(told) > _LONGEST:
        text = f"{told}\n{text}"
    if not text:
        return ""
    if len(text) > _LONGEST_DETAILS:
        text = f"{text[:_LONGEST_DETAILS]}…\n"
    head = f"{_inline(check.name, _LONGEST)}: {_inline(told, _LONGEST)}"
    return f"<details><summary>{head}</summary>\n\n<pre>\n{html.escape(text)}</pre>\n\n</details>\n\n"


def _inline(text: str, most: int) -> str:
    """Somebody's text within a line: no sign of it means anything to Markdown."""
    flat = readable(text)
    return (flat if len(flat) <= most else f"{flat[:most]}…").translate(_MARKUP)


def _limited(parts: Iterable[str]) -> str:
    """As many of them as GitHub takes; each is a line of a table, or a block that is whole."""
    taken, left = list[str](), _LARGEST
    for part in parts:
        left -= len(part.encode())
        if left < 0:
            return "".join([*taken, "\n\nThe rest is too long for a summary.\n"])
        taken.append(part)
    return "".join(taken)
