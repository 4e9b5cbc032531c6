"""Who waits for whom."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from devsup.decide.order import Condition, dependents, is_met, unmet


@dataclass
class Stands:
    """How a service stands."""

    state: str
    reason: str = ""
    pid: int | None = None
    is_up: bool = False


WAITING, STARTING = Stands("waiting", "waits for db, which is starting"), Stands("starting", pid=1)
READY, STALLED = Stands("ready", pid=1, is_up=True), Stands("stalled", "no news", pid=1, is_up=True)
FAILED, COMPLETED, STOPPED = Stands("failed", "exit code 3"), Stands("completed"), Stands("stopped")


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("started", [STARTING, READY, STALLED, COMPLETED]),
        ("ready", [READY, STALLED]),
        ("completed", [COMPLETED]),
    ],
)
def test_what_is_met_in_which_state(condition: Condition, met: list[Stands]) -> None:
    states = [WAITING, STARTING, READY, STALLED, FAILED, COMPLETED, STOPPED]
    assert [each for each in states if is_met(condition, each)] == met


@pytest.mark.parametrize(
    ("condition", "standing", "why"),
    [
        ("ready", WAITING, "waits for db, which is starting"),
        ("ready", Stands("waiting"), "has not begun"),
        ("ready", STARTING, "is starting"),
        ("completed", STARTING, "still runs"),
        ("ready", Stands("starting", "tcp 127.0.0.1:5432 refused"), "is starting: tcp 127.0.0.1:5432 refused"),
        ("completed", FAILED, "has failed: exit code 3"),
        ("ready", STOPPED, "is stopped"),
        ("ready", COMPLETED, "is completed"),
        ("completed", READY, "is ready"),
    ],
)
def test_the_reason_is_told_in_words(condition: Condition, standing: Stands, why: str) -> None:
    assert unmet({"other": condition}, {"other": standing}) == ("other", condition, why)


def test_the_first_that_is_not_so_far_is_told_and_none_when_all_are() -> None:
    needs: dict[str, Condition] = {"db": "ready", "migrate": "completed", "cache": "started"}
    standings = {"db": READY, "migrate": STARTING, "cache": FAILED}
    assert unmet(needs, standings) == ("migrate", "completed", "still runs")
    assert unmet(needs, {"db": READY, "migrate": COMPLETED, "cache": STARTING}) is None
    assert unmet({}, {}) is None


def test_dependents_are_those_that_name_it() -> None:
    needs: dict[str, dict[str, Condition]] = {"web": {"db": "ready"}, "job": {"db": "started", "web": "ready"}, "db": {}}
    assert dependents("db", needs) == {"web", "job"}
    assert dependents("web", needs) == {"job"}
    assert dependents("job", needs) == set()
