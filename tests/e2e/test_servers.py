"""Servers other than uvicorn: a save waits for what they work on, nobody is refused, and they end as ever."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Self

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from harness import LIMIT, Run, fetch, save, wait_until
from serverapps import BIG, BY_NAME, SERVERS, Server

Start = Callable[..., Run]


def label(version: int) -> str:
    """Each of another length: a compiled file of the version before is never taken for this one's."""
    return f"v{version}" + "." * version


class App:
    """The app of one test: its code by version, and devsup in front of its server."""

    def __init__(self, start: Start, project: Path, port: int, server: Server) -> None:
        self._start, self.project, self.port, self.server = start, project, port, server

    def save(self, version: int, code: str = "") -> None:
        """Write this version of its code."""
        save(self.project / "main.py", (code or self.server.code).replace("@VERSION@", label(version)))

    def run(self, *options: str, extra: tuple[str, ...] = (), code: str = "") -> Run:
        """Start it, and wait until it serves, with all its processes."""
        self.save(1, code)
        words = [*self.server.words(self.port), *extra]
        run = self._start(*words, options=list(options), env={"APP_PORT": str(self.port)})
        run.ready()
        if not (code or extra):
            wait_until(lambda: run.lines().count("imported " + label(1)) >= self.server.processes, LIMIT, run.story)
        return run

    def let(self, name: str = "go") -> None:
        """End what waits for the file `name`."""
        (self.project / name).touch()

    def hold(self, run: Run, name: str = "go") -> socket.socket:
        """A request that the app works on until `let(name)`."""
        sock = ask(self.port, f"/held?until={name}")
        run.wait_for_line(f"begins {name}")
        return sock

    def reload(self, run: Run, version: int) -> None:
        """Save the next version, and wait until it serves."""
        self.save(version)
        run.ready(version)

    def config(self, text: str) -> None:
        """The project's devsup.toml."""
        (self.project / "devsup.toml").write_text(text)


@pytest.fixture
def app(devsup: Start, project: Path, port: int, server: Server) -> App:
    """The app on the test's server."""
    return App(devsup, project, port, server)


def on(*names: str, others: bool = True) -> pytest.MarkDecorator:
    """Run the test on these servers, and on `others` only in the soak."""
    chosen = [*(BY_NAME[name] for name in names), *(each for each in SERVERS if others and each.name not in names)]
    marks = {each.name: () if each.name in names else (pytest.mark.soak,) for each in chosen}
    params = [pytest.param(each, id=each.name, marks=marks[each.name]) for each in chosen]
    return pytest.mark.parametrize("server", params)


def only(chosen: list[Server], *quick: str) -> pytest.MarkDecorator:
    """Run the test on the `quick` ones of these, and on all of them in the soak."""
    return pytest.mark.parametrize(
        "server",
        [pytest.param(each, id=each.name, marks=() if each.name in quick else (pytest.mark.soak,)) for each in chosen],
    )


ALL = [each.name for each in SERVERS]
OFTEN = "hypercorn hypercorn-uvloop gunicorn gunicorn-gthread gunicorn-w2 daphne waitress aiohttp tornado django threads".split()
KNOWN = [each for each in SERVERS if each.knows]
NO_ATEXIT = {"gunicorn-uvicorn"}  # its worker dies of its own SIGTERM, also without devsup
BUFFERS = {
    "daphne",
    "waitress",
    "tornado",
}  # the app is called once a body is there: until then `100 Continue` looks like an answer
NO_CLOSE = {"http.server"}  # its handlers write by themselves: there is nothing to close
# uvloop accepts in C: only uvicorn's gate closes there. sanic and gunicorn's own ASGI worker run on it where it is installed.
NO_GATE = {"hypercorn-uvloop", "sanic", "gunicorn-asgi"}
CHATTY = [each for each in SERVERS if each.websockets]


