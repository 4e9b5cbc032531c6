"""The output of several services: a flood beside a server, its log, and what the terminal shows of it."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import fetch, free_port, save, wait_until

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse("VERSION")

app = Starlette(routes=[Route("/", home)])
"""
FLOOD = """
import sys, time, itertools
seconds = float(sys.argv[1])
ends, number, line = time.monotonic() + seconds, 0, "a line of a flood, as long as a line of a log may well be: "
while time.monotonic() < ends:
    sys.stdout.write("".join(f"{line}{n}\\n" for n in range(number, number + 5000)))
    number += 5000
print("total", number, flush=True)
time.sleep(100)
"""


def latencies(port: int, count: int) -> list[float]:
    found = []
    for _ in range(count):
        began = time.perf_counter()
        assert fetch(port)[0] == 200
        found.append(time.perf_counter() - began)
    return found


@pytest.mark.parametrize("seconds", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_a_flood_slows_nobody_grows_nothing_and_is_whole_in_its_log(
    project: Path, tmp_path: Path, environment: dict[str, str], seconds: int, request: pytest.FixtureRequest
) -> None:
    save(project / "main.py", APP.replace("VERSION", "v1"))
    save(project / "flood.py", FLOOD)
    port = free_port()
    (project / "devsup.toml").write_text(f"""
[services.web]
command = "uvicorn main:app --port {port} --no-access-log"
[services.flood]
command = ["{sys.executable}", "flood.py", "{seconds}"]
depends_on = {{ web = "ready" }}
log.max_size = 0
""")
    with (tmp_path / "out").open("wb") as out:
        run = Started([sys.executable, "-m", "devsup", "start"], project, environment, out.fileno())
        try:
            log = project / ".devsup/logs/flood.log"
            wait_until(lambda: log.exists() and log.stat().st_size > 100_000)
            during = latencies(port, 100)
            save(project / "main.py", APP.replace("VERSION", "v2"))
            began = time.monotonic()
            wait_until(lambda: fetch(port)[1] == "v2")
            reloaded = time.monotonic() - began
            peak = wait_until(lambda: run.rss() if b"total" in tail(log) else 0, seconds + 60)
            after = latencies(port, 100)
        finally:
            run.close()
    total = int(tail(log).rpartition(b"total ")[2].split()[0])
    assert total > 100_000 * seconds / 4
    with log.open("rb") as file:
        numbers = [int(line.rpartition(b": ")[2]) for line in file if b"a line of a flood" in line]
    assert numbers == list(range(total)), "every line, in order"
    request.node.user_properties.append(("lines a second", total // seconds))
    request.node.user_properties.append(("latency beside the flood, times", statistics.median(during) / statistics.median(after)))
    request.node.user_properties.append(("reload beside the flood, seconds", reloaded))
    assert peak < 200 * 2**20


class Started:
    """devsup start, its output in a file."""

    def __init__(self, words: list[str], cwd: Path, env: dict[str, str], out: int) -> None:
        self._process = psutil.Popen(words, cwd=cwd, env=env, stdout=out, stderr=out, stdin=-3)

    def rss(self) -> int:
        return int(self._process.memory_info().rss)

    def close(self) -> None:
        self._process.send_signal(2)
        self._process.wait(20)


def tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 500))
        return file.read()
