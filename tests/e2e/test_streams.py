"""A save while answers stream: over WebSockets, over HTTP piece by piece, and over event streams that never end."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from harness import LIMIT, Event, Run, fetch, read_all, save, thinned, wait_until

Start = Callable[..., Run]

# What takes time ends when the test makes a file. A prompt is {"until": file}; its answer comes in two pieces.
ASGI = """
import asyncio
import contextlib
import os
import time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

VERSION = "@VERSION@"

async def until(name):
    print("begins", name, flush=True)
    while not os.path.exists(name):
        await asyncio.sleep(0.01)

async def home(request):
    return PlainTextResponse(VERSION)

# -- WebSockets: the ways to write a handler

async def reply(ws, message):
    await ws.send_text("thinking")
    await until(message["until"])
    await ws.send_text("answer " + VERSION)

async def query(ws):
    await ws.accept()
    while True:
        await reply(ws, await ws.receive_json())

async def poll(ws):
    await ws.accept()
    while True:
        try:
            message = await asyncio.wait_for(ws.receive_json(), 1.0)
        except asyncio.TimeoutError:
            continue
        await reply(ws, message)

async def task(ws):
    await ws.accept()
    tasks = set()
    while True:
        message = await ws.receive_json()
        tasks.add(asyncio.create_task(reply(ws, message)))

async def wait(ws):
    await ws.accept()
    queue = asyncio.Queue()
    receive = asyncio.create_task(ws.receive_json())
    news = asyncio.create_task(queue.get())
    while True:
        done, _ = await asyncio.wait({receive, news}, return_when=asyncio.FIRST_COMPLETED)
        if receive in done:
            await reply(ws, receive.result())
            receive = asyncio.create_task(ws.receive_json())

async def push(ws):
    await ws.accept()
    number = 0
    while True:
        await ws.send_text(f"tick {number}")
        number += 1
        await asyncio.sleep(0.02)

async def careful(ws):
    # As the handler of the incident: whatever goes wrong, it tries to tell its client.
    await ws.accept()
    message = await ws.receive_json()
    try:
        try:
            await reply(ws, message)
        except BaseException as exc:
            await ws.send_text(f"error {exc!r}")
            raise
    finally:
        await ws.send_text("bye")
        await ws.close()

# -- HTTP: answers in pieces

async def pieces(name):
    yield "data: one "
    yield "and the same\\n\\n"
    await until(name)
    yield "data: last " + VERSION + "\\n\\n"

async def tokens(request):
    return StreamingResponse(pieces(request.query_params["until"]), media_type=request.query_params.get("type", "text/plain"))

async def stream(request):
    async def body():
        number = 0
        while True:
            yield f"data: {number} "
            await asyncio.sleep(0.01)
            yield "whole\\n\\n"
            await asyncio.sleep(0.01)
            number += 1
    return StreamingResponse(body(), media_type="text/event-stream")

async def stream_thread(request):
    def body():
        number = 0
        while True:
            yield f"data: {number} "
            time.sleep(0.01)
            yield "whole\\n\\n"
            time.sleep(0.01)
            number += 1
    return StreamingResponse(body(), media_type="text/event-stream")

async def stream_silent(request):
    async def body():
        yield "data: 0 whole\\n\\n"
        await asyncio.Event().wait()
    return StreamingResponse(body(), media_type="text/event-stream")

async def stream_stubborn(request):
    # Like libraries that send pings of their own, it takes a cancellation for one of its client's.
    async def body():
        number = 0
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                yield f"data: {number} whole\\n\\n"
                await asyncio.sleep(0.02)
            number += 1
    return StreamingResponse(body(), media_type="text/event-stream")

sockets = [query, poll, task, wait, push, careful]
requests = [home, tokens, stream, stream_thread, stream_silent, stream_stubborn]
app = Starlette(routes=[
    *(WebSocketRoute("/ws/" + each.__name__, each) for each in sockets),
    *(Route("/" if each is home else "/" + each.__name__, each, methods=["GET", "POST"]) for each in requests),
])
"""

WSGI = """
import os
import time
from flask import Flask, Response, request