def ask(port: int, path: str, head: str = "", body: bytes = b"", *, keep: bool = False) -> socket.socket:
    """Send a request on a connection of its own."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    sock.settimeout(LIMIT)
    method, length = ("POST", f"Content-Length: {len(body)}\r\n") if body else ("GET", "")
    close = "" if keep else "Connection: close\r\n"
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{close}{length}{head}\r\n".encode() + body)
    return sock


def read_answer(sock: socket.socket, data: bytes = b"") -> tuple[int, bytes, bytes]:
    """(status, body, what came behind it) of one answer with a Content-Length, or up to the connection's end; 0 for none."""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return 0, data, b""
        data += piece
    head, _, data = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head.lower())
    wanted = int(length.group(1)) if length else 2**40
    whole = bytearray(data)
    while len(whole) < wanted:
        piece = sock.recv(65536)
        if not piece:
            break
        whole += piece
    return int(head.split()[1]), bytes(whole[:wanted]), bytes(whole[wanted:])


def answer(sock: socket.socket) -> tuple[int, str]:
    """(status, body) of the one answer on a connection."""
    with sock:
        status, body, _ = read_answer(sock)
    return status, body.decode()


def waiting(run: Run) -> list[str]:
    """What the reload waits for, once it has said so."""
    event = wait_until(lambda: [each for each in run.all("ReloadWaiting") if each["active"]], LIMIT, run.story)[0]
    return [each["name"] for each in event["active"]]


def has_no_complaint(run: Run) -> None:
    """Nothing lost, nothing went wrong, no worker died by itself."""
    assert not run.all("WorkLost"), run.story()
    assert not run.all("Trouble"), run.story()
    assert all(each["expected"] for each in run.all("WorkerExited")), run.story()


