"""The start styles that people use, unmodified: each serves, keeps its listener over ten reloads, and drains on a save."""

from __future__ import annotations

import itertools
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import Run, fetch, find_python, make_environment, save, thinned, wait_until

RELOADS = 10

# What every app below has in common: it says when it is imported, and what it knows of its process.
HEAD = """
import json, os, sys, time
from importlib.util import find_spec
from pathlib import Path

print("imported", __name__, os.getpid(), flush=True)
VERSION = "v1"
ANSWER = VERSION + " "

def wait_for_release():
    print("slow begins", flush=True)
    while not Path("release").exists():
        yield
    return

def about():
    known = ("asyncio", "uvloop", "uvicorn.protocols.http.h11_impl", "uvicorn.protocols.http.httptools_impl")
    return json.dumps({
        "executable": sys.executable,
        "python": "%d.%d" % sys.version_info[:2],
        "run_main": os.environ.get("WERKZEUG_RUN_MAIN"),
        "devsup": find_spec("devsup") is not None,
        "modules": [name for name in known if name in sys.modules],
    })
"""

ASGI = (
    HEAD
    + """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = VERSION
    if scope["path"] == "/about":
        body = about()
    elif scope["path"] == "/slow":
        for _ in wait_for_release():
            await asyncio.sleep(0.01)
        body = ANSWER * 20000
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
"""
)

FACTORY = ASGI.replace("async def app(", "async def inner(") + "\ndef make():\n    return inner\n"

WSGI = (
    HEAD
    + """
def app(environ, start_response):
    body = VERSION
    if environ["PATH_INFO"] == "/about":
        body = about()
    elif environ["PATH_INFO"] == "/slow":
        for _ in wait_for_release():
            time.sleep(0.01)
        body = ANSWER * 20000
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body.encode()]
"""
)

FLASK = (
    HEAD
    + """
from flask import Flask

app = Flask(__name__)

@app.get("/")
def home():
    return VERSION

@app.get("/about")
def tell():
    return about()

@app.get("/slow")
def slow():
    for _ in wait_for_release():
        time.sleep(0.01)
    return ANSWER * 20000
"""
)

MAIN = '\nif __name__ == "__main__":\n    '
THREAD = """
import threading, uvicorn

class Server(uvicorn.Server):
    def install_signal_handlers(self):
        pass

if __name__ == "__main__":
    server = Server(uvicorn.Config(app, port=@PORT@))
    thread = threading.Thread(target=server.run@DAEMON@)
    thread.start()
    @MAIN@
"""


def threaded(main: str, *, daemon: bool) -> str:
    """A server in a thread of its own, while the main thread does `main`."""
    return ASGI + THREAD.replace("@MAIN@", main).replace("@DAEMON@", ", daemon=True" if daemon else "")


@dataclass(frozen=True)
class Style:
    """A way to start a server: the source of main.py (@PORT@ in it), the command, and what must be seen."""

    name: str
    source: str
    command: str
    imports: tuple[str, ...] = ("main",)
    reloader: str | None = None
    modules: tuple[str, ...] = ()
    host: str = "127.0.0.1"

    def __str__(self) -> str:
        return self.name


def _uvicorn_matrix() -> Iterator[Style]:
    for loop, http, reloads in itertools.product(("asyncio", "uvloop"), ("h11", "httptools"), (False, True)):
        flag = " --reload" if reloads else ""
        yield Style(
            f"uvicorn-{loop}-{http}{flag.replace(' --', '-')}",
            ASGI,
            f"uvicorn main:app --port @PORT@ --loop {loop} --http {http}{flag}",
            reloader="uvicorn" if reloads else None,
            modules=(loop, f"uvicorn.protocols.http.{http}_impl"),
        )