VERSION = "@VERSION@"
app = Flask(__name__)

@app.get("/")
def home():
    return VERSION

@app.route("/tokens", methods=["GET", "POST"])
def tokens():
    name = request.args["until"]
    def body():
        yield "data: one "
        yield "and the same\\n\\n"
        print("begins", name, flush=True)
        while not os.path.exists(name):
            time.sleep(0.01)
        yield "data: last " + VERSION + "\\n\\n"
    return Response(body(), mimetype=request.args.get("type", "text/plain"))

@app.get("/stream")
def stream():
    def body():
        number = 0
        while True:
            yield f"data: {number} "
            time.sleep(0.01)
            yield "whole\\n\\n"
            time.sleep(0.01)
            number += 1
    return Response(body(), mimetype="text/event-stream")

@app.get("/stream_silent")
def stream_silent():
    def body():
        yield "data: 0 whole\\n\\n"
        while True:
            time.sleep(1)
    return Response(body(), mimetype="text/event-stream")
"""

FLASK = "flask"
WS_KINDS = ["websockets", "websockets-sansio", "wsproto"]
PATTERNS = ["query", "poll", "task", "wait"]
CASCADE = ["Unexpected ASGI message", "Cannot call", "Exception in ASGI application", "Traceback", "never retrieved"]
QUICK = "[services.web]\nstop_timeout = 0.5\n"  # for what cannot be ended but by a kill
ENDLESS = '[services.web.streams]\n"/stream*" = "endless"\n'


class App:
    """The app of one test: its code by version, and devsup in front of it."""

    def __init__(self, start: Start, project: Path, port: int) -> None:
        self._start, self.project, self.port = start, project, port
        self.source = ASGI

    def save(self, version: int) -> None:
        """Write this version of its code."""
        save(self.project / "main.py", self.source.replace("@VERSION@", label(version)))

    def run(self, *options: str, server: str = "uvicorn", ws: str = "auto", http: str = "auto", config: str = "") -> Run:
        """Start it, and wait until it serves."""
        words = ["flask", "--app", "main", "run", "--port", str(self.port)]
        if server == FLASK:
            self.source = WSGI
        else:
            words = ["uvicorn", "main:app", "--port", str(self.port), "--ws", ws, "--http", http]
        if config:
            (self.project / "devsup.toml").write_text(config)
        self.save(1)
        run = self._start(*words, options=list(options))
        run.ready()
        return run

    def let(self, name: str) -> None:
        """End what waits for the file `name`."""
        (self.project / name).touch()

    @contextmanager
    def connected(self, path: str) -> Iterator[ClientConnection]:
        """A WebSocket."""
        with connect(f"ws://127.0.0.1:{self.port}/ws/{path}", proxy=None, open_timeout=LIMIT, close_timeout=LIMIT) as ws:
            yield ws

    @contextmanager
    def prompted(self, run: Run, path: str, name: str = "go") -> Iterator[ClientConnection]:
        """A WebSocket whose handler works on a message until `let(name)`."""
        with self.connected(path) as ws:
            ws.send(json.dumps({"until": name}))
            assert ws.recv(LIMIT) == "thinking"
            run.wait_for_line(f"begins {name}")
            yield ws

    def request(self, path: str, method: str = "GET", accept: str = "*/*") -> socket.socket:
        """A request on a connection of its own."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: {accept}\r\nContent-Length: 0\r\n\r\n"
        )
        sock.sendall(head.encode())
        return sock


@pytest.fixture
def app(devsup: Start, project: Path, port: int) -> App:
    """The app, not yet started."""
    return App(devsup, project, port)


def label(version: int) -> str:
    """Each of another length: a compiled file of the version before is never taken for this one's."""
    return f"v{version}" + "." * version


def names(waiting: Event) -> list[str]:
    return [each["name"] for each in waiting["active"]]


