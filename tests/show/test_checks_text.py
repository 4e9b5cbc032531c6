"""What a smoke check says, to the letter where people read it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devsup.events import Outcome, Place, Report
from devsup.show.checks import Checks, as_json, by_check, one_line
from devsup.show.text import short
from reports import FOLDER, HOSTILE, MIXED, NO_IMPORT, hostile, latency, outcome, report

_SEQUENCES = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b]*\x1b\\")


def checks(*, colour: bool = False, width: int = 120, several: bool = False, names: list[str] | None = None) -> Checks:
    return Checks(Path(FOLDER), colour=colour, width=width, several=several, names=names or [])


def said(outcomes: list[Outcome], *, colour: bool = False) -> str:
    shown = checks(colour=colour, names=[each.name for each in outcomes])
    whole = report(outcomes)
    return "".join(map(shown.outcome, outcomes)) + shown.latencies(whole.rounds) + shown.summary(whole)


# -- to the letter ----------------------------------------------------------------------------------------------------


def test_an_import_that_fails() -> None:
    assert said(NO_IMPORT) == (
        "FAIL start  ended with exit code 1 (0.3 s)\n"
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
        "SKIP items  the service did not start\n"
        "1 failed, 1 skipped in 4.1 s (prepare 0.1 s, start 0.4 s, hold 3.0 s)\n"
    )


def test_a_request_that_fails_and_a_table() -> None:
    assert said(MIXED) == (
        "PASS start   ready, 3 routes (0.4 s)\n"
        "FAIL items   answered 500 instead of 200\n"
        "    request: GET /items?page=1\n"
        "    KeyError: 'price'\n"
        "      app/items.py:12\n"
        "        11  def total(row):\n"
        '      > 12      return row["price"]\n'
        "      · 1 frame in uvicorn\n"
        "      · app/items.py:12 total\n"
        "    it printed:\n"
        '    | INFO:     "GET /items" 500\n'
        "    | ERROR:    Exception in ASGI application\n"
        "    run it alone: devsup check --only items -- uvicorn app.main:app\n"
        "SLOW search  p95 was 22.3 ms, 20 ms are allowed (0.6 s)\n"
        "FAIL buy     2 of 50 runs went wrong (0.6 s)\n"
        "PASS list    50 times (0.6 s)\n"
        "latency in milliseconds\n"
        "scenario  runs  errors   min   max  mean  median   p95  deviation  budget             verdict\n"
        "search      50          0.40  31.2  5.10    4.30  22.3       4.20  p95 20.0           SLOW\n"
        "buy         50       2  10.4  1312  5.10    4.30  22.3       4.20  mean 200, p95 500  FAIL\n"
        "list        50          0.40  31.2  5.10    4.30  22.3       4.20                     PASS\n"
        "2 passed, 2 failed, 1 slow in 4.1 s (prepare 0.1 s, start 0.4 s, hold 3.0 s)\n"
    )


def test_on_a_terminal() -> None:
    shown = checks(colour=True)
    assert shown.outcome(outcome("a", text="fine")) == "\x1b[32m✓\x1b[0m a  fine\n"
    assert shown.outcome(outcome("a", "failed", "wrong")) == "\x1b[31m✗\x1b[0m a  wrong\n"
    assert shown.outcome(outcome("a", "slow", "late")) == "\x1b[33m!\x1b[0m a  \x1b[33mslow\x1b[0m  late\n"
    assert shown.outcome(outcome("a", "skipped", "why")) == "\x1b[2m-\x1b[0m a  \x1b[2mwhy\x1b[0m\n"
    assert f"file://{FOLDER}/app/items.py\x1b\\app/items.py:12\x1b]8;;\x1b\\" in shown.details(MIXED[1])
    assert "\x1b[2m| ERROR:    Exception in ASGI application\x1b[0m" in shown.details(MIXED[1])
    for outcomes, colour in (([outcome()], "32"), (MIXED, "31"), ([outcome(verdict="slow")], "33"), ([], "33")):
        assert shown.summary(report(outcomes)).startswith(f"\x1b[1;{colour}m")
    table = shown.latencies(report(MIXED).rounds)
    assert re.search(r"\x1b\[33mSLOW.*\n.*\x1b\[31mFAIL.*\n.*\x1b\[32mPASS", table)


# -- one outcome ------------------------------------------------------------------------------------------------------


def test_names_stand_below_each_other() -> None:
    shown = checks(names=["a", "longer", "x" * 33])
    assert shown.outcome(outcome("a")) == "PASS a       fine\n"
    assert shown.outcome(outcome("longer")) == "PASS longer  fine\n"
    assert shown.outcome(outcome("x" * 33)) == f"PASS {'x' * 33}  fine\n"


def test_of_several_services() -> None:
    assert checks(several=True).outcome(outcome("a", service="api")) == "PASS api.a  fine\n"
    assert checks(several=False).outcome(outcome("a", service="api")) == "PASS a  fine\n"


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, ""), (0.1, ""), (0.11, " (0.1 s)"), (71.25, " (71.2 s)")])
def test_seconds_that_matter(seconds: float, shown: str) -> None:
    assert checks().outcome(outcome("a", seconds=seconds)) == f"PASS a  fine{shown}\n"


def test_only_bad_ones_have_details() -> None:
    more: dict[str, Any] = {"request": "GET /", "lines": ["line"], "alone": "alone"}
    for verdict, lines in (("passed", 1), ("skipped", 1), ("failed", 5), ("slow", 5)):
        assert len(checks().outcome(outcome(verdict=verdict, **more)).splitlines()) == lines


def test_the_last_lines_that_were_printed() -> None:
    twenty = checks().details(outcome(verdict="failed", lines=[f"line {number}" for number in range(20)]))
    assert twenty.splitlines()[:2] == ["    it printed:", "    | line 0"]
    assert len(twenty.splitlines()) == 21
    more = checks().details(outcome(verdict="failed", lines=[f"line {number}" for number in range(25)])).splitlines()
    assert more[1:3] == ["    | (5 more before)", "    | line 5"]
    assert (more[-1], len(more)) == ("    | line 24", 22)


def test_nothing_is_said_twice() -> None:
    told = "GET /items?page=1 answered 500: KeyError: 'price'"
    lines = checks().details(msgspec.structs.replace(MIXED[1], text=told)).splitlines()
    assert lines[0] == "      app/items.py:12"


def test_a_place_without_a_diagnosis() -> None:
    place = Place(file=f"{FOLDER}/app/main.py", line=7, function="items", source="while True:")
    shown = checks().details(outcome(verdict="failed", place=place))
    assert shown == "    at app/main.py:7 in items\n      > 7  while True:\n"
    bare = checks().details(outcome(verdict="failed", place=Place(file="/elsewhere/x.py", line=7)))
    assert bare == "    at /elsewhere/x.py:7\n"


def test_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    folder = Path("/home/somebody/shop")
    found = [short(path, folder) for path in ("/home/somebody/shop/a/b.py", "/home/somebody/c.py", "/usr/d.py", "")]
    assert found[:3] == ["a/b.py", "~/c.py", "/usr/d.py"]


# -- all of them ------------------------------------------------------------------------------------------------------


def test_a_summary() -> None:
    assert (
        checks().summary(report([outcome()] * 11 + [outcome(verdict="skipped")], phases={})) == "11 passed, 1 skipped in 4.1 s\n"
    )
    assert checks().summary(report([], phases={})) == "nothing was checked in 4.1 s\n"


def test_a_summary_of_rounds() -> None:
    good = [outcome("a"), outcome("b"), outcome("c")]
    late = [outcome("a"), outcome("b", "slow"), outcome("c", "skipped")]
    bad = [outcome("a"), outcome("b", "failed"), outcome("c")]
    broken = [outcome("start", "failed")]
    whole = report(good, late, bad, bad, broken, seconds=20.0)
    assert checks().summary(whole) == (
        "8 passed, 3 failed, 1 slow, 1 skipped in 20.0 s (prepare 0.5 s, start 2.0 s, hold 15.0 s)\n"
        "1 of 5 rounds passed\n"
        "  b failed in 2, slow in 1 of 4 rounds, of 5\n"
        "  start failed in 1 of 1 rounds, of 5\n"
    )


def test_latencies_of_rounds() -> None:
    once = [outcome("a", latency=latency()), outcome("b")]
    lines = checks(several=True).latencies(report(once, once).rounds).splitlines()
    assert lines[1].split()[:3] == ["scenario", "round", "runs"]
    assert [line.split()[:3] for line in lines[2:]] == [["web.a", "1", "50"], ["web.a", "2", "50"]]
    assert checks().latencies(report([outcome()]).rounds) == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0.00"), (0.0099949, "9.99"), (0.009996, "10.0"), (0.09994, "99.9"), (0.09996, "100"), (2.5, "2500")],
)
def test_milliseconds(seconds: float, shown: str) -> None:
    line = checks().latencies(report([outcome("a", latency=latency(min=seconds))]).rounds).splitlines()[2]
    assert line.split()[2] == shown


def test_a_check_at_its_worst() -> None:
    rounds = [
        [outcome("a", verdict, text)] for verdict, text in (("skipped", "1"), ("passed", "2"), ("slow", "3"), ("failed", "4"))
    ]
    assert [by_check(report(*rounds[:many]))[0].worst.text for many in (1, 2, 3, 4)] == ["1", "2", "3", "4"]
    same = by_check(report([outcome("a", service="x"), outcome("a", service="y")]))
    assert [check.name for check in same] == ["x.a", "y.a"]


# -- JSON -------------------------------------------------------------------------------------------------------------


def test_json_has_all_of_it() -> None:
    whole = report(NO_IMPORT, MIXED)
    text = as_json(whole)
    assert msgspec.json.decode(text, type=Report) == whole
    assert json.loads(text)["counts"] == {"passed": 2, "failed": 3, "slow": 1, "skipped": 1}
    assert text.startswith('{\n  "command": "devsup check')


def test_json_of_what_json_cannot_say() -> None:
    whole = report([outcome("\udc80", text="für \ud83d", latency=latency(mean=math.nan))])
    found = msgspec.json.decode(as_json(whole).encode())["rounds"][0]["outcomes"][0]
    assert (found["name"], found["text"], found["latency"]["mean"]) == ("?", "für ?", None)


# -- what a service may say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts(text: str) -> None:
    whole = report([hostile(text)], [hostile(text)])
    shown = checks()
    plain = shown.outcome(whole.outcomes[0]) + shown.latencies(whole.rounds) + shown.summary(whole)
    assert all(char.isprintable() or char == "\n" for char in plain)
    shown = checks(colour=True, width=10_000)
    coloured = shown.outcome(whole.outcomes[0]) + shown.latencies(whole.rounds) + shown.summary(whole)
    bare = _SEQUENCES.sub("", coloured)
    assert "\x1b" not in bare
    assert bare.replace("✗", "FAIL").split() == plain.split()
    assert msgspec.json.decode(as_json(whole).encode())["counts"]["failed"] == 2


@pytest.mark.parametrize("text", ["[bold]x[/bold] [/red] [0]", "a\\", "a\\\\", "a\\\\\\", "::error::x"])
def test_a_printed_line_is_shown_as_it_is(text: str) -> None:
    for colour in (False, True):
        lines = _SEQUENCES.sub("", checks(colour=colour).details(outcome(verdict="failed", lines=[text]))).splitlines()
        assert lines[1] == f"    | {text}"


def test_long_texts_are_cut() -> None:
    text = "x" * 1_000_000
    shown = checks().outcome(hostile(text))
    assert "x… (1000000 characters)" in shown
    assert len(shown) < 50_000
    assert one_line("x" * 2000) == "x" * 2000
    assert one_line("x" * 2001) == "x" * 2000 + "… (2001 characters)"
