"""Probes of services: ready when a probe says so, stalled and what follows, and nothing of it in the way of a reload."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Answer, Run, fetch, free_port, save, wait_until

Start = Callable[..., Run]
Ask = Callable[..., Answer]

APP = """
import asyncio
from pathlib import Path
from typing import Any
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

async def status(request):
    text = Path("count").read_text()
    return JSONResponse({"count": int(text), "version": "VERSION"}, 503 if text == "0" else 200)

async def events():
    while True:
        yield "data: 1\\n\\n"
        await asyncio.sleep(0.1)

async def stream(request):
    return StreamingResponse(events(), media_type="text/event-stream")

app = Starlette(routes=[Route("/status", status), Route("/stream", stream)])
"""


def prepare(project: Path, count: str = "1") -> int:
    (project / "count").write_text(count)
    save(project / "main.py", APP.replace("VERSION", "v1"))
    return free_port()


def test_a_service_is_ready_when_its_probe_says_so_and_who_waits_is_told_why_not(team: Start, ask: Ask, project: Path) -> None:
    port = prepare(project, "0")
    run = team(f"""
[services.web]
command = "uvicorn main:app --port {port}"
probes.ready = {{ http = "/status" }}
[services.late]
command = {[sys.executable, "-c", "print('late')"]!r}
depends_on = ["web"]
""")
    run.wait_for("WorkerReady", service="web")
    reason = "is starting: http /status answered 503"
    wait_until(lambda: any(reason in each["reason"] for each in run.all("DependencyAwaited")), story=run.story)
    assert not any("GET /status" in line for line in run.lines()), "probes do not fill the log"
    state = ask("status", "web", "--json").json[0]
    assert (state["state"], state["reason"].startswith("http /status answered 503")) == ("starting", True)
    assert not run.all("WorkerSpawned", service="late")
    (project / "count").write_text("1")
    run.wait_for_line("late")
    assert run.stop() == 0


@pytest.mark.parametrize(
    "probe",
    ['log = "listening now"', 'command = ["test", "-e", "up"]', 'path = "up"', 'tcp = "PORT"'],
)
def test_a_program_without_a_port_of_its_own_is_ready_by_line_command_file_or_port(
    team: Start, project: Path, probe: str
) -> None:
    port = free_port()
    listening = f"s.bind(('127.0.0.1', {port})); s.listen();" if "tcp" in probe else ""
    code = (
        "import time, pathlib, socket; time.sleep(0.5); pathlib.Path('up').touch(); s = socket.socket(); "
        f"{listening} print('listening now', flush=True); time.sleep(100)"
    )
    run = team(f"""
[services.job]
command = {[sys.executable, "-I", "-c", code]!r}
probes.ready = {{ {probe.replace("PORT", str(port))} }}
""")
    ready = run.wait_for("Probed", probe="ready", verdict="well")
    assert 0.4 < ready["at"] - run.all("WorkerSpawned")[0]["at"] < 10
    assert run.stop() == 0


@pytest.mark.parametrize(("action", "event"), [("warn", ""), ("restart", "WorkerReady"), ("stop", "Stopped")])
def test_a_stall_is_told_with_stacks_and_does_what_is_asked_for(team: Start, project: Path, action: str, event: str) -> None:
    port = prepare(project)
    run = team(f"""
[services.web]
command = "uvicorn main:app --port {port}"
probes.progress = {{ http = "/status", field = "count", grows_within = "1s", every = "500ms", on_stall = "{action}" }}
""")
    stalled = run.wait_for("ServiceStalled")
    assert stalled["action"] == action
    assert stalled["reason"].startswith("http /status count is 1 for ")
    assert [each["name"] for each in stalled["stacks"]]
    if action == "restart":
        for _ in range(3):
            run.wait_for("ServiceStalled", 4)
        given_up = run.wait_for("ServiceStalled", action="given up")
        assert given_up["generation"] == 4, "three times, and no more"
    elif action == "stop":
        assert run.wait_for("Stopped")
        return
    assert run.stop() == 0


def test_what_works_again_is_told_and_a_number_that_falls_is_a_restart(team: Start, project: Path) -> None:
    port = prepare(project, "5")
    run = team(f"""
