"""A save while requests run: they are answered whole by the old code, then new code comes; and what counts as a save."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import LIMIT, Event, Run, fetch, free_port, save, wait_until

Start = Callable[..., Run]
Make = Callable[..., "App"]

# Both apps have the same routes. Whatever takes time ends when the test makes a file, not when a clock says so.
ASGI = """
import asyncio
import contextlib
import os
import time
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

VERSION = "@VERSION@"
PORT = int(os.environ["APP_PORT"])

async def until(name):
    print("begins", name, flush=True)
    while not os.path.exists(name):
        await asyncio.sleep(0.01)

async def home(request):
    return PlainTextResponse(VERSION)

async def held(request):
    await until(request.query_params["until"])
    return PlainTextResponse("held " + VERSION)

def thread(request):
    print("begins", request.query_params["until"], flush=True)
    while not os.path.exists(request.query_params["until"]):
        time.sleep(0.01)
    return PlainTextResponse("held " + VERSION)

async def blocked(request):
    return thread(request)

async def tick(request):
    await asyncio.sleep(0.1)
    return PlainTextResponse(VERSION)

async def relay(request):
    await until(request.query_params["until"])
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    answer = await reader.read()
    writer.close()
    return PlainTextResponse("relayed " + answer.partition(b"\\r\\n\\r\\n")[2].decode())

async def echo(request):
    return PlainTextResponse(VERSION + " " + (await request.body()).decode())

async def big(request):
    return Response(b"x" * 36_000_000, media_type="application/octet-stream")

async def pieces(request):
    async def body():
        for _ in range(36):
            yield b"x" * 1_000_000
    return StreamingResponse(body(), media_type="application/octet-stream", headers={"content-length": "36000000"})

async def background(request):
    async def work():
        await until(request.query_params["until"])
        print("background done by", VERSION, flush=True)
    return PlainTextResponse("accepted " + VERSION, background=BackgroundTask(work))

routes = [home, held, thread, blocked, tick, relay, echo, big, pieces, background]
app = Starlette(routes=[Route("/" if each is home else "/" + each.__name__, each, methods=["GET", "POST"]) for each in routes])
"""

WSGI = """
import os
import time
import urllib.request
from flask import Flask, Response, request

VERSION = "@VERSION@"
PORT = int(os.environ["APP_PORT"])
app = Flask(__name__)

def until(name):
    print("begins", name, flush=True)
    while not os.path.exists(name):
        time.sleep(0.01)

@app.get("/")
def home():
    return VERSION

@app.get("/held")
def held():
    until(request.args["until"])
    return "held " + VERSION

@app.get("/tick")
def tick():
    time.sleep(0.1)
    return VERSION

@app.get("/relay")
def relay():
    until(request.args["until"])
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/") as answer:
        return "relayed " + answer.read().decode()

@app.post("/echo")
def echo():
    return VERSION + " " + request.get_data(as_text=True)

@app.get("/big")
def big():
    return Response(b"x" * 36_000_000, mimetype="application/octet-stream")

@app.get("/pieces")
def pieces():
    return Response((b"x" * 1_000_000 for _ in range(36)), headers={"content-length": "36000000"})
"""

H11, HTTPTOOLS, FLASK = "uvicorn-h11", "uvicorn-httptools", "flask"
SERVERS = [H11, FLASK]
ALL_SERVERS = [H11, HTTPTOOLS, FLASK]


class App:
    """The app of one test: its code by version, and devsup in front of it."""

    def __init__(self, start: Start, project: Path, port: int, server: str) -> None:
        self._start, self.project, self.port, self.server = start, project, port, server
        self.save(1)

    def save(self, version: int) -> None:
        """Write this version of its code."""
        save(self.project / "main.py", self.code(version))

    def code(self, version: int) -> str:
        """The source of this version."""
        return (WSGI if self.server == FLASK else ASGI).replace("@VERSION@", label(version))

    def run(self, *options: str, extra: tuple[str, ...] = (), env: dict[str, str] | None = None) -> Run:
        """Start it, and wait until it serves."""
        words = ["flask", "--app", "main", "run", "--port", str(self.port)]
        if self.server != FLASK:
            words = ["uvicorn", "main:app", "--port", str(self.port), "--http", self.server.partition("-")[2], *extra]
        run = self._start(*words, options=list(options), env={"APP_PORT": str(self.port), **(env or {})})
        run.ready()
        return run

    def let(self, name: str) -> None:
        """End what waits for the file `name`."""
        (self.project / name).touch()

    def hold(self, run: Run, path: str = "/held", name: str = "go") -> socket.socket:
        """A request that the app works on until `let(name)`."""
        sock = ask(self.port, f"{path}?until={name}")
        run.wait_for_line(f"begins {name}")
        return sock


@pytest.fixture
def make(devsup: Start, project: Path, port: int) -> Make:
    """The app on this server."""
    return lambda server=H11: App(devsup, project, port, server)


@pytest.fixture
def app(make: Make) -> App:
    """The app on uvicorn."""
    return make(H11)


def label(version: int) -> str:
    """Each of another length: a compiled file of the version before is never taken for this one's."""
    return f"v{version}" + "." * version


