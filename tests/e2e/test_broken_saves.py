"""A broken save breaks nothing that ran; while nothing can run, clients get a 503 with the reason, and the next save mends it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import LIMIT, Event, Run, fetch, free_port, save, wait_until

Start = Callable[..., Run]

ASGI = """
import asyncio
import os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

VERSION = "@VERSION@"

async def home(request):
    return PlainTextResponse(VERSION)

async def held(request):
    print("begins", flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    return PlainTextResponse("held " + VERSION)

app = Starlette(routes=[Route("/", home, methods=["GET", "POST"]), Route("/held", held)])
"""

WSGI = """
import os
import time
from flask import Flask

VERSION = "@VERSION@"
app = Flask(__name__)

@app.route("/", methods=["GET", "POST"])
def home():
    return VERSION

@app.get("/held")
def held():
    print("begins", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    return "held " + VERSION
"""

SERVERS = ["uvicorn", "flask"]
NO_MODULE = "import there_is_no_such_module\n"
REASON = "No module named 'there_is_no_such_module'"


class App:
    """The app of one test: its code by version, and devsup in front of it."""

    def __init__(self, start: Start, project: Path, port: int, server: str) -> None:
        self._start, self.project, self.port, self.server = start, project, port, server
        self.main = project / "main.py"
        self.save(1)

    def code(self, version: int) -> str:
        """The source of this version."""
        return (WSGI if self.server == "flask" else ASGI).replace("@VERSION@", label(version))

    def save(self, version: int, before: str = "") -> None:
        """Write this version of its code."""
        save(self.main, before + self.code(version))

    def start(self, *options: str) -> Run:
        """Start it, in whatever state it is."""
        uvicorn = ["uvicorn", "main:app", "--port", str(self.port)]
        flask = ["flask", "--app", "main", "run", "--port", str(self.port)]
        return self._start(*(flask if self.server == "flask" else uvicorn), options=list(options))

    def run(self, *options: str) -> Run:
        """Start it, and wait until it serves."""
        run = self.start(*options)
        run.ready()
        assert fetch(self.port) == (200, label(1))
        return run

    def broken(self) -> Run:
        """Started, and broken by a save."""
        run = self.run()
        self.save(2, NO_MODULE)
        run.wait_for("PlaceholderShown")
        return run


@pytest.fixture(params=SERVERS)
def app(devsup: Start, project: Path, port: int, request: pytest.FixtureRequest) -> App:
    """The app, on each server."""
    return App(devsup, project, port, request.param)


@pytest.fixture
def asgi(devsup: Start, project: Path, port: int) -> App:
    """The app, on uvicorn."""
    return App(devsup, project, port, "uvicorn")


def label(version: int) -> str:
    """Each of another length: a compiled file of the version before is never taken for this one's."""
    return f"v{version}" + "." * version


def exchange(port: int, *data: bytes, pause: float = 0.0) -> bytes:
    """All that comes back, until the other side closes; `pause` between the pieces sent. A reset is an error."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        for piece in data:
            sock.sendall(piece)
            time.sleep(pause)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
        return answer


def nothing_else_happens(run: Run, project: Path, *, but: int = 0) -> None:
    """All saves so far have been looked at, and no more than `but` reloads began: a later save, of a stranger, is named."""
    stranger = project / f"stranger_{len(run.events)}.py"
    save(stranger, "print('never imported')\n")
    run.wait_for("ChangeIgnored", path=str(stranger))
    assert len(run.all("ReloadStarted")) == but, run.story()


# -- syntax errors ----------------------------------------------------------------------------------------------------


def test_a_syntax_error_stops_nothing_and_its_fix_brings_new_code(app: App) -> None:
    run = app.run()
    lines = app.code(2).splitlines()
    lines[3] = "def broken(:"
    save(app.main, "\n".join(lines))
    broken = run.wait_for("SyntaxBroken")
    assert broken["serving"]
    (file,) = broken["files"]
    assert (file["path"], file["line"]) == (str(app.main), 4)
    assert file["problem"]
    assert "def broken(:" in file["source"]
    assert fetch(app.port) == (200, label(1))
    nothing_else_happens(run, app.project)
    app.save(2)
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert len(run.all("SyntaxBroken")) == 1
    assert not run.all("PlaceholderShown")


BROKEN: list[bytes] = [b"x = 1\n\tif x:\n", b"x = 'open\n", b"x = 1\0\n", b"x = 'caf\xe9'\n", b"return 1\n", b"x = (1,\n"]


@pytest.mark.parametrize("content", BROKEN, ids=["indent", "quote", "nul", "latin-1", "return", "paren"])
def test_whatever_does_not_compile_stops_nothing(asgi: App, content: bytes) -> None:
    part = asgi.project / "part.py"
    part.write_text("VALUE = 1\n")
    asgi.save(1, "import part\n")
    run = asgi.run()
    part.write_bytes(content)
    (file,) = run.wait_for("SyntaxBroken")["files"]
    assert file["path"] == str(part)
    nothing_else_happens(run, asgi.project)
    assert fetch(asgi.port) == (200, label(1))
    part.write_text("VALUE = 22\n")
    run.ready(2)


def test_each_file_that_does_not_compile_is_named(asgi: App) -> None:
    part = asgi.project / "part.py"
    part.write_text("VALUE = 1\n")
    asgi.save(1, "import part\n")
    run = asgi.run()
    part.write_text("VALUE = (\n")
    run.wait_for("SyntaxBroken")
    save(asgi.main, "def broken(:\n")
    both = run.wait_for("SyntaxBroken", 2)
    assert sorted(file["path"] for file in both["files"]) == [str(asgi.main), str(part)]
    asgi.save(2, "import part\n")
    assert [file["path"] for file in run.wait_for("SyntaxBroken", 3)["files"]] == [str(part)], "one of two is mended"
    nothing_else_happens(run, asgi.project)
    assert fetch(asgi.port) == (200, label(1))
    part.write_text("VALUE = 333\n")
    run.ready(2)
    assert fetch(asgi.port) == (200, label(2))


def test_a_syntax_error_that_is_undone_is_no_reload(asgi: App) -> None:
    run = asgi.run()
    save(asgi.main, "def broken(:\n")
    run.wait_for("SyntaxBroken")
    asgi.save(1)
    nothing_else_happens(run, asgi.project)
    assert fetch(asgi.port) == (200, label(1))
    asgi.save(2)
    run.ready(2)


def test_a_syntax_error_while_a_reload_waits_keeps_the_old_worker(app: App) -> None:
    """The request is answered, no worker with the broken code is started, and the fix is reloaded."""
    run = app.run()
    with socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as sock:
        sock.sendall(b"GET /held HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        run.wait_for_line("begins")
        app.save(2)
        run.wait_for("ReloadWaiting")
        save(app.main, "def broken(:\n")
        run.wait_for("SyntaxBroken")
        run.wait_for("ReloadCancelled")
        (app.project / "go").touch()
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    nothing_else_happens(run, app.project, but=1)
    assert fetch(app.port) == (200, label(1))
    app.save(3)
    run.ready(2)
    assert fetch(app.port) == (200, label(3))


# -- import errors ----------------------------------------------------------------------------------------------------


def test_an_import_error_is_answered_with_503_and_its_fix_brings_new_code(app: App) -> None:
    run = app.broken()
    status, body = fetch(app.port)
    assert status == 503
    assert REASON in body
    assert REASON in run.wait_for("WorkerFailed")["tail"]
    assert fetch(app.port, "/any/path?x=1", method="DELETE")[0] == 503
    app.save(3)
    run.ready(3)
    assert fetch(app.port) == (200, label(3))
    assert run.stop() == 0


def test_two_broken_saves_in_a_row_show_the_second_reason(app: App) -> None:
    run = app.broken()
    save(app.main, "raise RuntimeError('the second reason')\n")
    wait_until(lambda: "the second reason" in fetch(app.port)[1], story=run.story)
    status, body = fetch(app.port)
    assert status == 503
    assert "the second reason" in body
    assert REASON not in body
    app.save(3)
    wait_until(lambda: fetch(app.port) == (200, label(3)), story=run.story)


def test_who_came_while_the_broken_worker_booted_is_answered_too(app: App) -> None:
    run = app.run()
    waits = "import os, time\nprint('boots', flush=True)\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n"
    app.save(2, waits + NO_MODULE)
    run.wait_for_line("boots")
    with socket.create_connection(("127.0.0.1", app.port), timeout=LIMIT) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        (app.project / "go").touch()
        assert sock.recv(65536).startswith(b"HTTP/1.1 503 ")


def test_the_503_is_a_whole_answer_on_a_connection_that_is_closed_cleanly(asgi: App) -> None:
    asgi.broken()
    head, _, body = exchange(asgi.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nConnection: close" in head
    assert f"\r\nContent-Length: {len(body)}".encode() in head


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_a_post_that_is_still_sending_200_kb_gets_the_503(asgi: App, pause: float) -> None:
    """Closed too early, the connection would be reset and the answer lost."""
    asgi.broken()
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
    answer = exchange(asgi.port, head, *[b"x" * 10_000] * 20, pause=pause)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert REASON.encode() in answer


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500, b"hello there, this is no HTTP\r\n\r\n", b"SSH-2.0-x\r\n"],
)
def test_what_is_not_http_is_closed_without_an_answer(asgi: App, data: bytes) -> None:
    asgi.broken()
    with contextlib.suppress(ConnectionResetError):
        assert exchange(asgi.port, data) == b""
    assert fetch(asgi.port)[0] == 503


def test_a_client_that_says_nothing_holds_nobody(asgi: App) -> None:
    run = asgi.broken()
    with socket.create_connection(("127.0.0.1", asgi.port), timeout=LIMIT) as silent:
        assert fetch(asgi.port)[0] == 503
        asgi.save(3)
        run.ready(3)
        assert fetch(asgi.port) == (200, label(3))
        with silent:
            assert silent.recv(1) == b""


def test_who_is_half_way_through_asking_when_the_fix_comes_is_answered(asgi: App) -> None:
    """Once accepted, a client gets its answer; nobody is reset because a new worker starts."""
    run = asgi.broken()
    with socket.create_connection(("127.0.0.1", asgi.port), timeout=LIMIT) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert fetch(asgi.port)[0] == 503
        asgi.save(3)
        run.wait_for("WorkerSpawned", generation=3)
        sock.sendall(b"host\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 503 ")
    run.ready(3)
    assert fetch(asgi.port) == (200, label(3))


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80"])
def test_a_foreign_host_name_does_not_get_the_traceback(asgi: App, host: str) -> None:
    """A page of another site, whose name was made to lead here, must not read the code."""
    asgi.broken()
    answer = exchange(asgi.port, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"there_is_no_such_module" not in answer
    assert b"Traceback" not in answer
    assert b"there_is_no_such_module" in exchange(asgi.port, b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n")
    assert b"there_is_no_such_module" in exchange(asgi.port, b"GET / HTTP/1.1\r\nhost:127.0.0.1\r\n\r\n")


def test_a_missing_module_that_is_created_mends_it(app: App) -> None:
    """Any file of the project may be the one: nothing is known to be imported."""
    run = app.broken()
    save(app.project / "there_is_no_such_module.py", "")
    run.ready(3)
    assert fetch(app.port) == (200, label(2))


def test_a_broken_save_that_is_undone_brings_the_old_code_back(app: App) -> None:
    run = app.broken()
    app.save(1)
    run.ready(3)
    assert fetch(app.port) == (200, label(1))


# -- the first start --------------------------------------------------------------------------------------------------


def test_a_first_start_that_fails_answers_on_its_port_and_recovers_on_a_save(app: App) -> None:
    app.save(1, NO_MODULE)
    run = app.start()
    shown = run.wait_for("PlaceholderShown")
    assert shown["urls"] == [f"http://127.0.0.1:{app.port}"]
    status, body = fetch(app.port)
    assert status == 503
    assert REASON in body
    app.save(2)
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert run.stop() == 0


def test_a_first_start_with_a_syntax_error_recovers_on_a_save(app: App) -> None:
    app.save(1, "def broken(:\n")
    run = app.start()
    run.wait_for("PlaceholderShown")
    status, body = fetch(app.port)
    assert status == 503
    assert "def broken(:" in body
    app.save(2)
    run.ready(2)
    assert fetch(app.port) == (200, label(2))


def test_a_script_that_fails_before_its_port_is_known_recovers_on_a_save(devsup: Start, asgi: App) -> None:
    serve = f"\nimport uvicorn\nuvicorn.run(app, port={asgi.port})\n"
    save(asgi.main, NO_MODULE + asgi.code(1) + serve)
    run = devsup("python", "main.py")
    assert REASON in run.wait_for("WorkerFailed")["tail"]
    save(asgi.main, asgi.code(2) + serve)
    run.ready(2)
    assert fetch(asgi.port) == (200, label(2))


def test_a_start_up_that_fails_is_answered_with_503(asgi: App) -> None:
    """Uvicorn itself ends then, with exit code 3."""
    run = asgi.run()
    failing = """
import contextlib

@contextlib.asynccontextmanager
async def lifespan(app):
    raise RuntimeError("no database")
    yield

app = Starlette(lifespan=lifespan)
"""
    save(asgi.main, asgi.code(2) + failing)
    run.wait_for("PlaceholderShown")
    status, body = fetch(asgi.port)
    assert status == 503
    assert "no database" in body
    asgi.save(3)
    run.ready(3)


@pytest.mark.parametrize("first", [True, False], ids=["first-start", "after-a-save"])
def test_exit_on_failure_ends_with_1(app: App, first: bool) -> None:
    if first:
        app.save(1, NO_MODULE)
        run = app.start("--exit-on-failure")
    else:
        run = app.run("--exit-on-failure")
        app.save(2, NO_MODULE)
    assert run.wait() == 1
    failed: Event = run.all("WorkerFailed")[0]
    assert REASON in failed["tail"]
    assert not run.all("PlaceholderShown")


# -- newer syntax -----------------------------------------------------------------------------------------------------


def newer_python() -> str:
    """An interpreter that knows syntax which devsup's own does not, with what uvicorn needs (pure Python) on its path."""
    beside = Path(sys.base_prefix).parent  # where version managers put them
    for minor in (15, 14, 13, 12):
        known = [str(path) for path in beside.glob(f"*/bin/python3.{minor}")]
        found = known[0] if known else shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "-c", "import sys"], check=False).returncode == 0:
            return found
    pytest.skip("there is no newer Python on PATH than devsup's own")


def test_syntax_that_is_newer_than_devsups_own_python_reloads(devsup: Start, project: Path, environment: dict[str, str]) -> None:
    """It is the project's interpreter that compiles: PEP 695 and 701."""
    import uvicorn

    python, port = newer_python(), free_port()
    source = (
        "async def app(scope, receive, send):\n    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
    )
    source += "    await send({'type': 'http.response.body', 'body': VERSION})\n"
    save(project / "main.py", f"VERSION = b'{label(1)}'\n{source}")
    packages = str(Path(uvicorn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [packages, environment.get("PYTHONPATH")]))
    words = [
        "python",
        "-m",
        "uvicorn",
        "main:app",
        "--port",
        str(port),
        "--http",
        "h11",
        "--loop",
        "asyncio",
        "--lifespan",
        "off",
    ]
    run = devsup(*words, options=["--python", python], env={"PYTHONPATH": path})
    run.ready()
    newer = "type Pair[T] = tuple[T, T]\nshown = f'{', '.join(['a', 'b'])}'\n"
    save(project / "main.py", f"VERSION = b'{label(2)}'\n{newer}{source}")
    run.ready(2)
    assert fetch(port) == (200, label(2))
    assert not run.all("SyntaxBroken")
