"""Steady traffic over reloads: nobody is refused, nothing is lost, connections live on, and new code answers once it is ready."""

from __future__ import annotations

import contextlib
import itertools
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from harness import LIMIT, Run, fetch, save, wait_until

RELOADS = 20
CLIENTS = 4  # of each kind
PATIENCE = 20.0  # seconds for one answer

ASGI = """
import asyncio, time
time.sleep(BOOT)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await asyncio.sleep(0.002)
    body = b"v1;" * 100
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
"""

FLASK = """
import time
from flask import Flask

time.sleep(BOOT)
app = Flask(__name__)

@app.get("/")
def home():
    time.sleep(0.002)
    return "v1;" * 100
"""

UVICORN = "uvicorn main:app --port @PORT@ --log-level warning"
SERVERS = [
    pytest.param(ASGI, f"{UVICORN} --loop asyncio --http h11", id="asyncio-h11"),
    pytest.param(ASGI, f"{UVICORN} --loop asyncio --http httptools", id="asyncio-httptools"),
    pytest.param(ASGI, f"{UVICORN} --loop uvloop --http h11", id="uvloop-h11"),
    pytest.param(ASGI, f"{UVICORN} --loop uvloop --http httptools", id="uvloop-httptools"),
    pytest.param(FLASK, "flask --app main run --port @PORT@", id="flask"),
]


def save_version(project: Path, source: str, version: int, boot: float = 0.0) -> None:
    """Save the app; each version has a length of its own."""
    text = source.replace("v1;", f"v{version};").replace("BOOT", str(boot))
    save(project / "main.py", text + "#" * version + "\n")


# -- the clients ------------------------------------------------------------------------------------------------------


class NoAnswerError(Exception):
    """A request was sent and its answer did not come, or not whole."""


def request(sock: socket.socket, *, close: bool) -> tuple[int, bool]:
    """One request: (the version that answered, whether the server keeps the connection)."""
    head = "GET / HTTP/1.1\r\nHost: localhost\r\n" + ("Connection: close\r\n" if close else "") + "\r\n"
    data = b""
    try:
        sock.sendall(head.encode())
        while not _whole(data):
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
    except OSError as exc:
        raise NoAnswerError(f"{exc!r} after {len(data)} bytes") from exc
    lines, _, body = data.partition(b"\r\n\r\n")
    match = re.fullmatch(rb"(?:v(\d+);){100}", body)
    if not (_whole(data) and match and lines.split()[1:2] == [b"200"] and set(body.split(b";")) == {b"v" + match[1], b""}):
        raise NoAnswerError(repr(data[:200]))
    keeps = lines.startswith(b"HTTP/1.1") and b"connection: close" not in lines.lower()
    return int(match[1]), keeps


def _whole(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return bool(separator) and length is not None and len(body) >= int(length[1])


@dataclass
class Found:
    """What the clients of one kind found. `answers` are (seconds since the epoch when it was asked, version, client)."""

    refused: int = 0
    connections: int = 0
    lost: list[str] = field(default_factory=list)
    answers: list[tuple[float, int, int]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.answers)} answered, {len(self.lost)} lost, {self.refused} refused"


