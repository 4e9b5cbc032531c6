"""`--reload handover`: the new worker starts beside the old one, which finishes what it has begun and passes on the rest."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from websockets.sync.client import connect

from harness import LIMIT, Run, fetch, read_all, save, thinned, wait_until

Start = Callable[..., Run]

APP = """
import asyncio
import os
import time
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

VERSION = "v1"
START
app = FastAPI(LIFESPAN)

async def until(name):
    print("begins", name, flush=True)
    while not os.path.exists(name):
        await asyncio.sleep(0.01)

@app.get("/")
async def home() -> PlainTextResponse:
    return PlainTextResponse(f"{VERSION} {os.getpid()}")

@app.get("/held")
async def held() -> PlainTextResponse:
    await until("request")
    return PlainTextResponse(f"held {VERSION}")

@app.get("/tokens")
async def tokens() -> StreamingResponse:
    async def stream():
        yield f"data: one {VERSION}\\n\\n"
        await until("tokens")
        yield f"data: last {VERSION}\\n\\n"
    return StreamingResponse(stream(), media_type="text/event-stream")

@app.get("/blocked")
async def blocked() -> PlainTextResponse:
    print("begins blocked", flush=True)
    while not os.path.exists("blocked"):
        time.sleep(0.01)
    return PlainTextResponse(f"blocked {VERSION}")

@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await until(text)
        await websocket.send_text(f"{text} {VERSION}")
"""
LOOPS = [("asyncio", "h11"), ("asyncio", "httptools"), ("uvloop", "h11"), ("uvloop", "httptools")]
OFTEN = [LOOPS[0], *(pytest.param(*each, marks=pytest.mark.soak) for each in LOOPS[1:])]


class App:
    """The app of one test, and devsup in front of it."""

    def __init__(self, start: Start, project: Path, port: int) -> None:
        self._start, self.project, self.port = start, project, port
        self.save(1)

    def save(self, version: int, start: str = "", lifespan: str = "") -> None:
        """Write this version, which does `start` when it is imported."""
        text = APP.replace("v1", f"v{version}").replace("START", start).replace("LIFESPAN", lifespan)
        save(self.project / "main.py", text)

    def run(self, *options: str, mode: str = "handover", loop: str = "asyncio", http: str = "h11") -> Run:
        """Start it, and wait until its next worker can be forked."""
        words = ["uvicorn", "main:app", "--port", str(self.port), "--loop", loop, "--http", http]
        run = self._start(*words, "--timeout-keep-alive", "60", options=["--reload", mode, *options])
        run.ready()
        if "--no-fork" not in options:
            run.wait_for("ForkServerReady")
        return run

    def version(self) -> str:
        """Which code answers."""
        return fetch(self.port)[1].split()[0]

    def let(self, name: str) -> None:
        """End what waits for the file `name`."""
        (self.project / name).touch()

    @contextmanager
    def request(self, path: str) -> Iterator[socket.socket]:
        """A connection on which this path was asked for, to be kept."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT) as sock:
            ask(sock, path)
            yield sock


def ask(sock: socket.socket, path: str = "/") -> None:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def answer(sock: socket.socket) -> str:
    """The body of one answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        assert piece, "the connection was closed"
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    while len(body) < length:
        body += sock.recv(65536)
    return body.decode()


@pytest.fixture
def app(devsup: Start, project: Path, port: int) -> App:
    """The app, saved and not yet started."""
    return App(devsup, project, port)


def is_running(pid: int) -> bool:
    """Whether a process is there; a zombie is."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(("loop", "http"), LOOPS)
def test_what_runs_is_finished_by_the_old_code_while_the_new_answers(app: App, loop: str, http: str) -> None:
    run = app.run(loop=loop, http=http)
    old = run.all("WorkerReady")[0]["pid"]
    with (
        app.request("/held") as held,
        app.request("/tokens") as tokens,
        connect(f"ws://127.0.0.1:{app.port}/ws") as busy,
        connect(f"ws://127.0.0.1:{app.port}/ws") as idle,
    ):
        busy.send("socket")
        for name in ("request", "tokens", "socket"):
            run.wait_for_line(f"begins {name}")
        app.save(2)
        run.ready(2)
        assert app.version() == "v2"
        assert wait_until(lambda: idle.protocol.close_code, 5) == 1012, "an idle WebSocket's page comes to the new code"
        assert is_running(old)
        assert not run.all("WorkerExited")
        for name in ("request", "tokens", "socket"):
            app.let(name)
        assert busy.recv(LIMIT) == "socket v1"
        assert answer(held) == "held v1"
        stream = read_all(tokens)
        assert b"data: one v1" in stream
        assert b"data: last v1" in stream
    wait_until(lambda: not is_running(old), 10, run.story)
    assert run.all("WorkLost") == []
    assert run.wait_for("WorkerExited", generation=1)["exit"]["code"] == 0
    assert app.version() == "v2"
    assert run.stop() == 0


