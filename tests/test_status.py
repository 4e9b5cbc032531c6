"""How a service stands, as a fold over its events."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devsup import events
from devsup.status import Status, fold

SPAWNED, AGAIN = events.WorkerSpawned(generation=1, pid=11), events.WorkerSpawned(generation=2, pid=22)
LOOP = events.LoopBlocked(generation=1, pid=11, seconds=1.2, doing="in time.sleep", requests=[], frames=[], count=1)
FAILURE = events.Exit(code=3)


def ready(generation: int = 1) -> events.WorkerReady:
    return events.WorkerReady(
        generation=generation, pid=generation * 11, server="uvicorn", python="3", urls=["http://x"], routes=[], seconds=0.1
    )


def exited(generation: int = 1, code: int = 3, *, expected: bool = False) -> events.WorkerExited:
    ended = events.Exit(code=code)
    return events.WorkerExited(generation=generation, pid=generation * 11, exit=ended, served=1.0, expected=expected)


def failed(generation: int = 1, *, serving: bool = False) -> events.WorkerFailed:
    return events.WorkerFailed(generation=generation, exit=FAILURE, tail="", final=False, serving=serving)


def after(*story: events.Event, asked_ready: bool = False) -> Status:
    status = Status(service="web", asked_ready=asked_ready)
    for at, event in enumerate(story):
        status = fold(status, float(at), event)
    return status


def test_what_the_next_workers_probe_says_outlives_the_one_before() -> None:
    no = events.Probed(probe="ready", verdict="failing", reason="503")
    yes = events.Probed(probe="ready", verdict="well", reason="")
    overlapping = [SPAWNED, ready(), yes, LOOP, AGAIN, no, exited(expected=True), ready(2)]
    status = after(*overlapping, asked_ready=True)
    assert (status.state, status.reason) == ("starting", "503")
    assert after(*overlapping, yes, asked_ready=True).state == "ready"


@pytest.mark.parametrize(
    ("story", "state", "reason"),
    [
        ([], "waiting", ""),
        ([SPAWNED], "starting", ""),
        ([SPAWNED, ready()], "ready", ""),
        ([SPAWNED, ready(), LOOP], "degraded", "event loop blocked for 1.2 s"),
        ([SPAWNED, ready(), exited()], "failed", "exit code 3"),
        ([SPAWNED, ready(), exited(), events.RestartScheduled(delay=0.3, crashes=1)], "starting", "exit code 3; again in 0.3 s"),
        ([SPAWNED, exited(code=0), events.Stopped(code=0, left=[])], "completed", ""),
        ([SPAWNED, exited(code=3), events.Stopped(code=3, left=[])], "failed", "exit code 3"),
        ([SPAWNED, ready(), exited(code=0, expected=True), events.Stopped(code=0, left=[])], "stopped", ""),
        ([SPAWNED, exited(), failed(), events.Stopped(code=0, left=[])], "stopped", ""),
        ([events.Refused(problem="Port 1 is taken.", remedy="", code=1), events.Stopped(code=1, left=[])], "failed", "Port 1"),
    ],
)
def test_what_happened_makes_the_state(story: Sequence[events.Event], state: str, reason: str) -> None:
    status = after(*story)
    assert status.state == state
    assert status.reason.startswith(reason)


def test_a_ready_probe_holds_it_back_until_it_says_so() -> None:
    story = [SPAWNED, ready(), events.Probed(probe="ready", verdict="failing", reason="http / answered 503")]
    status = after(*story, asked_ready=True)
    assert (status.state, status.reason, status.is_up) == ("starting", "http / answered 503", False)
    well = fold(status, 9.0, events.Probed(probe="ready", verdict="well", reason=""))
    assert (well.state, well.since, well.is_up) == ("ready", 9.0, True)


def test_stalled_is_worse_than_degraded_and_both_are_told_until_they_are_well() -> None:
    status = after(SPAWNED, ready(), events.Probed(probe="live", verdict="failing", reason="refused"))
    assert (status.state, status.reason) == ("degraded", "refused")
    worse = fold(status, 5.0, events.Probed(probe="progress", verdict="stalled", reason="n is 1"))
    assert (worse.state, worse.reason) == ("stalled", "n is 1")
    better = fold(worse, 6.0, events.Probed(probe="progress", verdict="well", reason=""))
    assert (better.state, better.reason) == ("degraded", "refused")
    assert fold(better, 7.0, events.Probed(probe="live", verdict="well", reason="")).state == "ready"


def test_since_is_when_the_state_began_and_not_its_last_reason() -> None:
    status = after(SPAWNED, ready())
    assert status.since == 1.0
    assert fold(status, 50.0, events.WorkerReady(1, 11, "u", "3", [], [], 0.1)).since == 1.0


def test_a_reload_drains_and_the_old_interpreter_may_end_after_the_new_one_began() -> None:
    waiting = events.ReloadWaiting(generation=1, active=[events.Active(name="GET /slow", age=1.0)], seconds=1.0, held=False)
    status = after(SPAWNED, ready(), events.ReloadStarted(generation=1, files=["main.py"]), waiting)
    assert (status.state, status.reason, status.reloading, status.is_up) == ("draining", "GET /slow", True, True)
    status = fold(fold(status, 5.0, AGAIN), 6.0, exited(1, 0, expected=True))
    assert (status.state, status.pid, status.generation) == ("starting", 22, 2)
    assert fold(status, 7.0, ready(2)).state == "ready"


def test_a_new_worker_that_fails_before_the_old_one_has_ended_is_told() -> None:
    why = events.Diagnosed(generation=2, diagnosis=events.Diagnosis(rule="x", cause="no module", remedy=""))
    status = after(SPAWNED, ready(), AGAIN, exited(2), why, failed(2), exited(1, 0, expected=True))
    assert (status.state, status.reason, status.pid) == ("failed", "no module", None)


def test_with_a_handover_the_old_one_serves_on_when_the_new_one_fails() -> None:
    status = after(SPAWNED, ready(), AGAIN, exited(2), failed(2, serving=True))
    assert (status.state, status.serving) == ("ready", 1)
    status = after(SPAWNED, ready(), AGAIN, ready(2), exited(1, 0, expected=True))
    assert (status.state, status.serving, status.pid) == ("ready", 2, 22)


def test_what_it_waits_for_becomes_its_reason() -> None:
    told = events.DependencyAwaited(on="db", condition="ready", reason="is starting", seconds=1.0)
    assert after(told).reason == "waits for db, which is starting"
