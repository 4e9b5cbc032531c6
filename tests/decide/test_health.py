"""Reasons are what users read: they are held word for word."""

from __future__ import annotations

import json
import math

import pytest

from devsup.decide.health import AGAIN, Answer, Events, Failing, Pace, Printed, Reached, Size, Stalled, Unprinted, Well


def answer(**value: object) -> bytes:
    return json.dumps(value).encode()


def growing(within: float = 10.0) -> Answer:
    return Answer("http /status", field="count", pace=Pace(0.0, within, 1))


# -- failures ---------------------------------------------------------------------------------------------------------


def test_one_failure_is_asked_again_soon_and_not_told() -> None:
    judge = Reached("tcp 127.0.0.1:5432")
    judge.take()
    judge.fail("refused")
    assert judge.verdict(5.0) == Well()
    assert judge.due(5.0) == 5.0 + AGAIN
    judge.take()
    assert judge.verdict(5.5) == Well()
    assert judge.due(5.5) == math.inf


def test_the_second_in_a_row_is_told_and_the_first_answer_ends_it() -> None:
    judge = Reached("tcp 127.0.0.1:5432")
    judge.fail("refused")
    judge.fail("has no answer after 2 s")
    assert judge.verdict(5.5) == Failing("tcp 127.0.0.1:5432 has no answer after 2 s")
    assert judge.due(5.5) == math.inf
    judge.take()
    assert judge.verdict(10.0) == Well()


def test_one_failure_between_stalls_is_no_news() -> None:
    judge = growing()
    judge.take(0.0, 200, answer(count=1))
    assert judge.verdict(12.0) == Stalled("http /status count is 1 for 12 s")
    judge.fail("refused")
    assert judge.verdict(15.0) == Stalled("http /status count is 1 for 12 s")
    judge.take(15.5, 200, answer(count=1))
    assert judge.verdict(15.5) == Stalled("http /status count is 1 for 16 s")


def test_a_failure_at_the_limit_says_nothing_of_growth() -> None:
    judge = growing()
    judge.take(0.0, 200, answer(count=1))
    assert judge.verdict(5.0) == Well()
    judge.fail("refused")
    assert judge.verdict(10.0) == Well()
    judge.fail("refused")
    assert judge.verdict(10.5) == Failing("http /status refused")


@pytest.mark.parametrize(
    ("expected", "status", "problem"),
    [
        (None, 200, ""),
        (None, 302, ""),
        (None, 399, ""),
        (None, 404, "http /status answered 404"),
        (None, 503, "http /status answered 503"),
        (None, 101, "http /status answered 101"),
        (200, 200, ""),
        (503, 503, ""),
        (200, 204, "http /status answered 204, 200 expected"),
        (200, 503, "http /status answered 503, 200 expected"),
    ],
)
def test_a_status(expected: int | None, status: int, problem: str) -> None:
    judge = Answer("http /status", status=expected)
    for _ in range(2):
        judge.take(0.0, status, b"")
    assert judge.verdict(0.0) == (Failing(problem) if problem else Well())
    assert judge.not_yet(0.0) == problem


@pytest.mark.parametrize(
    ("field", "body", "problem"),
    [
        ("count", b'{"count": 1}', ""),
        ("stats.0.count", b'{"stats": [{"count": 1.5}]}', ""),
        ("count", b"hello", "answered with no JSON"),
        ("count", b'{"count": NaN}', "answered with no JSON"),
        ("count", b'{"count": "\xff"}', "answered with no JSON"),
        ("count", None, "answered without an end in time"),
        ("count", b'{"state": 1, "up": 2}', "has no field count: it has state, up"),
        ("count", b"{}", "has no field count: it is {}"),
        ("count", b"[1]", "has no field count: it has 1 item"),
        ("stats.count", b'{"stats": null}', "has no field stats.count: stats is null"),
        ("stats.2", b'{"stats": [1, 2]}', "has no field stats.2: stats has 2 items"),
        ("count", b'{"count": "many"}', 'count is "many", a number expected'),
        ("count", b'{"count": true}', "count is true, a number expected"),
        ("count", b'{"count": null}', "count is null, a number expected"),
        ("count", json.dumps({"count": "x" * 99}).encode(), f'count is "{"x" * 58}…, a number expected'),
    ],
)
def test_a_field_that_does_not_tell_is_a_failure_that_says_what_is_there(field: str, body: bytes | None, problem: str) -> None:
    judge = Answer("http /status", field=field, pace=Pace(0.0, 10.0, 1))
    for _ in range(2):
        judge.take(0.0, 200, body)
    assert judge.verdict(0.0) == (Failing(f"http /status {problem}") if problem else Well())