[services.web]
command = "uvicorn main:app --port {port}"
probes.progress = {{ http = "/status", field = "count", grows_within = "1s", every = "300ms" }}
""")
    run.wait_for("Probed", verdict="stalled")
    (project / "count").write_text("6")
    run.wait_for("Probed", verdict="well")
    run.wait_for("Probed", 2, verdict="stalled")
    (project / "count").write_text("2")
    assert run.wait_for("Probed", 3, verdict="stalled")["at"] > time.time() - 30
    assert run.stop() == 0


def test_probes_stand_still_while_a_reload_waits_and_hold_none(team: Start, project: Path) -> None:
    port = prepare(project)
    run = team(f"""
[services.web]
command = "uvicorn main:app --port {port}"
probes.stream = {{ sse = "/stream", events = 2, within = "2s" }}
probes.live = {{ http = "/status", every = "200ms" }}
""")
    run.wait_for("WorkerReady")
    for number in range(2, 6):
        save(project / "main.py", APP.replace("VERSION", f"v{number}"))
        run.wait_for("WorkerReady", generation=number)
        wait_until(lambda number=number: f'"v{number}"' in fetch(port, "/status")[1])  # type: ignore[misc]
    assert all(each["waited"] < 3 for each in run.all("Reloaded")), "the probe's own stream is no client's"
    assert not [each for each in run.all("Probed") if each["verdict"] != "well"]
    assert run.stop() == 0


def test_a_line_that_must_not_be_printed_degrades_and_is_named(team: Start, ask: Ask) -> None:
    run = team(f"""
[services.job]
command = {[sys.executable, "-c", "import time; print('all well'); print('CUDA error: 35', flush=True); time.sleep(100)"]!r}
probes.log = {{ never = ["CUDA error"] }}
""")
    found = run.wait_for("Probed")
    assert (found["verdict"], '"CUDA error" was printed: CUDA error: 35' in found["reason"]) == ("failing", True)
    assert ask("status", "--json").json[0]["state"] == "degraded"
    assert run.stop() == 0


def test_a_service_that_asks_its_user_something_is_not_restarted_for_a_stall(ask: Ask, project: Path) -> None:
    code = "x = input('your name? ')"
    (project / "never.csv").write_text("a line\n")
    (project / "devsup.toml").write_text(f"""
[services.job]
command = {[sys.executable, "-c", code]!r}
probes.file = {{ path = "never.csv", grows_within = "1s", every = "500ms", on_stall = "restart" }}
""")
    assert ask("start", "-d").code == 0
    try:
        wait_until(lambda: ask("status", "--json").json[0]["prompting"])
        told = wait_until(lambda: [each for each in story(project) if each["event"] == "ServiceStalled"])
        assert told[0]["action"] == "debugged"
        assert ask("status", "--json").json[0]["generation"] == 1
    finally:
        assert ask("down").code == 0


def story(project: Path) -> list[dict[str, Any]]:
    """The event log."""
    return [json.loads(line) for line in (project / ".devsup" / "events.jsonl").read_text().splitlines()]


def test_a_line_that_comes_in_pieces_is_found(team: Start) -> None:
    code = "import sys, time; sys.stdout.write('CUDA er'); sys.stdout.flush(); time.sleep(0.5); print('ror now'); time.sleep(100)"
    run = team(f"[services.job]\ncommand = {[sys.executable, '-c', code]!r}\nprobes.log = {{ never = ['CUDA error'] }}\n")
    assert "CUDA error now" in run.wait_for("Probed", verdict="failing")["reason"]
    assert run.stop() == 0