class Traffic:
    """`CLIENTS` clients of each kind that ask without end.

    Where a server's connections are passed on (`passes`), a request is asked when it is sent, else when its client connects.
    """

    def __init__(self, port: int, *, passes: bool) -> None:
        self.port, self.passes = port, passes
        self.fresh, self.kept = Found(), Found()
        self._over = threading.Event()

    def _connect(self, found: Found) -> socket.socket | None:
        found.connections += 1
        try:
            return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        except ConnectionRefusedError:
            found.refused += 1
        except OSError as exc:
            found.lost.append(f"connect: {exc!r}")
        return None

    def _ask(self, found: Found, sock: socket.socket, number: int, asked: float, *, close: bool) -> bool:
        """Ask once and note what came; whether the connection may be used again."""
        try:
            version, keeps = request(sock, close=close)
        except NoAnswerError as exc:
            found.lost.append(str(exc))
            return False
        found.answers.append((asked, version, number))
        return keeps

    def ask_on_fresh_connections(self, number: int) -> None:
        while not self._over.wait(0.005):
            began = time.time()
            sock = self._connect(self.fresh)
            if sock is not None:
                with sock:
                    self._ask(self.fresh, sock, number, time.time() if self.passes else began, close=True)

    def ask_on_one_connection(self, number: int) -> None:
        """As a connection pool does it: what the server has closed while idle is not used again."""
        sock: socket.socket | None = None
        while not self._over.is_set():
            began = time.time()
            if sock is None or select.select([sock], [], [], 0)[0]:
                if sock is not None:
                    sock.close()
                sock = self._connect(self.kept)
            if sock is not None and not self._ask(self.kept, sock, number, time.time() if self.passes else began, close=False):
                sock.close()
                sock = None
        if sock is not None:
            sock.close()

    @contextmanager
    def flowing(self) -> Iterator[Traffic]:
        threads = [
            threading.Thread(target=kind, args=(number,))
            for kind in (self.ask_on_fresh_connections, self.ask_on_one_connection)
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def serves(self, version: int, *, answers: int = 25, limit: float = LIMIT) -> None:
        """Wait until both kinds of clients have got so many answers of this version."""

        def served(found: Found) -> bool:
            return sum(each[1] == version for each in found.answers[-1000:]) >= answers

        wait_until(lambda: served(self.fresh) and served(self.kept), limit, self.story)

    def story(self) -> str:
        return f"fresh: {self.fresh}\nkept: {self.kept}\n{self.fresh.lost[:5]} {self.kept.lost[:5]}"


def assert_nothing_lost(traffic: Traffic, run: Run) -> None:
    assert traffic.fresh.refused == 0, run.story()
    assert traffic.kept.refused == 0, run.story()
    assert traffic.fresh.lost == [], run.story()
    assert traffic.kept.lost == [], run.story()
    assert len(traffic.fresh.answers) > RELOADS


def assert_new_code_once_ready(traffic: Traffic, run: Run) -> None:
    """Whoever asks after WorkerReady of a generation gets its code, or newer; here generation n loads version n."""
    ready = {event["generation"]: event["at"] for event in run.all("WorkerReady")}
    checked = 0
    for asked, version, _ in traffic.fresh.answers + traffic.kept.answers:
        due = max((generation for generation, at in ready.items() if at < asked), default=0)
        assert version >= due, f"asked {asked - ready[due]:.4f} s after generation {due} was ready, answered by v{version}"
        checked += due > 1
    assert checked > 0


def assert_versions_never_go_back(traffic: Traffic) -> None:
    for client in range(CLIENTS):
        for found in (traffic.fresh, traffic.kept):
            versions = [version for _, version, number in found.answers if number == client]
            assert versions == sorted(versions)


# -- many reloads ------------------------------------------------------------------------------------------------------


def under_devsup(run: Run, project: Path, port: int, source: str, reloads: int) -> Traffic:
    """Traffic over so many reloads under devsup."""
    run.ready()
    with Traffic(port, passes=source == ASGI).flowing() as traffic:
        traffic.serves(1)
        for version in range(2, reloads + 2):
            save_version(project, source, version)
            run.ready(version)
            traffic.serves(version)
    return traffic


def combination(server: ParameterSet, mode: str, fork: bool) -> ParameterSet:
    """A server, a mode and a way to start; most of them are left to the soak."""
    often = {("asyncio-h11", "drain"), ("uvloop-httptools", "drain"), ("uvloop-httptools", "handover"), ("flask", "drain")}
    marks = [] if fork and (server.id, mode) in often else [pytest.mark.soak]
    return pytest.param(*server.values, mode, fork, id=f"{server.id}-{mode}-{'fork' if fork else 'cold'}", marks=marks)


COMBINATIONS = [combination(*each) for each in itertools.product(SERVERS, ("drain", "handover"), (True, False))]


@pytest.mark.parametrize(("source", "command", "mode", "fork"), COMBINATIONS)
def test_traffic_over_twenty_reloads_loses_nothing_and_keeps_its_connections(
    devsup: Callable[..., Run], project: Path, port: int, source: str, command: str, mode: str, fork: bool
) -> None:
    save_version(project, source, 1)
    options = ["--reload", mode, *([] if fork else ["--no-fork"])]
    run = devsup(*command.replace("@PORT@", str(port)).split(), options=options)
    if fork:
        run.wait_for("ForkServerReady")
    traffic = under_devsup(run, project, port, source, RELOADS)
    print(traffic.story())  # noqa: T201 - the count is asked for
    assert_nothing_lost(traffic, run)
    if source == ASGI:
        assert traffic.kept.connections == CLIENTS
    assert_new_code_once_ready(traffic, run)
    assert_versions_never_go_back(traffic)
    assert len(run.all("WorkerReady")) == RELOADS + 1
    assert len(run.all("ListenerKept")) == 1
    assert run.all("PlaceholderShown") == []
    assert run.all("Trouble") == []
    assert run.stop() == 0


@contextmanager
def bare_uvicorn(project: Path, port: int, words: list[str], environment: dict[str, str]) -> Iterator[None]:
    """`uvicorn --reload` as people run it without devsup, when it serves and watches."""
    command = [sys.executable, "-m", *words, "--reload"]
    devnull = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=project, env=environment, stdin=devnull, stdout=devnull, stderr=devnull)
    try:
        wait_until(lambda: _answers(port), 20)
        wait_until(lambda: _watches(process.pid), 20)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return fetch(port)[0] == 200
    return False


def _watches(pid: int) -> bool:
    """Whether this process watches files; taken for granted where the kernel does not tell."""
    descriptors = Path(f"/proc/{pid}/fd")
    with contextlib.suppress(OSError):
        return not descriptors.exists() or any("inotify" in str(each.readlink()) for each in descriptors.iterdir())
    return False