# -- what has to be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "found", "is_well"),
    [(1, 1, True), (1, 1.0, True), (1, 5, False), (1, True, False), (True, True, True), (True, 1, False), ("1", 1, False)],
)
def test_a_field_that_must_equal(expected: float | str, found: object, is_well: bool) -> None:
    judge = Answer("http /status", field="interval", equals=expected)
    judge.take(0.0, 200, answer(interval=found))
    reason = f"http /status interval is {json.dumps(found)}, {json.dumps(expected)} expected"
    assert judge.verdict(0.0) == (Well() if is_well else Stalled(reason))
    assert judge.not_yet(0.0) == ("" if is_well else reason)


def test_a_field_that_equals_again_is_well() -> None:
    judge = Answer("http /status", field="mode", equals="live")
    judge.take(0.0, 200, answer(mode="demo"))
    assert judge.verdict(0.0) == Stalled('http /status mode is "demo", "live" expected')
    judge.take(5.0, 200, answer(mode="live"))
    assert judge.verdict(5.0) == Well()


# -- what has to grow -------------------------------------------------------------------------------------------------


def test_growth_counts_from_the_beginning() -> None:
    judge = growing()
    judge.take(3.0, 200, answer(count=1))
    assert judge.due(3.0) == 10.0
    assert judge.verdict(9.9) == Well()
    assert judge.verdict(10.0) == Stalled("http /status count is 1 for 10 s")
    assert judge.due(10.0) == math.inf


def test_growth_counts_from_when_it_last_grew() -> None:
    judge = growing()
    for at, count in ((0.0, 1), (5.0, 2), (10.0, 2)):
        judge.take(at, 200, answer(count=count))
        assert judge.verdict(at) == Well()
    assert judge.due(10.0) == 15.0
    judge.take(17.0, 200, answer(count=2))
    assert judge.verdict(17.0) == Stalled("http /status count is 2 for 12 s")
    judge.take(20.0, 200, answer(count=2.5))
    assert judge.verdict(20.0) == Well()
    assert judge.due(20.0) == 30.0


def test_a_number_that_falls_begins_anew() -> None:
    judge = growing()
    judge.take(0.0, 200, answer(count=900))
    judge.take(9.0, 200, answer(count=0))
    assert judge.verdict(18.9) == Well()
    assert judge.verdict(19.0) == Stalled("http /status count is 0 for 10 s")


def test_a_short_limit_is_told_in_tenths() -> None:
    judge = growing(within=0.5)
    judge.take(0.0, 200, answer(count=1))
    assert judge.verdict(0.54) == Stalled("http /status count is 1 for 0.5 s")


def test_ready_by_growth_is_when_it_has_grown() -> None:
    judge = growing()
    assert judge.not_yet(0.0) == "http /status has not answered yet"
    judge.take(0.0, 200, answer(count=1))
    assert judge.not_yet(0.0) == "http /status count is 1 and has not grown yet"
    judge.take(1.0, 200, answer(count=0))
    assert judge.not_yet(1.0) == "http /status count is 0 and has not grown yet"
    judge.take(2.0, 200, answer(count=1))
    assert judge.not_yet(2.0) == ""


def test_a_file_that_does_not_grow() -> None:
    judge = Size("data/live.csv", Pace(0.0, 30.0, 1))
    judge.take(1.0, 4000)
    judge.take(2.0, 4096)
    assert judge.verdict(31.9) == Well()
    assert judge.verdict(33.0) == Stalled("data/live.csv has not grown for 31 s (4,096 bytes)")


def test_a_file_that_comes_to_be_has_grown() -> None:
    judge = Size("data/live.csv", Pace(0.0, 30.0, 1))
    for at in (28.0, 28.5):
        judge.take(at, None)
    assert judge.verdict(28.5) == Failing("data/live.csv is not there")
    assert judge.not_yet(28.5) == "data/live.csv is not there"
    judge.take(29.0, 10)
    assert judge.verdict(58.9) == Well()
    assert judge.verdict(59.0) == Stalled("data/live.csv has not grown for 30 s (10 bytes)")