def close_code(ws: ClientConnection) -> int | None:
    """How the server closes it, whatever it says before."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            ws.recv(LIMIT)
    assert ws.protocol.close_rcvd is not None, "the connection was cut without a word"
    return ws.protocol.close_code


def cascade(run: Run) -> list[str]:
    """The lines of the program that tell of errors."""
    return [line for line in run.lines() if any(sign in line for sign in CASCADE)]


def read_until(sock: socket.socket, text: bytes) -> bytes:
    data = b""
    while text not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def unchunked(raw: bytes) -> tuple[bytes, bool]:
    """A chunked body, and whether its terminator came."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower(), head
    whole = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            return whole, True
        whole, rest = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return whole, False


# -- WebSockets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_answer_over_a_websocket_is_delivered_whole_by_the_old_code(app: App, pattern: str) -> None:
    """However the handler is written. What is waited for is said at once and again; then the tab is closed, once, with 1012."""
    run = app.run()
    with app.prompted(run, pattern) as ws:
        app.save(2)
        first = run.wait_for("ReloadWaiting")
        assert names(first) == [f"WS /ws/{pattern}"]
        second = run.wait_for("ReloadWaiting", 2)
        assert names(second) == [f"WS /ws/{pattern}"]
        assert second["active"][0]["age"] > first["active"][0]["age"] > 0
        assert fetch(app.port) == (200, label(1))
        app.let("go")
        assert ws.recv(LIMIT) == f"answer {label(1)}"
        assert close_code(ws) == 1012
    run.ready(2)
    with app.prompted(run, pattern) as ws:
        assert ws.recv(LIMIT) == f"answer {label(2)}"
    assert run.stop() == 0
    assert not run.all("WorkLost"), "a client that leaves after its answer has lost nothing"
    assert not run.all("ReloadCancelled")


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("ws_kind", WS_KINDS)
def test_every_websocket_implementation_has_busy_and_idle_connections_told_apart(app: App, ws_kind: str, http: str) -> None:
    run = app.run(ws=ws_kind, http=http)
    with app.connected("query") as idle, app.prompted(run, "query") as busy:
        app.save(2)
        assert names(run.wait_for("ReloadWaiting")) == ["WS /ws/query"]
        app.let("go")
        assert busy.recv(LIMIT) == f"answer {label(1)}"
        assert close_code(busy) == close_code(idle) == 1012
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert not run.all("WorkLost")
    assert cascade(run) == []


def test_ten_prompts_with_ten_saves_are_answered_ten_times(app: App) -> None:
    run, answers = app.run(), []
    for turn in range(1, 11):
        with app.prompted(run, "query", f"go{turn}") as ws:
            app.save(turn + 1)
            run.wait_for("ReloadWaiting", generation=turn)
            app.let(f"go{turn}")
            answers.append(ws.recv(LIMIT))
            assert close_code(ws) == 1012
        run.ready(turn + 1)
    assert answers == [f"answer {label(turn)}" for turn in range(1, 11)]
    assert not run.all("WorkLost")


@pytest.mark.parametrize("ws_kind", WS_KINDS)
@pytest.mark.parametrize("pattern", thinned(PATTERNS, every=3))
def test_idle_websockets_hold_no_reload_and_are_closed_once_with_1012(app: App, pattern: str, ws_kind: str) -> None:
    run = app.run(ws=ws_kind)
    with app.connected(pattern) as one, app.connected(pattern) as other:
        app.save(2)
        run.ready(2)
        assert [close_code(ws) for ws in (one, other)] == [1012, 1012]
    assert fetch(app.port) == (200, label(2))
    assert not run.all("ReloadWaiting")
    assert not run.all("WorkLost")
    assert cascade(run) == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_tab_that_has_had_its_answer_holds_no_reload(app: App, pattern: str) -> None:
    run = app.run("--drain-timeout", "50")
    app.let("answered")
    with app.prompted(run, pattern, "answered") as ws:
        assert ws.recv(LIMIT) == f"answer {label(1)}"
        app.save(2)
        run.ready(2)
        assert close_code(ws) == 1012
    assert fetch(app.port) == (200, label(2))
    assert not run.all("WorkLost")
    assert cascade(run) == []


