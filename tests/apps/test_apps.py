"""`devsup run` in front of the commands of real packages, each in a virtual environment of its own (install.py)."""

from __future__ import annotations

import contextlib
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import install
from harness import Run, fetch, save, tool, wait_until
from styles import STYLES, Style

LIMIT = 90.0  # seconds to start: some import for thirty on a busy machine, and a first save may wait `background_grace` longer


def marked(styles: list[Style]) -> list[Any]:
    """What is slow, or not among the packages for development, runs only under `make soak`."""
    return [pytest.param(style, id=style.name, marks=() if style.fast else pytest.mark.soak) for style in styles]


@dataclass
class Started:
    """A style, running, with version 1 saved and ready."""

    style: Style
    run: Run
    folder: Path
    port: int

    def save(self, version: int) -> None:
        """Save the app; each version has a length of its own."""
        save(self.folder / self.style.saved, self.style.file(self.style.saved, self.port, version))

    def version(self) -> str:
        """What the home route answers."""
        status, body = fetch(self.port, self.style.home)
        assert status == 200, body
        return body

    def imports(self) -> list[str]:
        """The name under which the app was imported, once for each time."""
        return [line.partition("imported ")[2].split()[0] for line in self.run.lines() if "imported " in line]

    def imports_all(self, generations: int = 1) -> None:
        """Wait until every process has imported it: some do so after the first one serves."""
        wait_until(lambda: len(self.imports()) >= len(self.style.imports) * generations, LIMIT, self.run.story)

    def reload(self, version: int) -> None:
        """Save that version, and wait until it serves."""
        self.save(version)
        self.run.ready(version, LIMIT)
        self.imports_all(version)
        wait_until(lambda: self.version() == f"v{version}" or not self.style.routes, LIMIT, self.run.story)


Start = Callable[[Style], Started]


@pytest.fixture
def start(devsup: Callable[..., Run], project: Path, port: int) -> Start:
    def start_style(style: Style) -> Started:
        for program in style.tools:
            tool(program)
        for name in style.files:
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_text(style.file(name, port, 1))
        env = {"VIRTUAL_ENV": str(_environment(style)), **style.variables}
        command = shlex.split(style.command.replace("@PORT@", str(port)))
        started = Started(style, devsup(*command, options=list(style.options), env=env), project, port)
        started.run.ready(1, LIMIT)
        started.imports_all()
        return started

    return start_style


def _environment(style: Style) -> Path:
    if style.fast:
        return Path(sys.prefix)
    if not install.is_installed(style):
        pytest.fail(f"{style.packages} is not installed; run: python tests/apps/install.py {style}")
    return install.environment(style)


@contextlib.contextmanager
def asking(port: int, path: str) -> Iterator[socket.socket]:
    """A connection on which a request was sent, whose answer has begun."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: text/event-stream\r\n\r\n".encode())
        assert sock.recv(1)
        yield sock


@contextlib.contextmanager
def knocking(port: int, path: str) -> Iterator[list[str]]:
    """Knock all the time, each time on a connection of its own; what was refused or lost."""
    failures, over = list[str](), threading.Event()

    def knock() -> None:
        while not over.wait(0.02):
            try:
                status, body = fetch(port, path)
            except OSError as exc:
                failures.append(repr(exc))
            else:
                if status not in {200, 503}:  # a start of more than ten seconds is answered by the placeholder
                    failures.append(f"{status} {body}")

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield failures
    finally:
        over.set()
        thread.join()


def assert_stops(started: Started) -> None:
    """Ctrl-C ends it before devsup has to kill, and nothing had to be ended after it."""
    run = started.run
    assert run.stop() == 0
    ended = run.all("WorkerExited")[-1]
    assert ended["expected"]
    assert ended["exit"]["signal"] != signal.SIGKILL or not started.style.obeys, run.story()
    assert run.wait_for("Stopped")["left"] == [], run.story()
    assert run.all("Trouble") == []


@pytest.mark.parametrize("style", marked(STYLES))
def test_starts_once_on_its_port_and_ends_with_an_open_stream(start: Start, style: Style) -> None:
    started = start(style)
    run = started.run
    assert (run.ready()["server"] != "foreign") == style.kept, run.story()
    ports = {url.rpartition(":")[2].strip("/") for url in run.ready()["urls"]}
    assert str(started.port) in ports
    assert len(ports) == 1 or not style.alone, run.story()
    assert started.version() == "v1" or not style.routes
    assert sorted(started.imports()) == sorted(style.imports)
    assert [event["name"] for event in run.all("ReloaderOff")] == ([style.reloader] if style.reloader else [])
    streams = style.kept and "/stream" in style.routes
    with asking(started.port, "/stream") if streams else contextlib.nullcontext():
        assert_stops(started)


@pytest.mark.parametrize("style", marked([style for style in STYLES if style.kept]))
def test_keeps_its_port_over_reloads(start: Start, style: Style) -> None:
    started = start(style)
    with knocking(started.port, style.home) as failures:
        for version in (2, 3, 4):
            started.reload(version)
    assert failures == [], started.run.story()
    assert sorted(started.imports()) == sorted(style.imports * 4)
    kept = [event["url"] for event in started.run.all("ListenerKept")]
    assert len(kept) == len(set(kept))
    if style.alone:
        assert {tuple(event["urls"]) for event in started.run.all("WorkerReady")} == {tuple(started.run.ready()["urls"])}
        assert started.run.all("ListenerClosed") == []
    assert_stops(started)


@pytest.mark.parametrize("style", marked([style for style in STYLES if style.kept and "/slow" in style.routes]))
def test_a_save_waits_for_the_request_in_flight(start: Start, style: Style) -> None:
    started = start(style)
    run = started.run
    with ThreadPoolExecutor(1) as pool:
        try:
            slow = pool.submit(fetch, started.port, "/slow")
            run.wait_for_line("slow begins")
            started.save(2)
            waiting = run.wait_for("ReloadWaiting")
            (active,) = waiting["active"]
            assert active["name"].startswith("GET /slow" if style.named else "a request from 127.0.0.1")
            assert run.all("WorkerSpawned", generation=2) == []
        finally:
            (started.folder / "release").touch()
        assert slow.result() == (200, "v1")
    run.ready(2, LIMIT)
    assert started.version() == "v2"
    assert run.all("WorkLost") == []
    assert_stops(started)


@pytest.mark.parametrize("style", marked([style for style in STYLES if not style.kept]))
def test_a_server_that_cannot_be_kept_is_reloaded_on_its_port(start: Start, style: Style) -> None:
    started = start(style)
    for version in (2, 3):
        started.reload(version)
    assert_stops(started)


def test_the_styles_are_many_and_ten_are_fast() -> None:
    assert len(STYLES) >= 25
    assert sum(style.fast for style in STYLES) >= 10
    assert len({style.name for style in STYLES}) == len(STYLES)