SCRIPT = ("__main__",)
STYLES = [
    *_uvicorn_matrix(),
    Style("uvicorn-module", ASGI, "python -m uvicorn main:app --port @PORT@"),
    Style("uvicorn-factory", FACTORY, "uvicorn main:make --factory --port @PORT@"),
    Style("run-object", ASGI + MAIN + "import uvicorn; uvicorn.run(app, port=@PORT@)\n", "python main.py", SCRIPT),
    Style(
        "run-string-reload",
        ASGI + MAIN + 'import uvicorn; uvicorn.run("main:app", port=@PORT@, reload=True)\n',
        "python main.py",
        ("__main__", "main"),
        reloader="uvicorn",
    ),
    Style(
        "run-localhost",
        ASGI + MAIN + 'import uvicorn; uvicorn.run(app, host="localhost", port=@PORT@)\n',
        "python main.py",
        SCRIPT,
        host="localhost",
    ),
    Style(
        "server-serve",
        ASGI + MAIN + "import uvicorn; asyncio.run(uvicorn.Server(uvicorn.Config(app, port=@PORT@)).serve())\n",
        "python main.py",
        SCRIPT,
    ),
    Style("thread-joined", threaded("thread.join()", daemon=False), "python main.py", SCRIPT),
    Style("thread-beside-sleep", threaded("while True: time.sleep(3600)", daemon=True), "python main.py", SCRIPT),
    Style("thread-watched", threaded("while thread.is_alive(): time.sleep(0.05)", daemon=True), "python main.py", SCRIPT),
    Style("target-asgi", ASGI, "main:app --port @PORT@"),
    Style("target-asgi-factory", FACTORY, "main:make --factory --port @PORT@"),
    Style("target-flask", FLASK, "main:app --port @PORT@"),
    Style("target-wsgi", WSGI, "main:app --port @PORT@"),
    Style("flask-run", FLASK, "flask --app main run --port @PORT@"),
    Style("flask-run-debug", FLASK, "flask --app main run --debug --port @PORT@", reloader="werkzeug"),
    Style("app-run", FLASK + MAIN + "app.run(port=@PORT@)\n", "python main.py", SCRIPT),
    Style("app-run-debug", FLASK + MAIN + "app.run(debug=True, port=@PORT@)\n", "python main.py", SCRIPT, reloader="werkzeug"),
]


@dataclass
class Started:
    """A style, running, with version 1 saved and ready."""

    style: Style
    run: Run
    folder: Path
    port: int

    def save(self, version: int) -> None:
        """Save the app; each version has a length of its own."""
        source = self.style.source.replace("@PORT@", str(self.port)).replace('"v1"', f'"v{version}"')
        save(self.folder / "main.py", source + "#" * version + "\n")

    def get(self, path: str = "/") -> tuple[int, str]:
        return fetch(self.port, path, host=self.style.host)

    def imports(self) -> list[str]:
        """The name under which the app was imported, once for each time."""
        return [line.split()[1] for line in self.run.lines() if line.startswith("imported ")]


Start = Callable[..., Started]


@pytest.fixture
def start(devsup: Callable[..., Run], project: Path, port: int) -> Start:
    def start_style(style: Style, *options: str, env: dict[str, str] | None = None) -> Started:
        command = style.command.replace("@PORT@", str(port)).split()
        started = Started(style, None, project, port)  # type: ignore[arg-type] # the app is saved before it runs
        started.save(1)
        started.run = devsup(*command, options=list(options), env=env)
        started.run.ready()
        return started

    return start_style


@dataclass
class Knocks:
    """What a client found that knocks all the time, each time on a connection of its own."""

    answers: list[str] = field(default_factory=list)
    refused: int = 0
    lost: list[str] = field(default_factory=list)

    def knock(self, started: Started) -> None:
        try:
            status, body = started.get()
        except ConnectionRefusedError:
            self.refused += 1
        except OSError as exc:
            self.lost.append(repr(exc))
        else:
            if status == 200 and re.fullmatch(r"v\d+", body):
                self.answers.append(body)
            else:
                self.lost.append(f"{status} {body!r}")


@contextmanager
def knocking(started: Started) -> Iterator[Knocks]:
    knocks, over = Knocks(), threading.Event()

    def knock() -> None:
        while not over.wait(0.01):
            knocks.knock(started)

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield knocks
    finally:
        over.set()
        thread.join()