def ask(port: int, path: str, head: str = "", body: bytes = b"") -> socket.socket:
    """Send a request on a connection of its own."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    method, length = ("POST", f"Content-Length: {len(body)}\r\n") if body else ("GET", "")
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}{head}\r\n".encode() + body)
    return sock


def answer(sock: socket.socket) -> str:
    """All that comes on a connection until its end; the body, or "" when there is no answer."""
    return read_all(sock).partition(b"\r\n\r\n")[2].decode()


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def names(waiting: Event) -> list[str]:
    return [each["name"] for each in waiting["active"]]


def order(run: Run, *wanted: str) -> list[str]:
    return [each["event"] for each in run.events if each["event"] in wanted]


def nothing_else_happens(run: Run, folder: Path, *, but: int = 0) -> None:
    """All saves so far have been looked at, and no more than `but` reloads began: a later save, of a stranger, is named."""
    stranger = folder / f"stranger_{len(run.events)}.py"
    save(stranger, "print('never imported')\n")
    run.wait_for("ChangeIgnored", path=str(stranger))
    assert len(run.all("ReloadStarted")) == but, run.story()


# -- requests that run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ALL_SERVERS)
def test_a_request_is_answered_whole_by_the_old_code_and_named_at_once_and_again(make: Make, server: str) -> None:
    app = make(server)
    run = app.run()
    with app.hold(run) as sock:
        app.save(2)
        first = run.wait_for("ReloadWaiting")
        assert names(first) == ["GET /held"]
        assert not first["held"]
        assert fetch(app.port) == (200, label(1)), "who comes meanwhile is served by the old worker"
        second = run.wait_for("ReloadWaiting", 2)
        assert names(second) == ["GET /held"]
        assert second["active"][0]["age"] > first["active"][0]["age"]
        assert second["seconds"] > first["seconds"]
        app.let("go")
        assert answer(sock) == f"held {label(1)}"
    reloaded = run.wait_for("Reloaded")
    assert reloaded["generation"] == 2
    assert reloaded["files"] == [str(app.project / "main.py")]
    assert reloaded["total"] >= reloaded["waited"] > 0
    assert fetch(app.port) == (200, label(2))
    told = order(run, "ReloadStarted", "ReloadWaiting", "WorkerSpawned", "WorkerReady", "WorkLost")
    assert told[2] == "ReloadStarted"
    assert told[-2:] == ["WorkerSpawned", "WorkerReady"]
    assert "WorkLost" not in told
    assert run.stop() == 0


@pytest.mark.parametrize("server", SERVERS)
def test_ten_requests_with_a_save_during_each_are_all_answered(make: Make, server: str) -> None:
    app = make(server)
    run, answers = app.run(), []
    for turn in range(1, 11):
        with app.hold(run, name=f"go{turn}") as sock:
            app.save(turn + 1)
            run.wait_for("ReloadWaiting", generation=turn)
            app.let(f"go{turn}")
            answers.append(answer(sock))
        run.ready(turn + 1)
    assert answers == [f"held {label(turn)}" for turn in range(1, 11)]
    assert not run.all("WorkLost")
    assert fetch(app.port) == (200, label(11))


@pytest.mark.parametrize(
    ("server", "path"), [(H11, "/held"), (HTTPTOOLS, "/held"), (H11, "/thread"), (H11, "/blocked"), (FLASK, "/held")]
)
def test_a_hung_request_is_cut_at_the_drain_timeout_and_named(make: Make, server: str, path: str) -> None:
    """Hung in a coroutine, in a thread that nothing can end, or with the whole event loop."""
    app = make(server)
    (app.project / "devsup.toml").write_text("[services.web]\nstop_timeout = 0.5\n")
    run = app.run("--drain-timeout", "1.5")
    with app.hold(run, path, "never") as sock:
        app.save(2)
        assert names(run.wait_for("ReloadWaiting")) == [f"GET {path}"]
        lost = run.wait_for("WorkLost")
        assert (lost["generation"], lost["name"]) == (1, f"GET {path}")
        assert lost["age"] >= 1.5
        run.ready(2)
        with suppress(ConnectionError):
            assert answer(sock) == "", "its connection ends without an answer"
    assert fetch(app.port) == (200, label(2))
    assert len(run.all("WorkLost")) == 1


@pytest.mark.parametrize("server", SERVERS)
def test_a_request_that_calls_its_own_server_is_answered_while_a_reload_waits_for_it(make: Make, server: str) -> None:
    app = make(server)
    run = app.run()
    with app.hold(run, "/relay") as sock:
        app.save(2)
        run.wait_for("ReloadWaiting")
        app.let("go")
        assert answer(sock) == f"relayed {label(1)}"
    run.ready(2)
    assert fetch(app.port) == (200, label(2))


@pytest.mark.parametrize("server", ALL_SERVERS)
def test_a_request_that_calls_its_own_server_from_behind_the_closed_gate_does_not_deadlock(make: Make, server: str) -> None:
    app = make(server)
    # Longer than the second until what a reload waits for is said again: that the gate is closed is seen then.
    (app.project / "devsup.toml").write_text("[services.web]\ngate_timeout = 3.0\n")
    run = app.run()
    with app.hold(run) as before:
        app.save(2)
        run.wait_for("ReloadWaiting")
        with app.hold(run, "/relay", "go-relay") as after:
            app.let("go")
            assert answer(before) == f"held {label(1)}"
            assert names(run.wait_for("ReloadWaiting", held=True)) == ["GET /relay"]
            app.let("go-relay")
            assert answer(after) == f"relayed {label(1)}"
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert not run.all("WorkLost")


def test_who_connects_behind_the_closed_gate_waits_and_gets_the_new_code(app: App) -> None:
    run = app.run()
    with app.hold(run) as first:
        app.save(2)
        run.wait_for("ReloadWaiting")
        with app.hold(run, name="go-late") as late:
            app.let("go")
            assert answer(first) == f"held {label(1)}"
            run.wait_for("ReloadWaiting", held=True)
            with ask(app.port, "/") as waiting:
                app.let("go-late")
                assert answer(late) == f"held {label(1)}"
                assert answer(waiting) == label(2)


@pytest.mark.parametrize("server", ALL_SERVERS)
@pytest.mark.parametrize("part", ["head", "body"])
def test_a_half_sent_request_survives_a_save(make: Make, server: str, part: str) -> None:
    app = make(server)
    run = app.run()
    request = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789"
    cut = request.index(b"ost: loc" if part == "head" else b"56789")
    with socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as sock:
        sock.sendall(request[:cut])
        assert fetch(app.port) == (200, label(1))
        app.save(2)
        run.wait_for("ReloadWaiting")
        assert fetch(app.port) == (200, label(1))
        sock.sendall(request[cut:])
        assert answer(sock) == f"{label(1)} 0123456789"
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert not run.all("WorkLost")


@pytest.mark.parametrize("server", ALL_SERVERS)
@pytest.mark.parametrize("path", ["/big", "/pieces"])
def test_a_half_written_answer_of_36_megabytes_survives_a_save(make: Make, server: str, path: str) -> None:
    """A slow reader is active until the last byte, also when the app has long returned: others are served meanwhile."""
    app = make(server)
    run = app.run()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(LIMIT)
        sock.connect(("127.0.0.1", app.port))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        start = sock.recv(65536)
        app.save(2)
        assert names(run.wait_for("ReloadWaiting")) == [f"GET {path}"]
        assert fetch(app.port) == (200, label(1))
        head, _, body = (start + read_all(sock)).partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert len(body) == 36_000_000
    run.ready(2)
    assert fetch(app.port) == (200, label(2))


def test_background_tasks_are_finished_before_the_reload(app: App) -> None:
    run = app.run()
    with app.hold(run, "/background") as sock:
        assert answer_so_far(sock).endswith(f"accepted {label(1)}")
        app.save(2)
        assert names(run.wait_for("ReloadWaiting")) == ["GET /background"]
        app.let("go")
        run.wait_for_line(f"background done by {label(1)}")
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert not run.all("WorkLost")


def answer_so_far(sock: socket.socket) -> str:
    """An answer whose length is known, though its connection stays open."""
    data, whole = b"", re.compile(rb"(?si).*\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n(.*)")
    while not (found := whole.fullmatch(data)) or len(found[2]) < int(found[1]):
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data.decode()


def test_an_idle_keep_alive_connection_holds_no_reload(app: App) -> None:
    run = app.run()
    with socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer_so_far(sock).endswith(label(1))
        app.save(2)
        run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert not run.all("ReloadWaiting")


@contextmanager
def polling(port: int, path: str, clients: int, pause: float) -> Iterator[list[tuple[int, str]]]:
    """Clients that ask again and again; what they get."""
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def poll() -> None:
        while not over.wait(pause):
            try:
                answers.append(fetch(port, path))
            except OSError as exc:
                answers.append((0, repr(exc)))

    threads = [threading.Thread(target=poll) for _ in range(clients)]
    for each in threads:
        each.start()
    try:
        yield answers
    finally:
        over.set()
        for each in threads:
            each.join(LIMIT)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("path", "clients", "pause"), [("/", 1, 0.05), ("/tick", 5, 0.001)], ids=["every-50-ms", "without-a-pause"]
)
def test_pages_that_poll_cannot_starve_a_reload(make: Make, server: str, path: str, clients: int, pause: float) -> None:
    """Also when at no moment of the wait there is nothing active; and each of their requests is answered."""
    app = make(server)
    run = app.run()
    with polling(app.port, path, clients, pause) as answers:
        with app.hold(run) as sock:
            app.save(2)
            run.wait_for("ReloadWaiting")
            before = len(answers)
            wait_until(lambda: len(answers) > before + 10, story=run.story)
            app.let("go")
            assert answer(sock) == f"held {label(1)}"
            run.ready(2)
        wait_until(lambda: answers[-1] == (200, label(2)), story=run.story)
    assert set(answers) == {(200, label(1)), (200, label(2))}
    assert not run.all("WorkLost")


# -- saves that are undone, or are none -------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_a_save_that_is_undone_while_it_waits_is_no_reload(make: Make, server: str) -> None:
    app = make(server)
    run = app.run()
    with app.hold(run) as sock:
        app.save(2)
        run.wait_for("ReloadWaiting")
        app.save(1)
        run.wait_for("ReloadCancelled")
        app.let("go")
        assert answer(sock) == f"held {label(1)}"
    assert fetch(app.port) == (200, label(1))
    nothing_else_happens(run, app.project, but=1)
    assert len(run.all("WorkerSpawned")) == 1
    app.save(3)
    run.ready(2)
    assert fetch(app.port) == (200, label(3))


@pytest.mark.parametrize("server", ALL_SERVERS)
def test_a_save_that_is_undone_behind_the_closed_gate_opens_it_again(make: Make, server: str) -> None:
    app = make(server)
    (app.project / "devsup.toml").write_text("[services.web]\ngate_timeout = 60.0\n")
    run = app.run()
    with app.hold(run) as before:
        app.save(2)
        run.wait_for("ReloadWaiting")
        with app.hold(run, name="go-late") as late:
            app.let("go")
            assert answer(before) == f"held {label(1)}"
            run.wait_for("ReloadWaiting", held=True)
            with ask(app.port, "/") as waiting:
                app.save(1)
                run.wait_for("ReloadCancelled")
                assert answer(waiting) == label(1), "who waited behind the gate is served"
            assert fetch(app.port) == (200, label(1))
            app.let("go-late")
            assert answer(late) == f"held {label(1)}"
    assert len(run.all("WorkerSpawned")) == 1
    app.save(3)
    run.ready(2)
    assert fetch(app.port) == (200, label(3))


def test_the_same_content_saved_again_is_no_reload(app: App) -> None:
    run = app.run()
    main = app.project / "main.py"
    os.utime(main)
    main.write_text(main.read_text())
    save(main, main.read_text())
    nothing_else_happens(run, app.project)
    assert fetch(app.port) == (200, label(1))
    app.save(2)
    run.ready(2)


@pytest.mark.parametrize("server", SERVERS)
def test_a_file_that_is_not_imported_reloads_nothing_and_is_named_once(make: Make, server: str) -> None:
    app = make(server)
    script = app.project / "scripts" / "get_tree_session_data.py"
    script.parent.mkdir()
    run = app.run()
    for text in ("print(1)\n", "print(22)\n", "print(333)\n"):
        save(script, text)
        nothing_else_happens(run, app.project)
    assert len(run.all("ChangeIgnored", path=str(script))) == 1
    assert len(run.all("WorkerSpawned")) == 1
    assert fetch(app.port) == (200, label(1))


# -- the other modes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_reload_restart_waits_for_nothing_and_says_what_was_lost(make: Make, server: str) -> None:
    app = make(server)
    run = app.run("--reload", "restart")
    with app.hold(run, name="never"):
        app.save(2)
        run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert not run.all("ReloadWaiting")
    assert [each["name"] for each in run.all("WorkLost")] == ["GET /held"]


def test_reload_off_never_reloads(app: App, devsup: Start) -> None:
    run = app.run("--reload", "off")
    other = free_port()
    witness = devsup("uvicorn", "main:app", "--port", str(other), env={"APP_PORT": str(other)})
    witness.ready()
    app.save(2)
    witness.ready(2)
    app.save(3)
    witness.ready(3)
    assert fetch(app.port) == (200, label(1))
    assert not run.all("ReloadStarted")
    assert len(run.all("WorkerSpawned")) == 1


# -- what is a save ---------------------------------------------------------------------------------------------------

BOOTING = """
import os, time
print("boots @VERSION@", flush=True)
while "@VERSION@" != "v1." and not os.path.exists("go-boot"):
    time.sleep(0.01)
