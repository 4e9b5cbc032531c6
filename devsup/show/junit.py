"""What a smoke check has found as JUnit XML, in the form that both common schemas take: Jenkins' and Ant's."""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from devsup.show.checks import Checks, counts, one_line
from devsup.show.text import SEQUENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devsup.events import Outcome, Report

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def as_junit(report: Report, folder: Path | None = None) -> bytes:
    """A suite for each service in each round, with a case for each check. Paths are shown from `folder` on, or from here."""
    root, began = ET.Element("testsuites"), report.began
    for number, each in enumerate(report.rounds, 1):
        for service in dict.fromkeys(outcome.service for outcome in each.outcomes):
            found = [outcome for outcome in each.outcomes if outcome.service == service]
            name = f"{service} #{number}" if len(report.rounds) > 1 else service
            suite = _suite(_legal(name), found, began, Checks(folder or Path.cwd(), colour=False, width=0))
            suite.set("id", str(len(root)))
            suite[0].append(ET.Element("property", name="command", value=_legal(report.command)))
            root.append(suite)
        began += sum(each.phases.values())
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _suite(name: str, outcomes: Sequence[Outcome], began: float, checks: Checks) -> ET.Element:
    found = counts(outcomes)
    suite = ET.Element(
        "testsuite",
        name=name.strip() or "?",
        package="devsup",
        timestamp=datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%dT%H:%M:%S"),  # the schemas know no time zone
        hostname=_legal(platform.node()).strip() or "localhost",
        tests=str(len(outcomes)),
        failures=str(found["failed"] + found["slow"]),
        errors="0",
        skipped=str(found["skipped"]),
        time=_seconds(sum(outcome.seconds for outcome in outcomes)),
    )
    ET.SubElement(suite, "properties")
    suite.extend(_case(outcome, checks) for outcome in outcomes)
    # Ant's schema has none in a case; what was printed then is in the failure's text, too.
    printed = [line for outcome in outcomes if outcome.lines for line in (f"-- {outcome.name}", *outcome.lines)]
    ET.SubElement(suite, "system-out").text = _legal("\n".join(printed))
    ET.SubElement(suite, "system-err")
    return suite


def _case(outcome: Outcome, checks: Checks) -> ET.Element:
    case = ET.Element(
        "testcase",
        name=_legal(outcome.name).strip() or "?",
        classname=f"devsup.{_legal(outcome.service)}",
        time=_seconds(outcome.seconds),
    )
    text = _legal(one_line(outcome.text))
    if outcome.is_bad:
        failure = ET.SubElement(case, "failure", message=text, type=outcome.verdict)
        failure.text = f"{text}\n{_legal(checks.details(outcome))}"
    elif outcome.verdict == "skipped":
        ET.SubElement(case, "skipped", message=text)
    return case


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _legal(text: str) -> str:
    """Without colours, and without what no XML may hold."""
    return _ILLEGAL.sub("", SEQUENCE.sub("", text))