def test_a_connection_that_was_busy_is_the_new_worker_s_once_it_was_answered(app: App) -> None:
    run = app.run()
    with app.request("/held") as sock:
        run.wait_for_line("begins request")
        app.save(2)
        run.ready(2)
        app.let("request")
        assert answer(sock) == "held v1"
        ask(sock)
        assert answer(sock).startswith("v2 ")


BROKEN = {
    "import": ("import nothing_such", "", {"code": 1}),
    "lifespan": ("async def fails(app):\n    raise RuntimeError('no database')\n    yield", "lifespan=fails", {"code": 3}),
    "killed": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "", {"signal": 9}),
}


@pytest.mark.parametrize("fork", [True, False], ids=["fork", "cold"])
@pytest.mark.parametrize("name", BROKEN)
def test_the_old_code_serves_on_when_the_new_does_not_start(app: App, name: str, fork: bool) -> None:
    start, lifespan, ended = BROKEN[name]
    run = app.run(*([] if fork else ["--no-fork"]))
    app.save(2, start, lifespan)
    failed = run.wait_for("WorkerFailed")
    assert failed["serving"]
    assert failed["exit"] == {"code": None, "signal": None, **ended}
    assert app.version() == "v1"
    assert run.all("PlaceholderShown") == []
    app.save(3)
    run.wait_for("Reloaded")
    assert app.version() == "v3"
    assert not run.all("ForkServerOff", shown=True), "it fails however it is started"


def test_new_code_that_is_never_ready_is_ended_and_the_old_serves_on(app: App) -> None:
    run = app.run("--drain-timeout", "2")
    app.save(2, "async def never(app):\n    await asyncio.sleep(1000)\n    yield", "lifespan=never")
    run.wait_for("NeverReady")
    run.wait_for("WorkerFailed", serving=True)
    assert app.version() == "v1"
    app.save(3)
    run.wait_for("Reloaded")
    assert app.version() == "v3"


def test_a_save_that_is_undone_while_the_new_worker_starts_ends_in_that_code(app: App) -> None:
    run = app.run()
    app.save(2, "time.sleep(0.5)")
    run.wait_for("WorkerSpawned", 2)
    app.save(1)
    wait_until(lambda: len(run.all("WorkerSpawned")) == 3, LIMIT, run.story)
    run.ready(3)
    assert app.version() == "v1"
    assert not run.all("WorkerReady", generation=2)


def test_one_worker_retires_at_a_time_and_r_s_wish_is_told(app: App) -> None:
    run = app.run()
    with app.request("/held") as held:
        run.wait_for_line("begins request")
        app.save(2)
        run.ready(2)
        app.save(3)
        waiting = run.wait_for("ReloadWaiting")
        assert [each["name"] for each in waiting["active"]] == ["GET /held"]
        assert app.version() == "v2"
        app.let("request")
        assert answer(held) == "held v1"
        run.ready(3)
    assert app.version() == "v3"
    assert len(run.all("WorkerSpawned")) == 3


def test_a_retiring_worker_that_takes_too_long_is_cut_and_says_what_was_lost(app: App) -> None:
    run = app.run("--drain-timeout", "1")
    old = run.all("WorkerReady")[0]["pid"]
    with app.request("/held"):
        run.wait_for_line("begins request")
        app.save(2)
        run.ready(2)
        assert run.wait_for("WorkLost")["name"] == "GET /held"
        wait_until(lambda: not is_running(old), 10, run.story)
    assert app.version() == "v2"


def test_a_worker_whose_loop_hangs_does_not_hold_the_new_one_up(app: App) -> None:
    run = app.run()
    with app.request("/blocked") as sock:
        run.wait_for_line("begins blocked")
        app.save(2)
        run.ready(2, limit=5)
        app.let("blocked")
        assert answer(sock) == "blocked v1"


