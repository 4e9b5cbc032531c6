"""What the streams of a route have shown decides whether a reload waits for the next."""

from __future__ import annotations

import pytest

from devsup.decide.streams import Seen, came_back, ended


def test_nothing_is_decided_before_a_stream_has_ended_or_come_back() -> None:
    assert Seen().decision == ""


def test_a_stream_that_ended_by_itself_was_work_however_short_it_was() -> None:
    assert ended(Seen(), 0.001).decision == "work"
    assert ended(ended(Seen(), 28.2), 3.0) == Seen(longest=29)


def test_a_stream_of_an_unknown_route_that_comes_back_after_a_cut_is_endless() -> None:
    assert came_back(Seen(), 0.5) == Seen(endless=True)


@pytest.mark.parametrize(("longest", "age"), [(1, 5.0), (28, 57.0), (45, 89.0)])
def test_an_answer_that_was_cut_and_asked_for_again_stays_work(longest: int, age: float) -> None:
    """EventSource asks again for whatever was cut."""
    assert came_back(Seen(longest=longest), age).decision == "work"


@pytest.mark.parametrize(("longest", "age"), [(1, 60.0), (28, 61.0), (45, 90.0)])
def test_a_stream_far_older_than_any_that_has_ended_is_endless_when_it_comes_back(longest: int, age: float) -> None:
    """One that failed at once must not make charts work for ever."""
    assert came_back(Seen(longest=longest), age).decision == "endless"


def test_the_end_of_a_stream_takes_the_verdict_back() -> None:
    assert ended(Seen(endless=True), 3.0) == Seen(longest=3)
