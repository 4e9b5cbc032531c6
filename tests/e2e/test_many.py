"""Many services of every kind, one killed at random again and again: all come back, none twice, and devsup does not grow."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness import Answer, Run, fetch, free_port, save, wait_until

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse("here")

app = Starlette(routes=[Route("/", home)])
"""
FLASK = "from flask import Flask\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return 'here'\n"
NODE = "require('http').createServer((request, answer) => answer.end('here')).listen(Number(process.argv[1]), '127.0.0.1')"
WORKER = "import subprocess, time; subprocess.Popen(['sleep', '1000']); time.sleep(1000)"


def kinds(port: int) -> list[tuple[str, int | None]]:
    """Commands, and the port that each serves."""
    found: list[tuple[str, int | None]] = [
        (f"uvicorn main:app --port {port} --no-access-log", port),
        (f"flask --app flaskapp run --port {port}", port),
        (f"{sys.executable} -m http.server {port} --bind 127.0.0.1", port),
        (f'{sys.executable} -c "{WORKER}"', None),
        ('sh -c "trap : USR1; while :; do sleep 1; done"', None),
    ]
    return [*found, (f'node -e "{NODE}" {port}', port)] if shutil.which("node") else found


@pytest.mark.parametrize(("services", "seconds"), [(10, 12), pytest.param(30, 120, marks=pytest.mark.soak)])
def test_all_come_back_none_is_there_twice_and_nothing_grows(
    team: Callable[..., Run], ask: Callable[..., Answer], project: Path, services: int, seconds: int
) -> None:
    save(project / "main.py", APP)
    save(project / "flaskapp.py", FLASK)
    chosen = list(itertools.islice((kinds(free_port())[number % len(kinds(1))] for number in itertools.count()), services))
    tables = (f"[services.s{number}]\ncommand = '''{command}'''" for number, (command, _) in enumerate(chosen))
    run = team("\n".join(tables))
    began = ask("status", "--wait", "ready", "--timeout", "60s", limit=90)
    assert began.code == 0, began.err
    process = psutil.Process(run.process.pid)
    chance, killed, before = random.Random(7), Counter[int](), (0, 0)
    ends = time.monotonic() + seconds
    for turn in itertools.count(1):
        victim = chance.randrange(services)
        pid = run.all("WorkerSpawned", service=f"s{victim}")[-1]["pid"]
        with suppress(ProcessLookupError):  # it is between two lives
            os.kill(pid, signal.SIGKILL)
            killed[victim] += 1
        next_turn = ends - seconds + turn
        wait_until(lambda at=next_turn: time.monotonic() > at, 5)  # type: ignore[misc]
        if turn == seconds // 3:  # by now all fork servers are there
            before = process.num_fds(), process.memory_info().rss
        if time.monotonic() > ends:
            break
    answer = ask("status", "--wait", "ready", "--timeout", "60s", limit=90)
    assert answer.code == 0, answer.err
    assert sum(killed.values()) > seconds * 0.7
    for number, (_, port) in enumerate(chosen):
        if port is not None:
            assert fetch(port, timeout=10)[0] == 200, number
    _nobody_twice(run, services, sum(WORKER in command for command, _ in chosen))
    fds, memory = process.num_fds(), process.memory_info().rss
    assert fds <= before[0] + 5, f"{before[0]} descriptors, then {fds}"
    assert memory < before[1] * 1.3 + 20 * 2**20, f"{before[1]:,} bytes, then {memory:,}"
    assert run.stop(60) == 0


def _nobody_twice(run: Run, services: int, workers: int) -> None:
    """Of each service one tree runs: every process of it descends from the worker that was spawned last, or is devsup's own."""
    alive = {run.all("WorkerSpawned", service=f"s{number}")[-1]["pid"] for number in range(services)}
    earlier = {each["pid"] for each in run.all("WorkerSpawned")} - alive
    running = {process.pid for process in psutil.process_iter() if process.status() != psutil.STATUS_ZOMBIE}
    assert alive <= running
    assert not earlier & running
    wait_until(lambda: len(_sleepers()) == workers, 5, lambda: f"{_sleepers()}: what a killed worker had started is gone with it")


def _sleepers() -> list[int]:
    """The children of this test's workers that serve no port."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline() == ["sleep", "1000"] and process.environ().get("TEST_OF_DEVSUP") == os.environ["TEST_OF_DEVSUP"]:
                found.append(process.pid)
    return found