def test_ctrl_c_ends_both_workers(app: App) -> None:
    run = app.run()
    with app.request("/held") as held:
        run.wait_for_line("begins request")
        app.save(2)
        run.ready(2)
        pids = [event["pid"] for event in run.all("WorkerReady")]
        run.process.send_signal(signal.SIGINT)
        run.wait_for("Stopping")
        app.let("request")
        assert answer(held) == "held v1", "what runs may end"
    assert run.wait() == 0
    assert not any(map(is_running, pids))


def test_the_old_worker_s_death_while_the_new_one_starts_loses_nobody(app: App) -> None:
    run = app.run()
    app.save(2, "time.sleep(0.5)")
    run.wait_for("WorkerSpawned", 2)
    os.kill(run.all("WorkerReady")[0]["pid"], signal.SIGKILL)
    assert app.version() == "v2"
    assert len(run.all("WorkerSpawned")) == 2


def test_lines_say_which_worker_printed_them(app: App) -> None:
    run = app.run()
    app.save(2, "print('loaded again')")
    run.ready(2)
    assert run.wait_for_line("loaded again")["worker"] == "app.2"


def test_a_server_without_an_agent_refuses(devsup: Start, project: Path, port: int) -> None:
    run = devsup("python", "-I", "-m", "http.server", str(port), options=["--reload", "handover"])
    assert run.wait() == 2
    refused = run.all("Refused")[0]
    assert "handover" in refused["problem"]
    assert "--reload drain" in refused["remedy"]


# -- connections ------------------------------------------------------------------------------------------------------


@contextmanager
def many(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, each of which was answered once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    socks: list[socket.socket] = []
    try:
        for _ in range(count):
            socks.append(socket.create_connection(("127.0.0.1", port), timeout=LIMIT))
            ask(socks[-1])
            answer(socks[-1])
        yield socks
    finally:
        for sock in socks:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("mode", ["drain", "handover"])
@pytest.mark.parametrize(("loop", "http"), OFTEN)
def test_a_thousand_idle_connections_survive_and_answer_from_new_code(app: App, mode: str, loop: str, http: str) -> None:
    # A server of its own can hold no more than its limit, which devsup leaves as it was given.
    run = app.run(mode=mode, loop=loop, http=http)
    count = min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
    with many(app.port, count) as socks:
        app.save(2)
        run.ready(2)
        for sock in socks:
            ask(sock)
        assert {answer(sock).split()[0] for sock in socks} == {"v2"}
        app.save(3)
        run.ready(3)
        for sock in socks:
            ask(sock)
        assert {answer(sock).split()[0] for sock in socks} == {"v3"}
    assert run.all("Trouble") == []


@pytest.mark.parametrize("mode", ["drain", "handover"])
@pytest.mark.parametrize(("loop", "http"), thinned(LOOPS))
def test_a_connection_that_has_not_asked_yet_or_only_half_is_not_dropped(app: App, mode: str, loop: str, http: str) -> None:
    """The race that uvicorn loses: accepted, and nothing read of it."""
    run = app.run(mode=mode, loop=loop, http=http)
    with (
        socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as silent,
        socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as half,
    ):
        half.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        if mode == "handover":
            app.save(2)
            run.ready(2)
            half.sendall(b"alhost\r\n\r\n")
            assert answer(half).startswith("v1 ")
        else:
            app.save(2)
            run.wait_for("ReloadWaiting")
            half.sendall(b"alhost\r\n\r\n")
            assert answer(half).startswith("v1 ")
            run.ready(2)
        ask(silent)
        assert answer(silent).startswith("v2 ")
        ask(half)
        assert answer(half).startswith("v2 ")


def test_a_client_that_asks_while_no_worker_runs_is_answered_by_the_next(app: App) -> None:
    run = app.run(mode="drain")
    with socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as sock:
        ask(sock)
        answer(sock)
        app.save(2, "time.sleep(1)")
        run.wait_for("WorkerSpawned", 2)
        ask(sock)
        assert answer(sock).startswith("v2 ")


def test_an_idle_connection_gets_the_reason_when_the_next_worker_fails_and_only_then(app: App) -> None:
    run = app.run(mode="drain")
    with (
        socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as asking,
        socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as quiet,
    ):
        for sock in (asking, quiet):
            ask(sock)
            answer(sock)
        app.save(2, "raise RuntimeError('this is why')")
        run.wait_for("PlaceholderShown")
        ask(asking)
        assert "this is why" in answer(asking)
        app.save(3)
        run.wait_for("Reloaded")
        ask(quiet)
        assert answer(quiet).startswith("v3 ")


@pytest.mark.parametrize(("loop", "http"), LOOPS)
def test_the_rest_of_a_body_that_nobody_waited_for_is_never_taken_for_a_request(app: App, loop: str, http: str) -> None:
    """An app that answers before it has read the body; what follows looks like a request."""
    run = app.run(mode="drain", loop=loop, http=http)
    rest = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as sock:
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10 + len(rest)}\r\n\r\n"
        sock.sendall(head.encode() + b"x" * 10)
        assert "Not Allowed" in answer(sock)
        app.save(2)
        run.ready(2)
        with contextlib.suppress(OSError):  # it was closed
            sock.sendall(rest)
            assert sock.recv(65536) == b""
    assert not any("smuggled" in line for line in run.lines())


