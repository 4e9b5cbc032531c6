"""Whether an answer is as demanded, whether a scenario was quick enough, and whether memory is stable."""

import pytest

from devsup.decide.growth import leak
from devsup.decide.patterns import Patterns
from devsup.decide.replies import Expected, Reply, measured, over_budget, wrong
from devsup.smoke.wishes import ERRORS


def reply(status: int = 200, body: bytes = b"", location: str = "", headers: dict[str, str] | None = None) -> Reply:
    return Reply(status=status, headers=headers or {}, body=body, location=location)


@pytest.mark.parametrize(
    ("expected", "answer", "problem"),
    [
        (Expected(), reply(204), ""),
        (Expected(), reply(399), ""),
        (Expected(), reply(404), "answered 404, less than 400 expected"),
        (Expected(least=100, most=499), reply(404), ""),
        (Expected(least=100, most=499), reply(500), "answered 500, less than 500 expected"),
        (Expected(least=201, most=201), reply(200), "answered 200, 201 expected"),
        (Expected(fields={"a.0.b": 1}), reply(body=b'{"a": [{"b": 1}]}'), ""),
        (Expected(fields={"a": 1}), reply(body=b'{"a": true}'), "has a = true, 1 expected"),
        (Expected(fields={"a": True}), reply(body=b'{"a": 1}'), "has a = 1, true expected"),
        (Expected(fields={"a": 1}), reply(body=b'{"b": 1}'), "has no field a: it has b"),
        (Expected(fields={"a": 1}), reply(body=b"<html>"), "answered with no JSON"),
        (Expected(headers={"Content-Type": "json"}), reply(headers={"content-type": "application/json"}), ""),
        (Expected(headers={"X-A": "b"}), reply(), 'has no header X-A, "b" expected'),
        (Expected(headers={"X-A": "b"}), reply(headers={"x-a": "c"}), 'has X-A: c, "b" expected'),
        (Expected(pattern="^b$"), reply(body=b"a\nb\nc"), ""),
        (Expected(pattern="z"), reply(body=b"abc"), 'has nothing like "z" in its 3 bytes'),
        (Expected(redirect="http://x/new"), reply(302, location="http://x/new"), ""),
        (Expected(redirect="http://x/n"), reply(302, location="http://y/n"), "redirects to http://y/n, http://x/n expected"),
        (Expected(redirect="http://x/n"), reply(302), "redirects to nowhere, http://x/n expected"),
        (Expected(redirect="http://x/n"), reply(200), "answered 200, 300 to 399 expected"),
        (Expected(redirect="/n", least=301, most=301), reply(302, location="/n"), "answered 302, 301 expected"),
    ],
)
def test_the_first_difference_is_told(expected: Expected, answer: Reply, problem: str) -> None:
    assert wrong(expected, answer) == problem


def test_the_figures_of_a_scenario() -> None:
    found = measured([0.004, 0.001, 0.002, 0.003], 1, {"mean": 0.002, "p95": 0.004})
    assert (found.runs, found.errors, found.min, found.max, found.p95) == (4, 1, 0.001, 0.004, 0.004)
    assert found.mean == pytest.approx(0.0025)
    assert found.median == pytest.approx(0.0025)
    assert found.deviation == pytest.approx(0.00129, rel=0.01)
    assert over_budget(found) == ["mean 2.5 ms, 2 ms allowed"]


def test_of_a_hundred_runs_the_95th_counts() -> None:
    assert measured([number / 100 for number in range(1, 101)], 0, {}).p95 == 0.95


def test_one_run_deviates_from_nothing() -> None:
    assert measured([1.5], 0, {"max": 1.0}).deviation == 0
    assert over_budget(measured([1.5], 0, {"max": 1.0})) == ["max 1.5 s, 1 s allowed"]


MB = 1 << 20


@pytest.mark.parametrize(
    ("sizes", "is_leak"),
    [
        ([50] * 15, False),
        ([50 + 10 * number for number in range(15)], True),
        ([50] * 5 + [300] * 10, False),  # a model was loaded, and that was that
        ([50, 60, 70, 150, 160, 160, 160, 160, 160, 160], False),
        ([50, 60, 70], False),  # too short to tell
        ([50 + 2 * number for number in range(15)], False),  # too little
        ([300 - 10 * number for number in range(15)], False),
    ],
)
def test_what_grows_up_to_the_end_is_a_leak(sizes: list[int], is_leak: bool) -> None:
    rate = leak([(number * 0.2, size * MB) for number, size in enumerate(sizes)])
    assert (rate is not None) is is_leak
    if rate is not None:
        assert rate == pytest.approx(50 * MB)


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        "ERROR:root:no model",
        "2026-11-30 12:00:00,1 ERROR app: x",
        "[ERROR] x",
        "ERROR:    Exception in ASGI application",
        "12:00 | CRITICAL | x",
        '{"level": "error", "msg": "x"}',
        '{"levelname":"CRITICAL"}',
        "  + Exception Group Traceback (most recent call last):",
        "2026-11-30 12:00:00 [error    ] no model",
        "ts=1 level=error msg=x",
    ],
)
def test_lines_that_are_errors(line: str) -> None:
    assert Patterns([("log", each) for each in ERRORS]).find(f"before\n{line}\n".encode())


@pytest.mark.parametrize(
    "line",
    [
        "INFO: no errors",
        "GET /ERRORS 200",
        "0 errors",
        '{"level": "info", "errors": 0}',
        "INFO: TERROR",
        "Error budget: 0",
        "INFO log level for boto3 set to ERROR",
        "level=errors",
    ],
)
def test_lines_that_are_none(line: str) -> None:
    assert not Patterns([("log", each) for each in ERRORS]).find(f"{line}\n".encode())