def inodes(port: int) -> set[str]:
    """The sockets that listen on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}


# -- every server: the story of a save ------------------------------------------------------------------------------------


@on(*OFTEN[::2])
def test_a_request_in_flight_is_answered_by_the_code_it_met(app: App, server: Server) -> None:
    run = app.run()
    before = inodes(app.port)
    with closing(app.hold(run)) as sock:
        host, port = sock.getsockname()
        app.save(2)
        assert waiting(run) == ["GET /held" if server.knows else f"a request from {host}:{port}"], run.story()
        app.let()
        assert answer(sock) == (200, "held " + label(1)), run.story()
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert inodes(app.port) == before
    assert len(before) == 1
    assert len(run.all("ListenerKept")) == 1
    wait_until(lambda: run.lines().count("imported " + label(2)) >= server.processes, LIMIT, run.story)
    assert run.lines().count("imported " + label(2)) == server.processes, run.story()
    if server.name not in NO_ATEXIT:
        assert "atexit " + label(1) in run.lines(), run.story()
    if 'print("finally"' in server.code:
        assert "finally " + label(1) in run.lines(), run.story()
    has_no_complaint(run)
    assert run.stop() == 0, run.story()
    assert run.all("Stopped")[0]["left"] == [], run.story()


# -- what is under way on its connection ----------------------------------------------------------------------------------


@on("hypercorn", "gunicorn-gthread", "daphne", "waitress", "aiohttp", "threads")
def test_a_half_sent_head_and_a_half_sent_body_survive_a_save(app: App, server: Server) -> None:
    run = app.run()
    body = b"b" * 300_000
    with closing(socket.create_connection(("127.0.0.1", app.port), LIMIT)) as sock:
        head = f"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        sock.sendall(head[:30])
        settle(sock)
        app.save(2)
        waiting(run)
        sock.sendall(head[30:] + body[:1000])
        settle(sock)
        # That a part of the body is read must not look like an answer.
        sock.sendall(body[1000:])
        assert answer(sock) == (200, label(1) + " " + body.decode()), run.story()
    run.ready(2)
    with closing(socket.create_connection(("127.0.0.1", app.port), LIMIT)) as sock:
        sock.sendall(head + body[:1000])
        settle(sock)
        app.save(3)
        wait_until(lambda: len(run.all("ReloadWaiting")) > 1 and waiting(run), LIMIT, run.story)
        sock.sendall(body[1000:])
        assert answer(sock) == (200, label(2) + " " + body.decode()), run.story()
    run.ready(3)
    has_no_complaint(run)


@on("hypercorn", "gunicorn", "daphne", "waitress", "aiohttp", "threads")
def test_a_slow_client_gets_the_whole_of_a_large_answer(app: App, server: Server) -> None:
    run = app.run()
    with closing(ask(app.port, "/big")) as sock:
        assert sock.recv(1) == b"H"
        app.save(2)
        run.wait_for("ReloadStarted")
        time.sleep(0.3)  # as slow as a client can be: what is not read now must not be lost
        status, body, _ = read_answer(sock, b"H")
    assert (status, len(body)) == (200, BIG), run.story()
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    has_no_complaint(run)


PIPELINES = "hypercorn gunicorn-gthread gunicorn-asgi daphne waitress aiohttp tornado http.server asyncio threads".split()


@only([BY_NAME[name] for name in PIPELINES], *PIPELINES[::2])
def test_a_request_that_was_sent_behind_another_is_answered(app: App, server: Server) -> None:
    run = app.run()
    with closing(ask(app.port, "/held?until=go", keep=True)) as sock:
        run.wait_for_line("begins go")
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        app.save(2)
        waiting(run)
        app.let()
        status, body, rest = read_answer(sock)
        assert (status, body) == (200, b"held " + label(1).encode()), run.story()
        status, body, _ = read_answer(sock, rest)
        assert (status, body) == (200, label(1).encode()), run.story()
    run.ready(2)
    has_no_complaint(run)


@on("hypercorn", "gunicorn", "daphne", "waitress", "aiohttp", "tornado", "http.server", others=False)
def test_a_client_that_expects_100_continue_sends_its_body(app: App, server: Server) -> None:
    run = app.run()
    with closing(socket.create_connection(("127.0.0.1", app.port), LIMIT)) as sock:
        head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        sock.sendall(head.encode())
        told = sock.recv(1000)
        assert told.startswith(b"HTTP/1.1 100"), told
        app.save(2)
        if server.name not in BUFFERS:
            waiting(run)
        sock.sendall(b"body")
        status, body, _ = read_answer(sock, told.partition(b"\r\n\r\n")[2])
    assert (status, body.decode()) == (200, label(1) + " body"), run.story()
    run.ready(2)
    has_no_complaint(run)


def settle(sock: socket.socket) -> None:
    """Until the server has accepted the connection, and its kernel has all that was sent."""
    wait_until(lambda: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24:28] == b"\0" * 4)
    port = sock.getsockname()[1]
    wait_until(lambda: is_accepted(port))


def is_accepted(port: int) -> bool:
    """Whether the connection from this port belongs to a process, and not to a listener's queue."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[9] != "0" for row in rows if int(row[2].rpartition(":")[2], 16) == port)


# -- work that does not end -----------------------------------------------------------------------------------------------


@on("gunicorn-gthread", "daphne", "aiohttp")
def test_a_hung_request_is_cut_at_the_limit_and_named(app: App, server: Server) -> None:
    app.config("[services.app]\ndrain_timeout = 1.0\nstop_timeout = 1.0\n")
    run = app.run()
    with closing(app.hold(run)) as sock:
        host, port = sock.getsockname()
        app.save(2)
        run.ready(2)
        lost = [each["name"] for each in run.all("WorkLost")]
        assert lost == ["GET /held" if server.knows else f"a request from {host}:{port}"], run.story()
        assert fetch(app.port) == (200, label(2))
    assert run.stop() == 0, run.story()