def test_ten_reloads_with_idle_websockets_that_reconnect(app: App) -> None:
    """A page that reconnects at once is closed once per reload, and never holds one."""
    run = app.run()
    for turn in range(1, 11):
        with app.connected("poll") as ws:
            app.save(turn + 1)
            run.ready(turn + 1)
            assert close_code(ws) == 1012
    assert fetch(app.port) == (200, label(11))
    assert not run.all("ReloadWaiting", held=False)


def test_a_websocket_that_only_pushes_holds_no_reload(app: App) -> None:
    run = app.run("--drain-timeout", "50")
    with app.connected("push") as ws:
        assert ws.recv(LIMIT) == "tick 0"
        app.save(2)
        run.ready(2)
        assert close_code(ws) == 1012
    assert fetch(app.port) == (200, label(2))
    assert not run.all("WorkLost")
    assert cascade(run) == []


def test_a_client_that_leaves_during_its_answer_is_reported_once(app: App) -> None:
    """Which prompt, how old, and what it would have sent: one event, no cascade of errors."""
    run = app.run()
    with app.prompted(run, "careful") as ws:
        pass
    assert ws.protocol.close_code == 1000
    app.let("go")
    lost = run.wait_for("WorkLost")
    assert (lost["generation"], lost["name"]) == (1, "WS /ws/careful")
    assert lost["age"] > 0
    assert f"answer {label(1)}" in lost["detail"]
    app.save(2)
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert len(run.all("WorkLost")) == 1
    assert len(cascade(run)) <= 2, "at most the one error, with its traceback, that the app itself makes"


def test_a_client_that_leaves_while_a_reload_waits_for_its_answer_is_reported_once(app: App) -> None:
    run = app.run()
    with app.prompted(run, "careful") as ws:
        app.save(2)
        run.wait_for("ReloadWaiting")
        ws.close()
        app.let("go")
    run.ready(2)
    assert [each["name"] for each in run.all("WorkLost")] == ["WS /ws/careful"]
    assert f"answer {label(1)}" in run.all("WorkLost")[0]["detail"]
    assert len(cascade(run)) <= 2


@pytest.mark.parametrize(("pattern", "ws_kind"), thinned(product(["query", "careful", "task"], WS_KINDS)))
def test_an_answer_that_outlives_the_drain_is_reported_once_and_its_socket_closed_once(
    app: App, pattern: str, ws_kind: str
) -> None:
    run = app.run("--drain-timeout", "1", ws=ws_kind)
    with app.prompted(run, pattern, "never") as ws:
        app.save(2)
        assert close_code(ws) == 1012
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    lost = run.all("WorkLost")
    assert [(each["generation"], each["name"]) for each in lost] == [(1, f"WS /ws/{pattern}")]
    assert lost[0]["age"] >= 1
    assert cascade(run) == []


# -- HTTP, piece by piece ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["uvicorn", FLASK])
@pytest.mark.parametrize(
    ("method", "kind"),
    [("POST", "text/event-stream"), ("POST", "application/x-ndjson"), ("GET", "text/plain"), ("GET", "text/event-stream")],
)
def test_a_streamed_answer_is_delivered_whole_by_the_old_code(app: App, server: str, method: str, kind: str) -> None:
    """Tokens by POST, pieces by GET, and an event stream that nobody has said to be endless."""
    run = app.run(server=server)
    with app.request(f"/tokens?until=go&type={kind}", method, kind) as sock:  # as EventSource asks for an event stream
        start = read_until(sock, b"the same")
        app.save(2)
        waiting = run.wait_for("ReloadWaiting")
        assert names(waiting) == [f"{method} /tokens"]
        undecided = method == "GET" and kind == "text/event-stream"
        assert waiting["active"][0]["stream"] == ("/tokens" if undecided else ""), "the setting to make is told"
        assert names(run.wait_for("ReloadWaiting", 2)) == [f"{method} /tokens"]
        app.let("go")
        body, ended = unchunked(read_all(sock, start))
    assert body.decode() == f"data: one and the same\n\ndata: last {label(1)}\n\n"
    assert ended
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert not run.all("WorkLost")


