"""The pipeline example without devsup: what each of its switches does to what its probes look at."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from browser import Page, axe, browser
from harness import LIMIT, fetch, free_port, thinned, wait_until

EXAMPLE = Path(__file__).resolve().parent.parent / "examples/pipeline"
SERVICES: dict[str, dict[str, Any]] = tomllib.loads((EXAMPLE / "devsup.toml").read_text())["services"]
WATCHED = {
    f"{service}.{name}": (service, probe)
    for service, table in SERVICES.items()
    for name, probe in table["probes"].items()
    if name not in {"ready", "live", "log"}
}
INTERVAL = 0.1  # seconds between points, ten times as often as by default
SILENCE = 1.0  # seconds without growth that are no mere delay

SILENT = {"simulator.thread", "simulator.file", "backend.progress", "backend.stream"}
EFFECTS = {
    "thread": SILENT,
    "post": SILENT,
    "setting": {"backend.setting"},
    "payload": {"backend.payload", "backend.progress", "backend.stream"},
    "csv": {"simulator.file"},
}


class Pipeline:
    """The three parts, started in a folder by the commands of devsup.toml, on ports of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in SERVICES}
        self.output = folder.parent / "output"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        words = SERVICES[name]["command"].split()
        at = next(index for index, word in enumerate(words) if word.isdigit())
        words[at] = str(self.ports[name])
        if words[0] == "uvicorn":
            words = ["python", "-m", *words, "--timeout-graceful-shutdown", "1"]
        env = {**os.environ, "BACKEND": f"127.0.0.1:{self.ports['backend']}", "INTERVAL": str(INTERVAL)}
        with self.output.open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *words[1:]], cwd=self.folder, env=env, stdout=output, stderr=output
            )

    def wait_until_ready(self, *names: str) -> None:
        for name in names:
            wait_until(partial(self._is_ready, name), story=self.output.read_text)

    def stop(self, name: str) -> None:
        """As Ctrl-C would; it has to end by itself."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for name in self._processes.copy():
                stack.callback(self.stop, name)

    def json(self, name: str, path: str) -> dict[str, Any]:
        status, body = fetch(self.ports[name], path)
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def switch(self, fault: str, state: str) -> None:
        status, body = fetch(self.ports["simulator"], f"/faults/{fault}/{state}", method="POST")
        assert status == 200, body
        assert json.loads(body)["faults"][fault] is (state == "on")

    def _is_ready(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            return fetch(self.ports[name], SERVICES[name]["probes"]["ready"]["http"])[0] == 200
        return False


class Probes:
    """What the probes of devsup.toml see, and when each of them last saw growth, or what it expects."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._events = 0
        self._connection = HTTPConnection("127.0.0.1", pipeline.ports["backend"], timeout=LIMIT)
        self._connection.request("GET", SERVICES["backend"]["probes"]["stream"]["sse"])
        self._response = self._connection.getresponse()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._seen: dict[str, float] = {}
        self._well: dict[str, float] = {}

    def close(self) -> None:
        with contextlib.suppress(OSError):  # where the backend has ended it
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._reader.join(LIMIT)
        self._connection.close()

    def unwell(self) -> dict[str, float]:
        """Each probe that has not seen it for a while or not at all, and for how long."""
        now = time.monotonic()
        self._well |= {name: now for name, (service, probe) in WATCHED.items() if self._is_well(name, service, probe)}
        ages = {name: now - self._well.get(name, -math.inf) for name in WATCHED}
        return {name: age for name, age in ages.items() if age > SILENCE}

    def _is_well(self, name: str, service: str, probe: dict[str, Any]) -> bool:
        if "path" in probe:
            value: Any = (self._pipeline.folder / probe["path"]).stat().st_size
        elif "sse" in probe:
            value = self._events
        else:
            value = self._pipeline.json(service, probe["http"])
            for key in probe["field"].split("."):
                value = value[key]
        if "equals" in probe:
            return value == probe["equals"] and type(value) is type(probe["equals"])
        before, self._seen[name] = self._seen.get(name, math.inf), value
        return bool(value > before)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            for line in self._response:
                self._events += line.startswith(b"data:")


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    folder = tmp_path / "pipeline"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "__pycache__", ".*"))
    pipeline = Pipeline(folder)
    try:
        for name in SERVICES:
            pipeline.start(name)
        pipeline.wait_until_ready(*SERVICES)
        yield pipeline
    finally:
        pipeline.close()


