"""While a client of debugpy is attached no limit counts; once it has gone they do again."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import LIMIT, Run, fetch, save, tool, wait_until

Start = Callable[..., Run]

APP = """
import asyncio
import os
import debugpy
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

VERSION = "@VERSION@"

async def home(request):
    return PlainTextResponse(VERSION)

async def debugger(request):
    return PlainTextResponse(str(debugpy.listen(("127.0.0.1", 0))[1]))

async def held(request):
    print("begins", flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    return PlainTextResponse("held " + VERSION)

async def looked_at(request):
    value = "looked at "
    return PlainTextResponse(value + VERSION)  # here

async def forever():
    print("begins", flush=True)
    while True:
        await asyncio.sleep(0.01)

async def left(request):
    global task
    task = asyncio.create_task(forever())
    return PlainTextResponse("answered")

app = Starlette(routes=[Route("/" + each.__name__, each) for each in (home, debugger, held, looked_at, left)])
"""
LINE = 1 + APP.splitlines().index("    return PlainTextResponse(value + VERSION)  # here")


class Client:
    """What an editor is to debugpy: it speaks the Debug Adapter Protocol over a socket."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._stream = self._sock.makefile("rb")
        self._numbers = itertools.count(1)

    def send(self, command: str, **arguments: Any) -> None:
        """A request, whose answer nobody waits for yet."""
        body = json.dumps({"seq": next(self._numbers), "type": "request", "command": command, "arguments": arguments}).encode()
        self._sock.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def wait_for(self, **fields: Any) -> dict[str, Any]:
        """The next message with these fields."""
        while True:
            length = 0
            while (line := self._stream.readline().strip()) or not length:
                length = int(line.partition(b":")[2]) if line.lower().startswith(b"content-length") else length
            message: dict[str, Any] = json.loads(self._stream.read(length))
            if all(message.get(key) == value for key, value in fields.items()):
                return message

    def attach(self, path: Path | None = None) -> None:
        """Attach, with a breakpoint at the line `# here` of that file."""
        self.send("initialize", adapterID="test")
        self.send("attach", justMyCode=False)
        self.wait_for(type="event", event="initialized")
        if path is not None:
            self.send("setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": LINE}])
        self.send("configurationDone")
        self.wait_for(type="response", command="configurationDone")

    def close(self) -> None:
        """Go without a word."""
        self._stream.close()
        self._sock.close()


class App:
    """The app of one test, devsup in front of it, and its debugger's port."""

    def __init__(self, start: Start, project: Path, port: int) -> None:
        self._start, self.path, self.port = start, project / "main.py", port
        self.answers: list[tuple[int, str]] = []

    def save(self, version: int) -> None:
        """Write this version of its code."""
        save(self.path, APP.replace("@VERSION@", "v1" if version == 1 else f"v{version}" + "." * version))

    def run(self, *options: str, config: str = "") -> Run:
        """Start it, and wait until it serves."""
        (self.path.parent / "devsup.toml").write_text(f"[services.web]\n{config}\n")
        self.save(1)
        run = self._start("uvicorn", "main:app", "--port", str(self.port), options=list(options))
        run.ready()
        return run

    def client(self) -> Client:
        """A debugger's client, connected."""
        return Client(int(fetch(self.port, "/debugger")[1]))

    @contextlib.contextmanager
    def asking(self, path: str) -> Iterator[threading.Thread]:
        """A request that is under way."""

        def ask() -> None:
            with contextlib.suppress(OSError):
                self.answers.append(fetch(self.port, path))

        thread = threading.Thread(target=ask)
        thread.start()
        yield thread
        thread.join(LIMIT)


@pytest.fixture
def app(devsup: Start, project: Path, port: int) -> App:
    """The app, not yet started."""
    pytest.importorskip("debugpy")
    return App(devsup, project, port)


@pytest.mark.parametrize("leaving", ["disconnects", "vanishes"])
def test_no_drain_clock_runs_while_a_client_is_attached(app: App, leaving: str) -> None:
    run = app.run("--drain-timeout", "0.3")
    client = app.client()
    client.attach()
    with app.asking("/held"):
        run.wait_for_line("begins")
        app.save(2)
        run.wait_for("ReloadWaiting", 2)  # the second comes after a second: three times the limit
        assert not run.all("WorkLost")
        if leaving == "disconnects":
            client.send("disconnect", terminateDebuggee=False)
            client.wait_for(type="response", command="disconnect")
        client.close()
        assert run.wait_for("WorkLost")["name"] == "GET /held"
    run.ready(2)


def test_a_request_that_is_halted_at_a_breakpoint_is_waited_for(app: App) -> None:
    """All threads are halted but the agent's, which still says what is waited for."""
    run = app.run("--drain-timeout", "0.3")
    client = app.client()
    client.attach(app.path)
    with app.asking("/looked_at"):
        thread = client.wait_for(type="event", event="stopped")["body"]["threadId"]
        app.save(2)
        second = run.wait_for("ReloadWaiting", 2)
        assert [each["name"] for each in second["active"]] == ["GET /looked_at"]
        client.send("continue", threadId=thread)
    assert app.answers == [(200, "looked at v1")]
    run.ready(2)
    client.close()
    assert not run.all("WorkLost")


def test_nothing_outlives_its_grace_while_a_client_is_attached(app: App) -> None:
    run = app.run(config="background_grace = 0.3")
    client = app.client()
    client.attach()
    assert fetch(app.port, "/left") == (200, "answered")
    run.wait_for_line("begins")
    app.save(2)
    assert run.wait_for("ReloadWaiting", 2)["active"][0]["name"] == "forever"
    assert not run.all("DaemonLearned")
    client.close()
    run.wait_for("DaemonLearned")
    run.ready(2)


def test_r_reloads_although_a_request_is_halted(app: App, environment: dict[str, str]) -> None:
    app.save(1)
    ours, theirs = os.openpty()
    log = app.path.parent / ".devsup" / "events.jsonl"
    words = [sys.executable, "-m", "devsup", "run", "--cwd", str(app.path.parent), "uvicorn", "main:app", "--port", str(app.port)]
    # setsid makes the pseudo terminal devsup's own.
    words = [tool("setsid"), "--ctty", *words]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)

    def drink() -> None:
        with contextlib.suppress(OSError):
            while os.read(ours, 65536):
                pass

    drinker = threading.Thread(target=drink)
    drinker.start()

    def seen(name: str, generation: int) -> bool:
        events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return any(each["event"] == name and each.get("generation") == generation for each in events)

    try:
        wait_until(lambda: seen("WorkerReady", 1))
        client = app.client()
        client.attach(app.path)
        with app.asking("/looked_at"):
            client.wait_for(type="event", event="stopped")
            app.save(2)
            wait_until(lambda: seen("ReloadWaiting", 1))
            os.write(ours, b"r")
            wait_until(lambda: seen("WorkLost", 1))
            wait_until(lambda: seen("WorkerReady", 2))
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LIMIT)
        process.kill()
        process.wait()
        drinker.join(LIMIT)
        os.close(ours)