@only(KNOWN, "hypercorn-trio", "gunicorn-gthread", "daphne", "tornado", "django")
def test_an_endless_stream_ends_at_an_event_s_end(app: App, server: Server) -> None:
    app.config('[services.app]\nstreams = { "/stream" = "endless" }\nstream_grace = 1.0\n')
    run = app.run()
    with closing(ask(app.port, "/stream")) as sock:
        data = sock.recv(65536)
        app.save(2)
        while piece := sock.recv(65536):
            data += piece
    assert b"data: " + label(1).encode() in data
    assert data.endswith((b"\n\n", b"\n\n\r\n0\r\n\r\n")), data[-100:]
    run.ready(2)
    wait_until(lambda: "stream closed " + label(1) in run.lines() or server.name in NO_CLOSE, 5, run.story)
    reloaded = run.wait_for("Reloaded")
    assert reloaded["waited"] < 2.5, run.story()
    has_no_complaint(run)
    with closing(ask(app.port, "/stream")) as sock:
        assert sock.recv(65536)
        begun = time.monotonic()
        assert run.stop() == 0, run.story()
        assert time.monotonic() - begun < 4, run.story()
    assert run.all("Stopped")[0]["left"] == [], run.story()


# -- WebSockets -----------------------------------------------------------------------------------------------------------

TALKERS = ("hypercorn", "gunicorn-asgi", "daphne", "aiohttp", "tornado")


def dial(port: int) -> ClientConnection:
    """A WebSocket to the app."""
    return connect(f"ws://127.0.0.1:{port}/ws", proxy=None, open_timeout=LIMIT, close_timeout=1, ping_interval=None)


def closed_with(ws: ClientConnection) -> int | None:
    """The code that the server closes it with."""
    try:
        while True:
            ws.recv(LIMIT)
    except ConnectionClosed as exc:
        return exc.rcvd.code if exc.rcvd else None


@only(CHATTY, *TALKERS)
def test_a_busy_websocket_is_answered_and_idle_ones_hold_nothing(app: App, server: Server) -> None:
    app.config("[services.app]\nstream_grace = 1.0\n")
    run = app.run()
    with dial(app.port) as idle, dial(app.port) as busy, dial(app.port) as hushed:
        idle.send("hello")
        assert idle.recv(LIMIT) == label(1) + " hello"
        hushed.send("hush")
        busy.send("hold go")
        run.wait_for_line("begins go")
        app.save(2)
        assert waiting(run) == ["WS /ws"], run.story()
        app.let()
        assert busy.recv(LIMIT) == "held " + label(1), run.story()
        assert {closed_with(each) for each in (busy, idle, hushed)} == {1012}, run.story()
    run.ready(2)
    assert run.wait_for("Reloaded")["waited"] < 3, run.story()
    has_no_complaint(run)
    assert run.stop() == 0, run.story()


@only(CHATTY, *TALKERS)
def test_pushes_and_telemetry_hold_a_reload_no_longer_than_the_grace(app: App, server: Server) -> None:
    app.config("[services.app]\nstream_grace = 1.0\n")
    run = app.run()
    over = threading.Event()
    with dial(app.port) as telemetry:

        def measure() -> None:
            with suppress(ConnectionClosed):
                while not over.wait(0.1):
                    telemetry.send("hush")

        meter = threading.Thread(target=measure)
        meter.start()
        try:
            app.save(2)
            assert closed_with(telemetry) == 1012, run.story()
        finally:
            over.set()
            meter.join()
    run.ready(2)
    assert run.wait_for("Reloaded")["waited"] < 3, run.story()
    has_no_complaint(run)


# -- clients that never rest ----------------------------------------------------------------------------------------------


class Knocking:
    """Clients that ask without a pause, each request on a connection of its own or all on one that is kept open."""

    def __init__(self, port: int, *, keep: bool) -> None:
        self.port, self.keep = port, keep
        self.answers: list[str] = []
        self.lost: list[str] = []
        self.retried = 0  # closed between two requests: browsers ask again
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._knock) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def have_seen(self, text: str) -> bool:
        """Whether one of them has had this answer."""
        return text in self.answers

    def _knock(self) -> None:
        sock: socket.socket | None = None
        while not self._over.is_set():
            used = sock is not None
            try:
                sock = sock or socket.create_connection(("127.0.0.1", self.port), LIMIT)
                close = "" if self.keep else "Connection: close\r\n"
                sock.sendall(f"GET / HTTP/1.1\r\nHost: localhost\r\n{close}\r\n".encode())
                status, body, _ = read_answer(sock)
            except OSError as exc:
                status, body = 0, repr(exc).encode()
            if status == 200:
                self.answers.append(body.decode())
            elif status == 0 and used:
                self.retried += 1
            else:
                self.lost.append(f"{status} {body!r}")
            if sock is not None and (status != 200 or not self.keep):
                sock.close()
                sock = None
            self._over.wait(0.002)
        if sock is not None:
            sock.close()