def listeners(port: int) -> set[str]:
    """The inodes of the sockets that listen on this port; empty where the kernel has no such table."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        rows = table.read_text().splitlines()[1:] if table.exists() else []
        for columns in map(str.split, rows):
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(columns[9])
    return found


def assert_kept_over_reloads(started: Started, reloads: int) -> None:
    run, before = started.run, listeners(started.port)
    with knocking(started) as knocks:
        for version in range(2, reloads + 2):
            started.save(version)
            run.ready(version)
            assert started.get() == (200, f"v{version}")
    assert (knocks.refused, knocks.lost) == (0, []), run.story()
    versions = [int(answer[1:]) for answer in knocks.answers]
    assert versions == sorted(versions), "an answer from old code came after one from new code"
    assert len(versions) >= reloads
    urls = [event["url"] for event in run.all("ListenerKept")]
    assert len(urls) == len(set(urls)) >= 1
    assert len(urls) == len(listeners(started.port)) or not before
    assert run.all("ListenerClosed") == []
    assert listeners(started.port) == before
    assert len(run.all("WorkerReady")) == reloads + 1
    assert run.all("PlaceholderShown") == []
    assert run.all("Trouble") == []


def assert_drained_on_save(started: Started) -> None:
    run = started.run
    with ThreadPoolExecutor(1) as pool:
        try:
            slow = pool.submit(started.get, "/slow")
            run.wait_for_line("slow begins")
            started.save(2)
            waiting = run.wait_for("ReloadWaiting")
            assert [active["name"] for active in waiting["active"]] == ["GET /slow"]
            assert waiting["generation"] == 1
            assert not slow.done(), slow.result()
            assert started.get() == (200, "v1"), "the old code serves while a request is waited for"
            assert run.all("WorkerSpawned", generation=2) == []
        finally:
            (started.folder / "release").touch()
        status, body = slow.result()
    assert status == 200
    assert body == "v1 " * 20000
    run.ready(2)
    assert started.get() == (200, "v2")
    assert run.all("WorkLost") == []
    assert run.wait_for("WorkerExited", generation=1)["expected"]
    assert len(run.all("WorkerExited")) == 1
    reloaded = run.wait_for("Reloaded", generation=2)
    assert [Path(file).name for file in reloaded["files"]] == ["main.py"]


def assert_started_once(started: Started) -> None:
    """One import a worker, the environment of a reloader's child, the app's own reloader off."""
    workers = len(started.run.all("WorkerSpawned"))
    assert sorted(started.imports()) == sorted(started.style.imports * workers)
    off = [event["name"] for event in started.run.all("ReloaderOff")]
    assert off == ([started.style.reloader] if started.style.reloader else [])
    facts: dict[str, Any] = json.loads(started.get("/about")[1])
    assert facts["run_main"] == "true"
    assert set(started.style.modules) <= set(facts["modules"])


@pytest.mark.parametrize("reloads", [3, pytest.param(10, marks=pytest.mark.soak)])
@pytest.mark.parametrize("style", thinned(STYLES, 0, 4), ids=str)
def test_serves_and_keeps_its_listener_over_reloads(start: Start, style: Style, reloads: int) -> None:
    started = start(style)
    assert started.get() == (200, "v1")
    assert_started_once(started)
    assert_kept_over_reloads(started, reloads)
    assert_started_once(started)
    assert started.run.stop() == 0
    assert [each["exit"] for each in started.run.all("WorkerExited") if each["exit"]["signal"] == signal.SIGKILL] == []


@pytest.mark.parametrize("style", thinned(STYLES, 1, 4), ids=str)
def test_a_save_waits_for_an_active_request_and_then_brings_new_code(start: Start, style: Style) -> None:
    started = start(style)
    assert_drained_on_save(started)
    assert started.run.stop() == 0


DUPLICATE = """
import os, socket
VERSION = "v1"
server = socket.create_server(("127.0.0.1", int(os.environ["APP_PORT"])))
twin = server.dup()  # makes the one that both share block again
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 2\\r\\n\\r\\n" + VERSION.encode())
    connection.close()