"""


def test_saves_during_a_boot_become_exactly_one_more_reload(app: App) -> None:
    run = app.run()
    booting = [app.code(version) + BOOTING.replace("@VERSION@", label(version)) for version in range(6)]
    save(app.project / "main.py", booting[2])
    run.wait_for_line(f"boots {label(2)}")
    for version in (3, 4, 5):
        save(app.project / "main.py", booting[version])
    app.let("go-boot")
    run.ready(3)
    assert fetch(app.port) == (200, label(5))
    save(app.project / "stranger.py", "print('never imported')\n")
    run.wait_for("ChangeIgnored", path=str(app.project / "stranger.py"))
    assert [each["generation"] for each in run.all("WorkerSpawned")] == [1, 2, 3]


def test_saves_during_the_first_boot_become_exactly_one_reload(project: Path, port: int, devsup: Start) -> None:
    source = ASGI + BOOTING.replace('"@VERSION@" != "v1." and ', "")
    save(project / "main.py", source.replace("@VERSION@", label(1)))
    run = devsup("uvicorn", "main:app", "--port", str(port), env={"APP_PORT": str(port)})
    run.wait_for_line(f"boots {label(1)}")
    for version in (2, 3, 4):
        save(project / "main.py", source.replace("@VERSION@", label(version)))
    (project / "go-boot").touch()
    run.ready(2)
    assert fetch(port) == (200, label(4))
    save(project / "stranger.py", "print('never imported')\n")
    run.wait_for("ChangeIgnored", path=str(project / "stranger.py"))
    assert [each["generation"] for each in run.all("WorkerSpawned")] == [1, 2]


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def in_two_steps(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        file.write(text[len(text) // 2 :])


def anew(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def with_backup(path: Path, text: str) -> None:
    path.rename(path.with_name("main.py~"))
    path.write_text(text)
    path.with_name("main.py~").unlink()


@pytest.mark.parametrize("editor", [in_place, in_two_steps, save, anew, with_backup])
def test_every_editors_way_to_save_brings_new_code_each_time(app: App, editor: Callable[[Path, str], None]) -> None:
    run = app.run()

    def serves(version: int) -> bool:
        return fetch(app.port) == (200, label(version))

    for version in (2, 3, 4):
        editor(app.project / "main.py", app.code(version))
        wait_until(partial(serves, version), story=run.story)


@pytest.mark.parametrize("with_init", [True, False])
def test_a_new_file_in_the_folder_of_an_imported_package_reloads(app: App, with_init: bool) -> None:
    package = app.project / "pkg"
    package.mkdir()
    (package / "part.py").write_text("")
    if with_init:
        (package / "__init__.py").write_text("")
    save(app.project / "main.py", app.code(1) + "\nimport pkg.part\n")
    run = app.run()
    save(package / "plugin.py", "NAME = 'new'\n")
    assert run.wait_for("ReloadStarted")["files"] == [str(package / "plugin.py")]
    run.ready(2)


@pytest.mark.parametrize("how", ["deleted", "renamed", "folder-deleted"])
def test_an_imported_file_that_goes_away_reloads(app: App, how: str) -> None:
    package = app.project / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "extra.py").write_text("EXTRA = True\n")
    guarded = "\ntry:\n    import pkg.extra\n    VERSION += 'with extra'\nexcept ImportError:\n    VERSION += 'without extra'\n"
    save(app.project / "main.py", app.code(1) + guarded)
    run = app.run()
    assert fetch(app.port) == (200, label(1) + "with extra")
    if how == "renamed":
        (package / "extra.py").rename(package / "other.py")
    else:
        (package / "extra.py").unlink()
    if how == "folder-deleted":
        shutil.rmtree(package)
    wait_until(lambda: fetch(app.port) == (200, label(1) + "without extra"), story=run.story)


def test_the_worker_sees_the_new_value_of_an_env_file(app: App) -> None:
    """Also that a line is gone; and what devsup was started with beats the file."""
    env_file = app.project / ".env"
    env_file.write_text("COLOUR=red\nSHAPE=round\nFIXED=file\n")
    shown = "\nVERSION = ' '.join(os.environ.get(name, '-') for name in ('COLOUR', 'SHAPE', 'FIXED'))\n"
    save(app.project / "main.py", app.code(1) + shown)
    run = app.run("--env-file", ".env", env={"FIXED": "start"})
    assert fetch(app.port) == (200, "red round start")
    save(env_file, "COLOUR=darkblue\nSHAPE=round\nFIXED=other\n")
    assert run.wait_for("ReloadStarted")["files"] == [str(env_file)]
    run.ready(2)
    assert fetch(app.port) == (200, "darkblue round start")
    save(env_file, "COLOUR=green\n")
    run.ready(3)
    assert fetch(app.port) == (200, "green - start")


RUN = "\nif __name__ == '__main__':\n    import uvicorn\n    uvicorn.run('main:app', port=PORT, reload=True, **{})\n"


def options_of_uvicorn(app: App, *, script: bool, rules: dict[str, Any]) -> Run:
    """Start it with uvicorn's own reload rules, by its command line or by a script."""
    if not script:
        flags = [word for name, value in rules.items() for word in (f"--{name.replace('_', '-').removesuffix('s')}", value[0])]
        return app.run(extra=("--reload", *flags))
    save(app.project / "main.py", (app.project / "main.py").read_text() + RUN.replace("{}", repr(rules)))
    run = app._start("python", "main.py", env={"APP_PORT": str(app.port)})
    run.ready()
    return run


