"""JUnit XML: what CI systems read of it, and that its schemas take it. tests/show/junit.xsd says where the rules are from."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema

from devsup.events import Outcome, Place, Report
from devsup.show.junit import as_junit
from reports import FOLDER, HOSTILE, MIXED, NO_IMPORT, hostile, outcome, report

_SCHEMA = xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))


def parsed(whole: Report) -> ET.Element:
    """As any reader has it, and valid."""
    data = as_junit(whole, Path(FOLDER))
    _SCHEMA.validate(data)
    return ET.fromstring(data)


def cases(*outcomes: Outcome) -> list[ET.Element]:
    return parsed(report(list(outcomes))).findall("testsuite/testcase")


def test_a_suite() -> None:
    root = parsed(report(MIXED, seconds=9))
    suite = root[0]
    counts = {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped", "time", "timestamp", "id")}
    assert counts == {
        "name": "web",
        "tests": "5",
        "failures": "3",
        "errors": "0",
        "skipped": "0",
        "time": "2.230",
        "timestamp": "2023-11-14T22:13:20",
        "id": "0",
    }
    assert suite.get("hostname")
    assert [each.attrib for each in suite.iter("property")] == [
        {"name": "command", "value": "devsup check -- uvicorn app.main:app"}
    ]
    assert [each.get("name") for each in suite.iter("testcase")] == ["start", "items", "search", "buy", "list"]
    assert {each.get("classname") for each in suite.iter("testcase")} == {"devsup.web"}
    assert [each.get("time") for each in suite.iter("testcase")][:2] == ["0.410", "0.020"]
    assert suite.findtext("system-out") == ('-- items\nINFO:     "GET /items" 500\nERROR:    Exception in ASGI application')


def test_what_came_of_each() -> None:
    passed, failed, slow, skipped = cases(
        outcome(),
        outcome(verdict="failed", text="wrong"),
        outcome(verdict="slow", text="late"),
        outcome(verdict="skipped", text="why"),
    )
    assert len(passed) == 0
    assert [(each.tag, each.attrib) for each in failed] == [("failure", {"message": "wrong", "type": "failed"})]
    assert [(each.tag, each.attrib) for each in slow] == [("failure", {"message": "late", "type": "slow"})]
    assert [(each.tag, each.attrib) for each in skipped] == [("skipped", {"message": "why"})]


def test_a_failure_tells_all() -> None:
    assert cases(*NO_IMPORT)[0].findtext("failure") == (
        "ended with exit code 1\n"
        "    Module nonexistent is not installed in .venv/bin/python (app/main.py:3)\n"
        "        2\n"
        "      > 3  import nonexistent\n"
        "        4  from fastapi import FastAPI\n"
        "      · 1 frame in uvicorn\n"
        "      · app/main.py:3 <module>\n"
        "    .venv/bin/python -m pip install nonexistent\n"
        "    it printed:\n"
        "    | Traceback (most recent call last):\n"
        "    run it alone: devsup check --only start -- uvicorn app.main:app\n"
    )


def test_a_suite_for_each_service_in_each_round() -> None:
    team = [outcome("a", service="web"), outcome("b", service="api"), outcome("c", service="web")]
    root = parsed(report(team))
    assert [each.get("name") for each in root] == ["web", "api"]
    assert [[case.get("name") for case in suite.iter("testcase")] for suite in root] == [["a", "c"], ["b"]]
    root = parsed(report(team, team))
    assert [(each.get("name"), each.get("id")) for each in root] == [
        ("web #1", "0"),
        ("api #1", "1"),
        ("web #2", "2"),
        ("api #2", "3"),
    ]
    assert [each.get("timestamp") for each in root] == ["2023-11-14T22:13:20"] * 2 + ["2023-11-14T22:13:24"] * 2  # 3.5 s later
    assert root[2][1].get("classname") == "devsup.web"


def test_a_service_without_a_name() -> None:
    suite = parsed(report([outcome("\x00", service="\x1b[1m")]))[0]
    assert (suite.get("name"), suite[1].get("name"), suite[1].get("classname")) == ("?", "?", "devsup.")


def test_paths_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    whole = report([outcome(verdict="failed", place=Place(file=str(tmp_path / "m.py"), line=3))])
    assert b"    at m.py:3\n" in as_junit(whole)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts(text: str) -> None:
    whole = report([hostile(text)], [outcome(text, "skipped", text), outcome(text, text=text, service=text)])
    root = parsed(whole)
    assert root[0].get("failures") == "1"
    assert sum(len(suite.findall("testcase")) for suite in root) == 3
    assert "\x1b" not in as_junit(whole).decode()


def test_what_is_legal_stays() -> None:
    text = "a\tb <c> & \"d\" ]]> 'e' ä \U0001f600"
    suite = parsed(report([outcome(verdict="failed", text=text, lines=[f"{text}\x00\x08\ud83d\ufffe\x1b[1m!"])]))[0]
    assert suite.findtext("system-out") == f"-- items\n{text}!"
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == text.expandtabs(4)


def test_a_megabyte() -> None:
    failure = cases(outcome(verdict="failed", text="x" * 1_000_000, request="y" * 1_000_000))[0][0]
    assert failure.get("message", "").endswith("x… (1000000 characters)")
    assert len(failure.text or "") < 10_000


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('timestamp="2023-11-14T22:13:20"', 'timestamp="2023-11-14T22:13:20+00:00"'),
        (' tests="1"', ""),
        ('time="0.000"', 'time="0.0001"'),
        ("<system-err />", ""),
        ("<skipped ", "<system-out /><skipped "),
        ("<testsuites>", '<testsuites name="x">'),
        ('name="items"', 'nam="items"'),
    ],
)
def test_the_schema_sees_what_is_wrong(old: str, new: str) -> None:
    text = as_junit(report([outcome(verdict="skipped")])).decode()
    assert old in text
    _SCHEMA.validate(text)
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        _SCHEMA.validate(text.replace(old, new))