"""


def test_a_duplicate_of_the_listener_blocks_no_reload(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "main.py", DUPLICATE)
    run = devsup("python", "main.py", env={"APP_PORT": str(port)})
    run.ready()
    assert fetch(port) == (200, "v1")
    save(project / "main.py", DUPLICATE.replace('"v1"', '"v2"') + "#")
    run.ready(2)
    assert fetch(port) == (200, "v2")
    assert run.stop() == 0
    assert [each["exit"]["signal"] for each in run.all("WorkerExited") if each["exit"]["signal"] == signal.SIGKILL] == []


def answer_at(host: str, port: int) -> tuple[int, str] | None:
    """What is answered there; None where the connection is refused at once or the address does not exist."""
    try:
        return fetch(port, host=host)
    except TimeoutError:
        raise
    except OSError:
        return None


def test_localhost_answers_on_every_address_it_has_or_refuses_there_at_once(start: Start) -> None:
    started = start(next(style for style in STYLES if style.name == "run-localhost"))
    for version in (1, 2):
        if version > 1:
            started.save(version)
            started.run.ready(version)
        answers = [answer_at(host, started.port) for host in ("127.0.0.1", "::1")]
        assert set(answers) - {None} == {(200, f"v{version}")}
        assert started.get() == (200, f"v{version}")


# -- a virtual environment that is not devsup's own ---------------------------------------------------------------------

UVICORN_ALONE = ("uvicorn", "h11", "click", "typing_extensions")
WERKZEUG_ALONE = ("werkzeug", "markupsafe")


@pytest.fixture(scope="session")
def other_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("other") / "env", sys.executable, UVICORN_ALONE)


@dataclass(frozen=True)
class Choice:
    """A way to choose an interpreter: options, command, environment, where it shows."""

    reason: str
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    dot_venv: bool = False

    def __str__(self) -> str:
        return self.reason


CHOICES = [
    Choice("--python", ("--python", "@ENV@")),
    Choice("VIRTUAL_ENV", variables=(("VIRTUAL_ENV", "@ENV@"),)),
    Choice(".venv", variables=(("VIRTUAL_ENV", ""),), dot_venv=True),
]


def start_elsewhere(start: Start, choice: Choice, style: Style, environment: Path, folder: Path) -> Started:
    """The style under the environment that `choice` chooses; asserts that it was chosen, and why."""
    if choice.dot_venv:
        (folder / ".venv").symlink_to(environment)
    options = [word.replace("@ENV@", str(environment)) for word in choice.options]
    env = {key: value.replace("@ENV@", str(environment)) for key, value in choice.variables}
    started = start(style, *options, env=env)
    begun = started.run.wait_for("ServiceStarted")
    assert begun["reason"] == choice.reason
    facts = json.loads(started.get("/about")[1])
    python = (folder / ".venv" if choice.dot_venv else environment) / "bin" / "python"
    assert Path(begun["interpreter"]).parent == python.parent
    assert Path(facts["executable"]).parent.resolve() == python.parent.resolve()
    assert facts["devsup"] is False
    return started


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_console_script_of_another_environment_without_devsup_keeps_its_listener(
    start: Start, choice: Choice, other_environment: Path, project: Path
) -> None:
    style = Style("console-script", ASGI, "uvicorn main:app --port @PORT@ --reload", reloader="uvicorn")
    started = start_elsewhere(start, choice, style, other_environment, project)
    assert started.run.ready()["server"] == "uvicorn"
    assert_kept_over_reloads(started, 3)
    assert_started_once(started)
    assert started.run.stop() == 0


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("command", ["uvicorn main:app --port @PORT@", "main:app --port @PORT@"], ids=["script", "target"])
def test_another_environment_without_devsup_drains_on_a_save(
    start: Start, choice: Choice, command: str, other_environment: Path, project: Path
) -> None:
    started = start_elsewhere(start, choice, Style("console-script", ASGI, command), other_environment, project)
    assert_drained_on_save(started)
    assert started.run.stop() == 0


def test_a_console_script_named_by_its_path_runs_in_its_own_environment(start: Start, other_environment: Path) -> None:
    style = Style("script-path", ASGI, f"{other_environment / 'bin' / 'uvicorn'} main:app --port @PORT@")
    started = start(style)
    assert json.loads(started.get("/about")[1])["devsup"] is False
    assert_drained_on_save(started)
    assert started.run.stop() == 0


OTHER_PYTHONS = [
    ("3.9", WERKZEUG_ALONE, Style("werkzeug", WSGI, "main:app --port @PORT@")),
    ("3.13", UVICORN_ALONE, Style("uvicorn", ASGI, "uvicorn main:app --port @PORT@ --reload", reloader="uvicorn")),
]


@pytest.mark.parametrize(("version", "packages", "style"), OTHER_PYTHONS, ids=[version for version, _, _ in OTHER_PYTHONS])
def test_an_older_or_newer_python_than_devsups_own(
    start: Start, version: str, packages: tuple[str, ...], style: Style, tmp_path: Path, project: Path
) -> None:
    environment = make_environment(tmp_path / "env", find_python(version), packages)
    started = start_elsewhere(start, CHOICES[0], style, environment, project)
    assert started.run.ready()["python"].startswith(version + ".")
    assert json.loads(started.get("/about")[1])["python"] == version
    assert_kept_over_reloads(started, 3)
    assert_started_once(started)
    assert started.run.stop() == 0


@pytest.mark.parametrize(("version", "packages", "style"), OTHER_PYTHONS, ids=[version for version, _, _ in OTHER_PYTHONS])
def test_an_older_or_newer_python_drains_on_a_save(
    start: Start, version: str, packages: tuple[str, ...], style: Style, tmp_path: Path, project: Path
) -> None:
    environment = make_environment(tmp_path / "env", find_python(version), packages)
    started = start_elsewhere(start, CHOICES[0], style, environment, project)
    assert_drained_on_save(started)
    assert started.run.stop() == 0


def test_a_stranger_cannot_take_the_port_while_the_worker_is_being_exchanged(start: Start) -> None:
    """The listener is held by devsup itself: a bind of the port fails at any moment of ten reloads."""
    started = start(next(style for style in STYLES if style.name == "uvicorn-asyncio-h11"))
    taken, tried, over = [], [0], threading.Event()

    def grab() -> None:
        while not over.wait(0.001):
            tried[0] += 1
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    sock.bind(("127.0.0.1", started.port))
                except OSError:
                    continue
                taken.append(tried[0])

    thread = threading.Thread(target=grab)
    thread.start()
    try:
        for version in range(2, RELOADS + 2):
            started.save(version)
            started.run.ready(version)
    finally:
        over.set()
        thread.join()
    assert taken == []
    assert tried[0] > RELOADS
    wait_until(lambda: started.get() == (200, f"v{RELOADS + 1}"), 5)
