"""The doctor's findings, a line each, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLOURS = {"ok": 32, "warn": 33, "fail": 31}
_NAME = 11  # characters of the longest
_MARGIN = len("fail  ") + _NAME + 2


def as_text(finding: Mapping[str, Any], *, colour: bool) -> str:
    """The verdict, what was found, and below it what to do."""
    verdict = f"{finding['verdict']:<4}"
    if colour:
        verdict = f"\x1b[{_COLOURS[finding['verdict']]}m{verdict}\x1b[0m"
    remedy = f"{' ' * _MARGIN}→ {finding['remedy']}\n" if finding["remedy"] else ""
    return f"{verdict}  {finding['name']:<{_NAME}}  {finding['text']}\n{remedy}"


def summary(findings: Sequence[Mapping[str, Any]]) -> str:
    """How many there are of each."""
    counts = {verdict: sum(each["verdict"] == verdict for each in findings) for verdict in _COLOURS}
    warnings = f", {counts['warn']} warning{'' if counts['warn'] == 1 else 's'}" if counts["warn"] else ""
    failures = f", {counts['fail']} failure{'' if counts['fail'] == 1 else 's'}" if counts["fail"] else ""
    return f"{counts['ok']} ok{warnings}{failures}\n"
