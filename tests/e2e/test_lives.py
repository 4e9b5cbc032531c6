"""The lives of services: stopped and started by hand, broken and mended, at the very end, and beside a reader that sleeps."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from harness import LIMIT, Answer, Run, fetch, free_port, save, wait_until

Start = Callable[..., Run]
Ask = Callable[..., Answer]

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse("here")

app = Starlette(routes=[Route("/", home)])
"""
SLEEP = f"command = {[sys.executable, '-c', 'import time; time.sleep(100)']!r}\n"
SLOW = "import signal, time; signal.signal(15, lambda *_: (time.sleep(2), exit())); time.sleep(99)"
SLOW_TO_END = f"command = {[sys.executable, '-I', '-c', SLOW]!r}\n"


def states(ask: Ask) -> dict[str, str]:
    return {each["name"]: each["state"] for each in ask("status", "--json").json}


def test_what_is_stopped_by_hand_can_be_started_at_once_and_all_can_be_ended(team: Start, ask: Ask) -> None:
    run = team(f"[services.a]\n{SLEEP}[services.b]\n{SLEEP}")
    for name in ("a", "b"):
        run.wait_for("WorkerReady", service=name)
    assert ask("stop", "a").code == 0
    assert states(ask)["a"] == "stopped", "stop returns when it is over"
    assert ask("start", "a").code == 0
    assert ask("status", "--wait", "ready").code == 0
    assert ask("stop", "a").code == ask("stop", "b").code == 0
    assert run.process.poll() is None, "who has stopped them by hand may start them again"
    assert ask("down").code == 0
    assert run.wait() == 0


def test_a_start_while_it_is_being_stopped_is_not_lost(team: Start, ask: Ask) -> None:
    run = team(f"[services.a]\n{SLOW_TO_END}[services.b]\n{SLEEP}")
    run.wait_for("WorkerReady", service="a")
    stopping = subprocess.Popen([sys.executable, "-m", "devsup", "stop", "a"], cwd=run_folder(run))
    run.wait_for("Stopping", service="a")
    assert states(ask)["a"] == "stopping", "it is no more what others could wait for"
    assert ask("start", "a").code == 0
    run.wait_for("WorkerReady", 2, service="a")
    assert stopping.wait(LIMIT) == 0
    assert run.stop() == 0


def run_folder(run: Run) -> Path:
    return Path(f"/proc/{run.process.pid}/cwd").readlink()


def test_nothing_is_started_any_more_while_devsup_ends(team: Start, ask: Ask) -> None:
    slow = SLOW_TO_END.replace("sleep(2)", "sleep(8)")  # longer than a command takes on a machine that is busy
    run = team(f"[services.db]\n{slow}stop_timeout = 20\n[services.web]\n{SLEEP}depends_on = ['db']\n")
    run.wait_for("WorkerReady", service="web")
    run.process.send_signal(signal.SIGTERM)
    run.wait_for("Stopping", service="db")
    refused = ask("start", "web")
    assert (refused.code, "devsup is ending" in refused.err) == (1, True)
    assert run.wait() == 0


def test_stopped_while_it_waits_it_is_stopped_in_every_life(team: Start, ask: Ask) -> None:
    run = team(f"[services.db]\n{SLEEP}[services.web]\n{SLEEP}depends_on = ['db']\n")
    run.wait_for("WorkerReady", service="web")
    for words in (("stop", "web"), ("stop", "db"), ("start", "web"), ("stop", "web")):
        assert ask(*words).code == 0
    assert states(ask) == {"db": "stopped", "web": "stopped"}
    assert ask("down").code == 0
    assert run.wait() == 0


def test_an_env_file_that_cannot_be_read_fails_its_service_and_nobody_else(team: Start, ask: Ask, project: Path) -> None:
    (project / ".env").write_text("A=1\n")
    save(project / "main.py", APP)
    run = team(f"""
[services.web]
command = "uvicorn main:app --port {free_port()}"
env_files = [".env"]
probes.ok = {{ command = "true", every = "200ms" }}
[services.other]
{SLEEP}""")
    run.wait_for("WorkerReady", service="web")
    run.wait_for("WorkerReady", service="other")
    (project / ".env").write_bytes(b"A=\xff\n")
    run.wait_for("WorkerFailed", service="web")
    wait_until(lambda: states(ask) == {"web": "failed", "other": "ready"})
    assert "cannot be read" in ask("status", "web", "--json").json[0]["reason"]
    assert ask("stop", "web").code == ask("start", "web").code == 0
    wait_until(lambda: states(ask)["web"] == "failed")
    (project / ".env").write_text("A=2\n")
    assert ask("restart", "web").code == 0
    assert ask("status", "--wait", "ready").code == 0
    assert run.stop() == 0


def test_a_detached_start_of_short_tasks_ends_with_their_code(ask: Ask, project: Path) -> None:
    for code in (0, 3):
        command = [sys.executable, "-c", f"import time; time.sleep(0.1); raise SystemExit({code})"]
        (project / "devsup.toml").write_text(f"[services.one]\ncommand = {command!r}\nreload = 'off'\n")
        assert bool(ask("start", "-dq").code) == bool(code)
        wait_until(lambda: ask("status").code == 1)


def test_a_detached_devsup_writes_to_no_hidden_file(ask: Ask, project: Path) -> None:
    (project / "devsup.toml").write_text(f"[services.one]\n{SLEEP}")
    assert ask("start", "-d").code == 0
    try:
        pid = json.loads(next((project / ".devsup").glob("one-*.json")).read_text())["pid"]
        assert [Path(f"/proc/{pid}/fd/{fd}").readlink() for fd in (0, 1, 2)] == [Path("/dev/null")] * 3
    finally:
        assert ask("down").code == 0


def test_who_does_not_read_our_output_stops_nobody(project: Path, environment: dict[str, str]) -> None:
    save(project / "main.py", APP)
    port = free_port()
    flood = [sys.executable, "-c", "while True: print('a line that nobody reads')"]
    (project / "devsup.toml").write_text(f"""
[services.web]
command = "uvicorn main:app --port {port}"
[services.flood]
command = {flood!r}
log.max_size = "1MB"
""")
    words = [sys.executable, "-m", "devsup", "start"]
    process = psutil.Popen(words, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        log = project / ".devsup/logs/flood.log.3"
        wait_until(log.exists, story=lambda: "its log goes on")
        wait_until(lambda: answers(port))
        assert process.memory_info().rss < 150 * 2**20
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()


def answers(port: int) -> bool:
    with suppress(ConnectionError):
        return fetch(port) == (200, "here")
    return False


def test_a_program_that_has_gone_leaks_nothing_at_each_try(ask: Ask, project: Path) -> None:
    program = project / "program"
    program.write_text("#!/bin/sh\nsleep 100\n")
    program.chmod(0o755)
    (project / "devsup.toml").write_text('[services.one]\ncommand = "./program"\n')
    assert ask("start", "-d").code == 0
    try:
        pid = json.loads(next((project / ".devsup").glob("one-*.json")).read_text())["pid"]
        program.rename(project / "elsewhere")
        counts = []
        for _ in range(4):
            assert ask("restart").code == 0
            wait_until(lambda: states(ask)["one"] == "failed")
            counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        assert counts[-1] <= counts[0], counts
        (project / "elsewhere").rename(program)
        assert ask("restart").code == 0
        assert ask("status", "--wait", "ready").code == 0
    finally:
        assert ask("down").code == 0
