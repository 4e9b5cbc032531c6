"""What is remembered of a service: what counts as a return, how much is kept, who else writes the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devsup.learned import Learned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".devsup").mkdir()
    return tmp_path


def cut(learned: Learned, generation: int = 1) -> None:
    assert not learned.stream("/charts", "cut", 5.0, generation, 10.0)


def test_a_daemon_is_known_to_the_next_run(folder: Path) -> None:
    assert Learned(folder, "web").daemon("main:forever")
    again = Learned(folder, "web")
    assert not again.daemon("main:forever")
    assert again.daemon("main:reads_for_ever")
    assert Learned(folder, "web").facts.daemons == ["main:forever", "main:reads_for_ever"]


def test_a_return_in_the_next_generation_decides(folder: Path) -> None:
    learned = Learned(folder, "web")
    assert not learned.stream("/charts", "began", 0.0, 1, 1.0)
    cut(learned)
    assert not learned.stream("/charts", "began", 0.0, 1, 11.0), "in the same generation it is another client"
    assert learned.stream("/charts", "began", 0.0, 2, 3.0)
    assert Learned(folder, "web").decisions() == {"/charts": "endless"}


@pytest.mark.parametrize(("generation", "served"), [(3, 1.0), (2, 31.0)])
def test_who_comes_later_has_not_come_back(folder: Path, generation: int, served: float) -> None:
    learned = Learned(folder, "web")
    cut(learned)
    assert not learned.stream("/charts", "began", 0.0, generation, served)
    assert not learned.stream("/charts", "began", 0.0, 2, 1.0), "it counts once"
    assert learned.decisions() == {}


def test_of_several_tabs_the_oldest_counts(folder: Path) -> None:
    learned = Learned(folder, "web")
    assert learned.stream("/charts", "ended", 1.0, 1, 1.0)
    for age in (3.0, 200.0, 4.0):
        learned.stream("/charts", "cut", age, 1, 300.0)
    assert learned.stream("/charts", "began", 0.0, 2, 1.0)
    assert learned.decisions() == {"/charts": "endless"}


def test_services_and_other_runs_keep_their_own(folder: Path) -> None:
    web, other, again = Learned(folder, "web"), Learned(folder, "other"), Learned(folder, "web")
    for learned, route in ((web, "/a"), (other, "/b"), (again, "/c")):
        assert learned.stream(route, "ended", 2.5, 1, 1.0)
    kept = json.loads((folder / ".devsup" / "learned.json").read_text())
    assert {service: facts["streams"] for service, facts in kept.items()} == {
        "web": {"/a": {"longest": 3, "endless": False}, "/c": {"longest": 3, "endless": False}},
        "other": {"/b": {"longest": 3, "endless": False}},
    }


def test_routes_without_end_do_not_fill_the_file(folder: Path) -> None:
    learned = Learned(folder, "web")
    for number in range(210):
        learned.stream(f"/chat/{number}", "ended", 1.0, 1, 1.0)
    kept = list(Learned(folder, "web").decisions())
    assert kept == [f"/chat/{number}" for number in range(10, 210)]
