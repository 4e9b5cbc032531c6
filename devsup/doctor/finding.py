"""One line of the checklist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Verdict = Literal["ok", "warn", "fail"]

_MOST = 10  # findings of one kind, or names in one text


class Finding(Struct, frozen=True):
    """What a check has found, as a sentence, and what to do about it: a command to paste where there is one."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def first(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first of many findings of one kind, and how many more there are."""
    found = list(findings)
    yield from found[:_MOST]
    if len(found) > _MOST:
        yield Finding(found[0].name, found[0].verdict, f"… and {len(found) - _MOST} more of these.")


def listed(words: Sequence[str]) -> str:
    """The words in a row, cut where there are many."""
    more = f" and {len(words) - _MOST} more" if len(words) > _MOST else ""
    return ", ".join(words[:_MOST]) + more


def counted(number: int, word: str) -> str:
    """A number and what it counts: 1 file, 3 files."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