def test_a_file_that_only_has_to_be_there() -> None:
    judge = Size("data/live.csv")
    judge.take(1.0, 0)
    assert judge.verdict(1e9) == Well()
    assert judge.not_yet(1.0) == ""
    assert judge.due(1.0) == math.inf


# -- what has to happen -----------------------------------------------------------------------------------------------


def stream(events: int = 2, within: float | None = 5.0) -> Events:
    return Events("sse /stream", Pace(0.0, within, events))


def test_too_few_events_in_the_last_seconds() -> None:
    judge = stream()
    judge.take(0.0)
    judge.take(1.0, 1)
    assert judge.due(1.0) == 5.0
    assert judge.verdict(4.9) == Well()
    assert judge.verdict(5.0) == Stalled("sse /stream: 1 event in 5 s, 2 expected")
    assert judge.verdict(6.5) == Stalled("sse /stream: 0 events in 5 s, 2 expected")


def test_events_in_time_move_the_limit() -> None:
    judge = stream()
    judge.take(0.0)
    for at in (1.0, 3.0, 5.5):
        judge.take(at, 1)
    assert judge.due(5.5) == 8.0
    assert judge.verdict(7.9) == Well()
    assert judge.verdict(8.0) == Stalled("sse /stream: 1 event in 5 s, 2 expected")
    judge.take(8.5, 1)
    assert judge.verdict(8.5) == Well()
    assert judge.due(8.5) == 10.5


def test_many_events_at_once_are_that_many() -> None:
    judge = stream(events=3)
    judge.take(0.0)
    judge.take(1.0, 1000)
    assert judge.due(1.0) == 6.0


def test_a_stream_counts_from_when_it_could_be_opened() -> None:
    judge = stream()
    for at in (3.0, 4.0):
        judge.fail("refused")
        assert judge.verdict(at) == (Well() if at == 3.0 else Failing("sse /stream refused"))
    judge.take(8.0)
    assert judge.verdict(8.0) == Well()
    assert judge.due(8.0) == 13.0


def test_a_stream_that_is_opened_again_and_again_gets_no_more_time() -> None:
    judge = stream()
    for at in (0.0, 2.0, 4.0):
        judge.take(at)
    assert judge.due(4.0) == 5.0


def test_without_a_time_a_stream_never_stalls_and_is_ready_when_the_events_have_come() -> None:
    judge = stream(within=None)
    assert judge.not_yet(0.0) == "sse /stream has not answered yet"
    judge.take(0.0)
    judge.take(1.0, 1)
    assert judge.verdict(1e9) == Well()
    assert judge.due(1.0) == math.inf
    assert judge.not_yet(2.0) == "sse /stream: 1 event so far, 2 expected"
    judge.take(900.0, 1)
    assert judge.not_yet(900.0) == ""


# -- what is printed --------------------------------------------------------------------------------------------------


def test_a_line_that_has_to_come() -> None:
    judge = Printed("tick", Pace(0.0, 10.0, 1))
    assert judge.not_yet(0.0) == 'nothing like "tick" was printed yet'
    judge.take(2.0, "tick", "tick 1")
    assert judge.not_yet(2.0) == ""
    assert judge.due(2.0) == 12.0
    assert judge.verdict(11.9) == Well()
    assert judge.verdict(14.0) == Stalled('nothing like "tick" was printed for 12 s')
    judge.take(15.0, "tick", "tick 2")
    assert judge.verdict(15.0) == Well()


def test_a_line_that_has_to_come_some_time() -> None:
    judge = Printed("tick", Pace(0.0, None, 1))
    assert judge.verdict(1e9) == Well()
    assert judge.due(0.0) == math.inf


def test_a_line_that_must_not_come_holds_for_a_minute() -> None:
    judge = Unprinted()
    assert judge.verdict(0.0) == Well()
    assert judge.due(0.0) == math.inf
    judge.take(1.0, "CUDA error", "  RuntimeError: CUDA error: out of memory \n")
    assert judge.verdict(1.0) == Failing('"CUDA error" was printed: RuntimeError: CUDA error: out of memory')
    judge.take(31.0, "CUDA error", "CUDA error " + "x" * 200)
    assert judge.verdict(90.9) == Failing(f'"CUDA error" was printed: CUDA error {"x" * 108}…')
    assert judge.due(90.9) == 91.0
    assert judge.verdict(91.0) == Well()
    assert judge.due(91.0) == math.inf