@pytest.mark.parametrize("script", [False, True], ids=["command", "script"])
def test_the_apps_own_reload_rules_are_kept(app: App, script: bool) -> None:
    """reload_dirs narrows all that is watched, reload_excludes wins, reload_includes adds."""
    for folder in ("src", "src/unused", "src/templates", "other"):
        (app.project / folder).mkdir()
    for name in ("src/part.py", "src/generated.py", "other/part.py"):
        (app.project / name).write_text("VALUE = 1\n")
    save(app.project / "main.py", app.code(1) + "\nimport src.part, src.generated, other.part\n")
    rules = {"reload_dirs": ["src"], "reload_excludes": ["src/generated.py"], "reload_includes": ["*.html"]}
    run = options_of_uvicorn(app, script=script, rules=rules)
    assert [each["name"] for each in run.all("ReloaderOff")] == ["uvicorn"]
    for name in ("src/generated.py", "other/part.py", "main.py"):
        save(app.project / name, (app.project / name).read_text() + "\n# edited\n")
    nothing_else_happens(run, app.project / "src" / "unused")
    save(app.project / "src" / "part.py", "VALUE = 22\n")
    assert run.wait_for("ReloadStarted")["files"] == [str(app.project / "src" / "part.py")]
    run.ready(2)
    save(app.project / "other" / "page.html", "<p>new</p>\n")
    save(app.project / "src" / "templates" / "page.html", "<p>new</p>\n")
    run.ready(3)
    assert run.all("ReloadStarted")[1]["files"] == [str(app.project / "src" / "templates" / "page.html")]
    assert len(run.all("WorkerSpawned")) == 3