def knocked_through(app: App, run: Run, reloads: int, *, keep: bool) -> Knocking:
    """Reloads in a row under clients that never rest; each sees the new code in the end."""
    with Knocking(app.port, keep=keep) as clients:
        for version in range(2, reloads + 2):
            app.reload(run, version)
            wait_until(partial(clients.have_seen, label(version)), LIMIT, run.story)
    return clients


@on("hypercorn", "gunicorn", "gunicorn-w2", "waitress", "aiohttp")
def test_nobody_is_refused_while_code_is_saved(app: App, server: Server) -> None:
    """Where the gate cannot close, who is let in at the very end is lost: at most what each of the two clients has asked."""
    run = app.run()
    before = inodes(app.port)
    clients = knocked_through(app, run, 2, keep=False)
    assert len(clients.lost) <= (2 * 2 if server.name in NO_GATE else 0), run.story()
    assert inodes(app.port) == before
    has_no_complaint(run)


@on("hypercorn", "gunicorn-gthread", "tornado", "http.server")
def test_clients_that_keep_their_connection_lose_nothing(app: App, server: Server) -> None:
    run = app.run()
    clients = knocked_through(app, run, 2, keep=True)
    assert clients.lost == [], run.story()
    has_no_complaint(run)


@pytest.mark.soak
@on(*ALL)
@pytest.mark.parametrize("keep", [False, True], ids=["fresh", "kept"])
def test_ten_reloads_in_a_row(app: App, server: Server, keep: bool) -> None:
    """Where the gate cannot close, clients that never rest are cut at the limit: at most what each of the two has asked."""
    gate = server.name not in NO_GATE
    run = app.run(*(() if gate else ("--drain-timeout", "3")))
    before = inodes(app.port)
    clients = knocked_through(app, run, 10, keep=keep)
    assert len(clients.lost) <= (0 if gate else 2 * 10), run.story()
    assert inodes(app.port) == before
    assert len(run.all("ListenerKept")) == 1
    if gate:
        has_no_complaint(run)
    assert run.stop() == 0


FREE_PORTS = [each for each in SERVERS if each.knows and each.name != "sanic"]  # 0 is sanic's 8000


@only(FREE_PORTS, "hypercorn-uvloop", "gunicorn-w2", "django")
def test_any_free_port_is_the_same_one_over_reloads(devsup: Start, project: Path, server: Server) -> None:
    app = App(devsup, project, 0, server)
    run = app.run()
    [url] = run.ready()["urls"]
    for version in (2, 3, 4):
        app.reload(run, version)
        assert run.ready(version)["urls"] == [url], run.story()
        assert fetch(int(url.rpartition(":")[2])) == (200, label(version))
    assert [each["url"] for each in run.all("ListenerKept")] == [url]
    assert run.stop() == 0


GATES = [each for each in SERVERS if each.at_once and each.processes == 1 and each.name not in NO_GATE]


@only(GATES, "hypercorn", "daphne", "threads")
def test_a_closed_gate_neither_spins_nor_holds_up_what_runs(app: App, server: Server) -> None:
    run = app.run()
    with closing(app.hold(run, "one")) as one:
        app.save(2)
        waiting(run)
        with closing(app.hold(run, "two")) as two:  # let in after the save
            app.let("one")
            assert answer(one) == (200, "held " + label(1)), run.story()
            wait_until(lambda: [each for each in run.all("ReloadWaiting") if each["held"]], LIMIT, run.story)
            with closing(ask(app.port, "/")) as knocking:
                worker = psutil.Process(run.ready(1)["pid"])
                before = cpu_time(worker)
                time.sleep(1.0)
                assert cpu_time(worker) - before < 0.5, run.story()
                app.let("two")
                assert answer(two) == (200, "held " + label(1)), run.story()
                assert answer(knocking) == (200, label(2)), run.story()
    has_no_complaint(run)