@pytest.fixture
def probes(pipeline: Pipeline) -> Iterator[Probes]:
    """Of a pipeline that works: each has seen what it expects."""
    probes = Probes(pipeline)
    try:
        wait_until(lambda: not probes.unwell(), story=lambda: f"{probes.unwell()}")
        yield probes
    finally:
        probes.close()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    profile = tmp_path / "profile"
    profile.mkdir()
    with browser(profile) as tab:
        yield tab


@pytest.mark.parametrize("fault", thinned(EFFECTS, every=5))
def test_a_fault_is_seen_by_its_probes_alone_and_healed_by_its_switch(pipeline: Pipeline, probes: Probes, fault: str) -> None:
    def story() -> str:
        return f"{probes.unwell()}\n{pipeline.output.read_text()}"

    def only_its_probes() -> bool:
        unwell = probes.unwell()
        return set(unwell) == EFFECTS[fault] and min(unwell.values()) > SILENCE + 0.5  # by then others would be, too

    pipeline.switch(fault, "on")
    wait_until(only_its_probes, story=story)
    pipeline.switch(fault, "off")
    wait_until(lambda: not probes.unwell(), 5, story)


def test_a_fault_that_does_not_exist_is_refused_with_those_that_do(pipeline: Pipeline) -> None:
    for path in ("/faults/nonsense/on", "/faults/csv/maybe"):
        status, body = fetch(pipeline.ports["simulator"], path, method="POST")
        assert status == 404
        assert all(fault in json.loads(body)["error"] for fault in EFFECTS)
    assert not any(pipeline.json("simulator", "/status.json")["faults"].values())


def test_the_simulator_ends_out_of_a_post_that_blocks(pipeline: Pipeline, probes: Probes) -> None:
    pipeline.switch("post", "on")
    wait_until(lambda: "simulator.thread" in probes.unwell())
    pipeline.stop("simulator")
    assert "Traceback" not in pipeline.output.read_text()


def test_the_chart_comes_back_after_a_restart_and_after_an_error(pipeline: Pipeline, page: Page) -> None:
    port = pipeline.ports["backend"]
    page.open(f"http://127.0.0.1:{pipeline.ports['frontend']}/?backend={port}")
    wait_until(lambda: state(page) == "live")
    pipeline.stop("backend")
    wait_until(lambda: state(page) == "reconnecting")
    with error_server(port) as asked:  # as devsup answers while no worker can; EventSource gives up then
        wait_until(lambda: asked)
    last = page.value("points.at(-1).at")
    pipeline.start("backend")
    wait_until(lambda: state(page) == "live" and page.value("points.at(-1).at") > last, story=pipeline.output.read_text)
    assert page.value("points.every((point, index) => !index || point.at > points[index - 1].at)")
    assert page.value("document.getElementById('values').getAttribute('d')").count("M") >= 1
    look_at(page)


def test_the_switches_of_the_page_show_what_is_on(pipeline: Pipeline, page: Page) -> None:
    page.open(f"http://127.0.0.1:{pipeline.ports['simulator']}/")
    wait_until(lambda: state(page) == "running")
    assert page.value("[...switches].map(each => each.value)") == list(EFFECTS)
    for on in (True, False):
        page.value("for (const each of switches) each.click()")
        wait_until(partial(shows, page, on=on))
        assert pipeline.json("simulator", "/status.json")["faults"] == dict.fromkeys(EFFECTS, on)
        look_at(page)


def shows(page: Page, *, on: bool) -> bool:
    """Whether all switches do."""
    return set(page.value("[...switches].map(each => each.ariaChecked)")) == {str(on).lower()}


def state(page: Page) -> str:
    return str(page.value("document.getElementById('state').textContent"))


def look_at(page: Page) -> None:
    """In both schemes, on a telephone and on a desk: nothing that is hard to read or use, nothing beyond the edge."""
    for width, scheme in itertools.product((375, 1200), ("light", "dark")):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        assert page.value("document.documentElement.scrollWidth") == width
        assert axe(page) == [], scheme


@contextlib.contextmanager
def error_server(port: int) -> Iterator[list[str]]:
    """Answers 503 on this port; gives the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of what it replaces
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield asked
        server.shutdown()
        thread.join()