def under_uvicorn(project: Path, port: int, words: list[str], environment: dict[str, str], reloads: int) -> Traffic:
    """The same traffic over as many reloads of `uvicorn --reload`."""
    save_version(project, ASGI, 1)
    with bare_uvicorn(project, port, words, environment), Traffic(port, passes=False).flowing() as traffic:
        traffic.serves(1)
        for version in range(2, reloads + 2):
            save_version(project, ASGI, version)
            try:
                traffic.serves(version, limit=8)
            except AssertionError:  # it misses a save now and then; people save again
                save_version(project, ASGI, version)
                traffic.serves(version)
    return traffic


def compare(run: Run, project: Path, port: int, words: list[str], environment: dict[str, str], reloads: int) -> None:
    """None is lost; how many `uvicorn --reload` loses is told."""
    ours = under_devsup(run, project, port, ASGI, reloads)
    assert run.stop() == 0
    theirs = under_uvicorn(project, port, words, environment, reloads)
    print(f"keep-alive over {reloads} reloads: devsup {ours.kept}; uvicorn --reload {theirs.kept}")  # noqa: T201 - the count is asked for
    assert_nothing_lost(ours, run)
    assert len(ours.kept.answers) > reloads


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("loop", "http"), [("asyncio", "h11"), ("asyncio", "httptools"), ("uvloop", "httptools")])
def test_nothing_is_lost_over_a_hundred_reloads(
    devsup: Callable[..., Run], project: Path, port: int, environment: dict[str, str], loop: str, http: str
) -> None:
    words = f"{UVICORN} --loop {loop} --http {http}".replace("@PORT@", str(port)).split()
    save_version(project, ASGI, 1)
    compare(devsup(*words), project, port, words, environment, 100)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("source", "command"), SERVERS)
def test_nothing_lost_on_fresh_connections_over_two_hundred_reloads(
    devsup: Callable[..., Run], project: Path, port: int, source: str, command: str
) -> None:
    save_version(project, source, 1)
    run = devsup(*command.replace("@PORT@", str(port)).split())
    traffic = under_devsup(run, project, port, source, 200)
    print(traffic.story())  # noqa: T201 - the count is asked for
    assert_nothing_lost(traffic, run)
    assert_new_code_once_ready(traffic, run)


# -- saves in quick succession ----------------------------------------------------------------------------------------

MOMENTS = ["ReloadStarted", "WorkerSpawned", "WorkerReady"]
BOTH = [SERVERS[0], *(pytest.param(*each.values, id=each.id, marks=pytest.mark.soak) for each in (SERVERS[3], SERVERS[4]))]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("source", "command"), BOTH)
def test_a_second_save_during_a_reload_is_served_in_the_end(
    devsup: Callable[..., Run], project: Path, port: int, source: str, command: str, moment: str
) -> None:
    """Double reloads: five times a save, and the next one as soon as `moment` of its reload has come."""
    save_version(project, source, 1)
    run = devsup(*command.replace("@PORT@", str(port)).split())
    run.ready()
    with Traffic(port, passes=False).flowing() as traffic:
        for version in range(2, 12, 2):
            before = len(run.all(moment))
            save_version(project, source, version)
            run.wait_for(moment, count=before + 1)
            save_version(project, source, version + 1)
            traffic.serves(version + 1)
    assert fetch(port) == (200, "v11;" * 100)
    assert_nothing_lost(traffic, run)
    assert_versions_never_go_back(traffic)
    assert len(run.all("ListenerKept")) == 1
    assert all(event["expected"] for event in run.all("WorkerExited")), run.story()
    assert 6 <= len(run.all("WorkerSpawned")) <= 11
    assert run.stop() == 0


@pytest.mark.parametrize("boot", [0.0, 0.3], ids=["quick-boot", "slow-boot"])
@pytest.mark.parametrize("pause", [0.0, pytest.param(0.03, marks=pytest.mark.soak), 0.09], ids=["at-once", "30ms", "90ms"])
@pytest.mark.parametrize(("source", "command"), BOTH)
def test_ten_saves_within_a_second_end_in_the_last_content(
    devsup: Callable[..., Run], project: Path, port: int, source: str, command: str, pause: float, boot: float
) -> None:
    save_version(project, source, 1, boot)
    run = devsup(*command.replace("@PORT@", str(port)).split())
    run.ready()
    with Traffic(port, passes=False).flowing() as traffic:
        for version in range(2, 12):
            save_version(project, source, version, boot)
            time.sleep(pause)  # the rhythm of the saves is what is tested
        traffic.serves(11)
    assert fetch(port) == (200, "v11;" * 100)
    assert_nothing_lost(traffic, run)
    assert_versions_never_go_back(traffic)
    assert 2 <= len(run.all("WorkerSpawned")) <= 11
    assert all(event["expected"] for event in run.all("WorkerExited")), run.story()
    assert len(run.all("ListenerKept")) == 1
    assert run.stop() == 0