def cpu_time(process: psutil.Process) -> float:
    """Seconds of a process and its children."""
    return sum(each.cpu_times().user + each.cpu_times().system for each in (process, *process.children(recursive=True)))


# -- the end --------------------------------------------------------------------------------------------------------------


@only([BY_NAME[name] for name in ("hypercorn", "gunicorn-gthread", "gunicorn-w2", "daphne", "aiohttp")], "gunicorn-w2", "aiohttp")
def test_a_second_ctrl_c_kills(app: App, server: Server) -> None:
    run = app.run()
    with closing(app.hold(run)):
        run.process.send_signal(signal.SIGINT)
        run.wait_for("Stopping")
        run.process.send_signal(signal.SIGINT)
        assert run.wait(4) == 0, run.story()


@only(SERVERS, "hypercorn", "gunicorn-w2", "waitress", "threads")
def test_sigterm_ends_all_of_it(app: App, server: Server) -> None:
    run = app.run()
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0, run.story()
    assert run.all("Stopped")[0]["left"] == [], run.story()
    assert len([line for line in run.lines() if "Booting worker" in line]) in (0, server.processes), run.story()


# -- gunicorn and reloaders -----------------------------------------------------------------------------------------------


@on("gunicorn-w2", others=False)
def test_gunicorn_starts_no_worker_while_it_stops(app: App, server: Server) -> None:
    run = app.run(extra=("--preload", "--max-requests", "3"))
    for _ in range(8):
        assert fetch(app.port) == (200, label(1))
    app.reload(run, 2)
    assert fetch(app.port) == (200, label(2))
    assert run.stop() == 0, run.story()
    assert run.lines().count("imported " + label(2)) == 1, run.story()
    for generation in run.stderr.split("Starting gunicorn")[1:]:
        before, _, after = generation.partition("Handling signal: term")
        assert before.count("Booting worker") >= 2, run.story()
        assert "Booting worker" not in after, run.story()
    has_no_complaint(run)


@on("gunicorn", others=False)
def test_gunicorn_s_own_time_out_is_left_to_it(app: App, server: Server) -> None:
    run = app.run(extra=("--timeout", "1"))
    with closing(app.hold(run)) as sock:
        app.save(2)
        waiting(run)
        assert answer(sock)[0] in (0, 500)  # as without devsup: its arbiter kills the worker
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert run.stop() == 0


RELOADERS = [
    ("hypercorn", ("--reload",), "hypercorn"),
    ("gunicorn", ("--reload",), "gunicorn"),
    ("django", (), "django"),
    ("tornado", (), "tornado"),
]


@pytest.mark.parametrize(
    ("server", "extra", "name"), [(BY_NAME[name], *rest) for name, *rest in RELOADERS], ids=lambda each: None
)
def test_the_server_s_own_reloader_stays_off(app: App, server: Server, extra: tuple[str, ...], name: str) -> None:
    run = app.run(extra=extra)
    app.reload(run, 2)
    assert fetch(app.port) == (200, label(2))
    assert [each["name"] for each in run.all("ReloaderOff")] == [name], run.story()
    for version in (1, 2):
        assert run.lines().count("imported " + label(version)) == 1, run.story()
    assert run.stop() == 0


@on("hypercorn", "gunicorn", "waitress", "aiohttp", "django", "wsgiref", others=False)
def test_an_app_s_error_is_its_server_s_500(app: App, server: Server) -> None:
    run = app.run()
    assert fetch(app.port, "/boom")[0] == 500, run.story()
    app.reload(run, 2)
    assert fetch(app.port) == (200, label(2))
    has_no_complaint(run)