def test_a_stream_that_is_set_to_be_work_is_waited_for(app: App) -> None:
    run = app.run(config='[services.web]\nstream_grace = 0.2\n[services.web.streams]\n"/tokens" = "work"\n')
    with app.request("/tokens?until=go&type=text/event-stream") as sock:
        start = read_until(sock, b"the same")
        app.save(2)
        run.wait_for("ReloadWaiting", 2)
        app.let("go")
        assert unchunked(read_all(sock, start)) == (f"data: one and the same\n\ndata: last {label(1)}\n\n".encode(), True)
    run.ready(2)


STREAMS: list[Any] = [
    ("uvicorn", "h11", "/stream"),
    ("uvicorn", "httptools", "/stream"),
    ("uvicorn", "h11", "/stream_thread"),
    ("uvicorn", "h11", "/stream_silent"),
    ("uvicorn", "h11", "/stream_stubborn"),
    (FLASK, "auto", "/stream"),
]


@pytest.mark.parametrize(("server", "http", "path"), STREAMS)
def test_an_endless_event_stream_ends_between_two_events_and_new_code_comes(app: App, server: str, http: str, path: str) -> None:
    """EventSource sees an answer that is whole, and reconnects by itself: to the new code."""
    run = app.run("--drain-timeout", "50", server=server, http=http, config=QUICK + ENDLESS)
    for generation in (1, 2):
        with app.request(path) as sock:
            start = read_until(sock, b"whole\n\n")
            app.save(generation + 1)
            body, ended = unchunked(read_all(sock, start))
        events = body.decode().split("\n\n")
        assert events[-1] == "", "the last event is whole"
        assert events[:-1] == [f"data: {number} whole" for number in range(len(events) - 1)]
        assert ended, "the end of the answer was told"
        run.ready(generation + 1)
        assert fetch(app.port) == (200, label(generation + 1))
    assert not run.all("WorkLost")
    assert not run.all("ReloadWaiting", held=False), "nobody waits for a stream that never ends"
    assert cascade(run) == []


def test_a_silent_endless_stream_of_flask_holds_a_reload_only_for_its_grace(app: App) -> None:
    """Its thread sleeps and cannot be ended: the connection is cut."""
    run = app.run("--drain-timeout", "50", server=FLASK, config="[services.web]\nstream_grace = 0.5\n" + ENDLESS)
    with app.request("/stream_silent") as sock:
        assert b"data: 0 whole\n\n" in read_until(sock, b"whole\n\n")
        app.save(2)
        run.ready(2)
        assert b"data" not in read_all(sock)
    assert fetch(app.port) == (200, label(2))


def test_an_endless_stream_goes_on_while_a_reload_waits_for_work(app: App) -> None:
    run = app.run(config=ENDLESS)
    with app.request("/stream") as stream, app.request("/tokens?until=go") as work:
        begun = read_until(work, b"the same")
        read_until(stream, b"whole\n\n")
        app.save(2)
        assert names(run.wait_for("ReloadWaiting")) == ["GET /tokens"]
        stale = read_until(stream, b"whole\n\n")
        assert wait_until(lambda: read_until(stream, b"whole\n\n") != stale)
        app.let("go")
        assert unchunked(read_all(work, begun))[0].decode().endswith(f"last {label(1)}\n\n")
        assert read_all(stream).endswith(b"0\r\n\r\n")
    run.ready(2)


def test_ten_charts_that_reconnect_at_once_do_not_starve_ten_reloads(app: App) -> None:
    run = app.run("--drain-timeout", "50", config=ENDLESS)
    for turn in range(1, 11):
        charts = [app.request("/stream") for _ in range(10)]
        try:
            begun = [read_until(chart, b"whole\n\n") for chart in charts]
            app.save(turn + 1)
            ended = [unchunked(read_all(chart, start))[1] for start, chart in zip(begun, charts, strict=True)]
        finally:
            for chart in charts:
                chart.close()
        assert all(ended)
        run.ready(turn + 1)
    assert fetch(app.port) == (200, label(11))
