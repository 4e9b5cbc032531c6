"""Kinds of streams, where one may be cut, and what its route is called."""

from __future__ import annotations

import importlib
import time
from typing import Any

import pytest

# It is called as programs call it: without types.
work: Any = importlib.import_module("devsup_agent.active.work")
streams: Any = importlib.import_module("devsup_agent.active.streams")
agent: Any = importlib.import_module("devsup_agent.agent").agent
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the agent says, in place of a link."""
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(agent, "send", lambda op, **fields: said.append({"op": op, **fields}))
    return said


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(agent, "settings", {"streams": {}, "learned": {}, "stream_grace": 2.0})
    found: dict[str, Any] = agent.settings
    return found


def request(head: Any = EVENTS, age: float = 0.0, method: str = "GET", path: str = "/charts") -> Any:
    made = work.Request(method, path)
    made.started = time.monotonic() - age
    made.answers(head)
    return made


@pytest.mark.parametrize(
    ("kind", "last", "whole"),
    [
        ("text/event-stream", b"", True),
        ("text/event-stream", b"a\n\n", True),
        ("text/event-stream", b"\r\n\r\n", True),
        ("text/event-stream", b"id\n", False),
        ("Text/Event-Stream;charset=utf-8", b"id\n", False),
        ("multipart/x-mixed-replace; boundary=f", b"\xff\xd9\r\n", True),
        ("multipart/x-mixed-replace", b"\xff\xd9", True),
        ("multipart/x-mixed-replace", b"\r\n\r\n", False),
        ("multipart/x-mixed-replace", b"\xff\xd8", False),
        ("application/x-ndjson", b'"}\n', True),
        ("application/jsonl", b'"}', False),
        ("application/stream+json", b"\r\n", True),
    ],
)
def test_a_stream_may_be_cut_where_nothing_is_torn(kind: str, last: bytes, whole: bool) -> None:
    for head in ([("Content-Type", kind)], [(b"content-type", kind.encode())]):
        assert streams.kind_of(head).is_whole(last) is whole


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/html", "", "text/event-stream-not"])
def test_other_answers_are_no_streams(kind: str) -> None:
    assert streams.kind_of([("content-type", kind)]) is None
    assert streams.kind_of([]) is None


def test_pieces_of_one_byte_are_put_together() -> None:
    charts = request()
    for piece in (b"data: 1", b"\n", b"\n"):
        charts.wrote(piece)
    assert charts.is_whole()


@pytest.mark.parametrize(
    ("path", "params", "route"),
    [
        ("/charts", None, "/charts"),
        ("/charts/42", {"id": 42}, "/charts/{id}"),
        ("/a/x/b/y", {"one": "x", "two": "y"}, "/a/{one}/b/{two}"),
        ("/charts/charts", {"name": "charts"}, "/charts/{name}"),
        ("/files/a/b", {"path": "a/b"}, "/files/a/b"),
        ("/", {"name": ""}, "/"),
    ],
)
def test_a_route_is_its_path_with_what_varies_left_open(path: str, params: dict[str, Any] | None, route: str) -> None:
    assert streams.template(path, params) == route


def test_a_setting_names_paths_as_routes_or_globs() -> None:
    routes = {"/charts/{id}": "endless", "/chat*": "work"}
    assert [streams.setting(path, routes) for path in ("/charts/4", "/chat/x", "/else")] == ["endless", "work", ""]


def test_an_undecided_event_stream_is_work_until_it_is_a_minute_old() -> None:
    young, old, now = request(age=59.0), request(age=60.5), time.monotonic()
    assert young.busy(now)
    assert not old.busy(now)
    assert 0 < (young.next_change(now) or 0) <= 1
    assert old.next_change(now) is None
    assert work.items([young, old], now) == [{"name": "GET /charts", "age": now - young.started, "stream": "/charts"}]


@pytest.mark.parametrize(("decision", "age", "busy"), [("work", 100.0, True), ("endless", 0.0, False)])
def test_a_decision_counts_at_any_age(settings: dict[str, Any], decision: str, age: float, busy: bool) -> None:
    charts, now = request(age=age), time.monotonic()
    settings["learned"] = {"/charts": decision}
    assert charts.busy(now) is busy
    assert charts.next_change(now) is None
    settings["streams"] = {"/charts": "work" if decision == "endless" else "endless"}
    assert charts.busy(now) is not busy, "the user's own word beats it"
    assert charts.undecided == ""


def test_only_streams_by_get_may_be_cut(settings: dict[str, Any]) -> None:
    settings["streams"] = {"/*": "endless"}
    assert request(method="POST").busy(time.monotonic())
    assert request(head=[("content-type", "text/plain")]).busy(time.monotonic())


def test_an_event_stream_tells_what_it_does_and_a_decided_one_nothing(
    told: list[dict[str, Any]], settings: dict[str, Any]
) -> None:
    request(age=3.0).ended()
    charts = request()
    charts.cut = True
    charts.cut = True
    charts.ended()
    assert [(each["op"], each["route"], each["what"]) for each in told] == [
        ("stream", "/charts", what) for what in ("began", "ended", "began", "cut")
    ]
    assert told[1]["age"] >= 3.0
    del told[:]
    settings["streams"] = {"/charts": "work"}
    request().ended()
    request(head=[("content-type", "application/x-ndjson")], path="/rows").ended()
    assert told == []