@pytest.mark.parametrize(("loop", "http"), thinned(LOOPS, 1))
def test_a_connection_that_asks_before_it_is_taken_over_is_not_timed_out(
    devsup: Start, project: Path, port: int, loop: str, http: str
) -> None:
    source = APP.replace("LIFESPAN", "")
    save(project / "main.py", source.replace("START", ""))
    words = ["uvicorn", "main:app", "--port", str(port), "--loop", loop, "--http", http, "--timeout-keep-alive", "1"]
    run = devsup(*words)
    run.ready()
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        ask(sock)
        answer(sock)
        save(project / "main.py", source.replace("START", "time.sleep(0.5)").replace("v1", "v2"))
        run.wait_for("WorkerSpawned", 2)
        ask(sock, "/held")
        run.wait_for_line("begins request")
        time.sleep(1.5)
        (project / "request").touch()
        assert answer(sock) == "held v2"


def test_idle_connections_still_time_out_in_the_next_worker(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", APP.replace("START", "").replace("LIFESPAN", ""))
    run = devsup("uvicorn", "main:app", "--port", str(port), "--timeout-keep-alive", "1")
    run.ready()
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        ask(sock)
        answer(sock)
        save(project / "main.py", APP.replace("START", "").replace("LIFESPAN", "").replace("v1", "v2"))
        run.ready(2)
        began = time.monotonic()
        assert sock.recv(1) == b""
        assert time.monotonic() - began < 10


def test_the_limit_of_open_files_is_the_program_s_own(devsup: Start, project: Path, port: int) -> None:
    text = APP.replace("START", "import resource").replace("LIFESPAN", "")
    text = text.replace('f"{VERSION} {os.getpid()}"', 'f"{VERSION} {resource.getrlimit(resource.RLIMIT_NOFILE)}"')
    save(project / "main.py", text)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    expected = str(resource.getrlimit(resource.RLIMIT_NOFILE))
    assert fetch(port)[1] == f"v1 {expected}"
    run.wait_for("ForkServerReady")
    for version in (2, 3):
        save(project / "main.py", text.replace("v1", f"v{version}"))
        run.ready(version)
        assert fetch(port)[1] == f"v{version} {expected}"


def only_one_runs(run: Run) -> bool:
    return sum(is_running(event["pid"]) for event in run.all("WorkerSpawned")) == 1


def descriptors(run: Run) -> int:
    """How many devsup has open."""
    return len(list(Path(f"/proc/{run.process.pid}/fd").iterdir()))


@pytest.mark.parametrize("mode", thinned(["drain", "handover"]))
def test_fifty_saves_in_five_seconds_end_in_the_last_content_and_leave_nothing(app: App, mode: str) -> None:
    run = app.run(mode=mode)
    app.save(2)
    wait_until(lambda: app.version() == "v2", LIMIT, run.story)
    wait_until(partial(only_one_runs, run), 10, run.story)
    before = descriptors(run)
    for version in range(3, 53):
        app.save(version)
        time.sleep(0.1)
    wait_until(lambda: app.version() == "v52", LIMIT, run.story)
    wait_until(partial(only_one_runs, run), 10, run.story)
    wait_until(lambda: descriptors(run) <= before, 10, lambda: f"{before} descriptors before, {descriptors(run)} now")
    assert not run.all("ReloadSuspended")
    assert run.stop() == 0
