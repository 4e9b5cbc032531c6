"""Work that goes on after the answer: tasks, jobs and threads that a request has left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import Event, Run, fetch, save, thinned, wait_until

Start = Callable[..., Run]

# What a request leaves behind ends when the test makes a file.
ASGI = """
import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

VERSION = "@VERSION@"
pool, kept, elsewhere = ThreadPoolExecutor(4), set(), asyncio.new_event_loop()
threading.Thread(target=elsewhere.run_forever, daemon=True).start()

def wait_for(name):
    print(f"begins {name}\\n", end="", flush=True)
    while not os.path.exists(name):
        time.sleep(0.01)
    print(f"ends {name}\\n", end="", flush=True)

async def analysis(name):
    print(f"begins {name}\\n", end="", flush=True)
    while not os.path.exists(name):
        await asyncio.sleep(0.01)
    print(f"ends {name}\\n", end="", flush=True)

def keep(task):
    kept.add(task)
    task.add_done_callback(kept.discard)

async def starts_another(name):
    keep(asyncio.create_task(analysis(name)))

def starts_a_thread(name):
    threading.Thread(target=wait_for, args=(name,)).start()

async def forever(name):
    print(f"begins {name}\\n", end="", flush=True)
    while True:
        await asyncio.sleep(0.01)

def reads_forever(name):
    print(f"begins {name}\\n", end="", flush=True)
    while True:
        time.sleep(0.01)

async def leave(kind, name):
    loop = asyncio.get_running_loop()
    if kind == "create_task":
        keep(asyncio.create_task(analysis(name)))
    elif kind == "ensure_future":
        keep(asyncio.ensure_future(analysis(name)))
    elif kind == "loop.create_task":
        keep(loop.create_task(analysis(name)))
    elif kind == "task group":
        group.start_soon(analysis, name)
    elif kind == "nested":
        keep(asyncio.create_task(starts_another(name)))
    elif kind == "wait_for":
        keep(asyncio.create_task(asyncio.wait_for(analysis(name), 60)))
    elif kind == "to_thread":
        keep(asyncio.create_task(asyncio.to_thread(wait_for, name)))
    elif kind == "run_in_executor":
        loop.run_in_executor(None, wait_for, name)
    elif kind == "submit":
        pool.submit(wait_for, name)
    elif kind == "thread":
        threading.Thread(target=wait_for, args=(name,)).start()
    elif kind == "timer":
        threading.Timer(0.01, wait_for, (name,)).start()
    elif kind == "thread of a job":
        pool.submit(starts_a_thread, name)
    elif kind == "thread of a sync endpoint":
        await run_in_threadpool(starts_a_thread, name)
    elif kind == "another loop":
        asyncio.run_coroutine_threadsafe(analysis(name), elsewhere)
    elif kind == "many":
        for _ in range(2000):
            keep(asyncio.create_task(analysis_quiet(name)))
    elif kind == "scheduler":
        keep(asyncio.create_task(forever(name)))
    elif kind == "reader":
        threading.Thread(target=reads_forever, args=(name,), daemon=True).start()
    elif kind == "brief":
        keep(asyncio.create_task(asyncio.sleep(0.7)))
        keep(asyncio.create_task(brief()))
    elif kind == "idle":
        await run_in_threadpool(int)
        await loop.run_in_executor(None, int)
        pool.submit(int)
        keep(asyncio.create_task(asyncio.Queue().get()))

async def analysis_quiet(name):
    while not os.path.exists(name):
        await asyncio.sleep(0.05)

async def brief():
    await asyncio.sleep(0.7)
    print("done", flush=True)

async def left(request):
    await leave(request.query_params["kind"], request.query_params.get("until", "go"))
    return PlainTextResponse("answered")

async def socket(ws):
    await ws.accept()
    await ws.receive_text()
    keep(asyncio.create_task(analysis("go")))
    await ws.close()

async def sink(ws):
    await ws.accept()
    async for _ in ws.iter_text():
        pass

async def behind(request):
    return PlainTextResponse("answered", background=BackgroundTask(analysis, "go"))

async def home(request):
    return PlainTextResponse(VERSION)

async def census(request):
    from devsup_agent.agent import agent
    gc.collect()
    cycles = sum(type(each).__name__ == "RequestResponseCycle" for each in gc.get_objects())
    return PlainTextResponse(f"{cycles} {len(agent.background._jobs)} {len(agent.background._young)}")

@contextlib.asynccontextmanager
async def lifespan(app):
    global group
    keep(asyncio.create_task(forever("startup")))
    async with anyio.create_task_group() as group:
        group.start_soon(forever, "group")
        yield
        group.cancel_scope.cancel()

app = Starlette(lifespan=lifespan, routes=[
    Route("/", home),
    Route("/left", left, methods=["POST"]),
    Route("/behind", behind, methods=["POST"]),
    Route("/census", census),
    WebSocketRoute("/ws", socket),
    WebSocketRoute("/sink", sink),
])
"""

WSGI = """
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from flask import Flask, request

VERSION = "@VERSION@"
app, pool = Flask(__name__), ThreadPoolExecutor(4)

def wait_for(name):
    print(f"begins {name}\\n", end="", flush=True)
    while not os.path.exists(name):
        time.sleep(0.01)
    print(f"ends {name}\\n", end="", flush=True)

def starts_another(name):
    threading.Thread(target=wait_for, args=(name,)).start()

def reads_forever(name):
    print(f"begins {name}\\n", end="", flush=True)
    while True:
        time.sleep(0.01)

class Worker(threading.Thread):
    def run(self):
        wait_for("go")

threading.Thread(target=reads_forever, args=("import",), daemon=True).start()

@app.get("/")
def home():
    return VERSION

@app.post("/left")
def left():
    kind, name = request.args["kind"], request.args.get("until", "go")
    if kind == "thread":
        threading.Thread(target=wait_for, args=(name,)).start()
    elif kind == "subclass":
        Worker().start()
    elif kind == "timer":
        threading.Timer(0.01, wait_for, (name,)).start()
    elif kind == "submit":
        pool.submit(wait_for, name)
    elif kind == "nested":
        threading.Thread(target=starts_another, args=(name,)).start()
    elif kind == "reader":
        threading.Thread(target=reads_forever, args=(name,), daemon=True).start()
    elif kind == "idle":
        pool.submit(int)
    return "answered"
"""

FLASK = "flask"
COMMANDS = {
    FLASK: "flask --app main run --port @PORT@",
    "hypercorn": "hypercorn main:app --bind 127.0.0.1:@PORT@",
    "gunicorn": "gunicorn main:app --worker-class gthread --threads 4 --bind 127.0.0.1:@PORT@",
    "waitress": "waitress-serve --listen 127.0.0.1:@PORT@ main:app",
}
WSGI_SERVERS = {FLASK, "gunicorn", "waitress"}
ORIGIN = "POST /left"
TASKS = {
    "create_task": "analysis",
    "ensure_future": "analysis",
    "loop.create_task": "analysis",
    "task group": "analysis",
    "nested": "analysis",
    "wait_for": "analysis",
    "to_thread": "wait_for",
    "run_in_executor": "wait_for",
    "submit": "wait_for",
    "thread": "wait_for",
    "timer": "wait_for",
    "thread of a job": "wait_for",
    "thread of a sync endpoint": "wait_for",
    "another loop": "analysis",
}
THREADS = {"thread": "wait_for", "subclass": "Worker.run", "timer": "wait_for", "submit": "wait_for", "nested": "wait_for"}
KINDS = [
    *thinned(("asyncio", kind) for kind in TASKS),
    *(pytest.param("uvloop", kind, marks=pytest.mark.soak) for kind in TASKS),
    *thinned((FLASK, kind) for kind in THREADS),
    *(("hypercorn", kind) for kind in ("create_task", "submit")),
    *((server, kind) for server in ("gunicorn", "waitress") for kind in ("thread", "submit")),
]


class App:
    """The app of one test, and devsup in front of it."""

    def __init__(self, start: Start, project: Path, port: int) -> None:
        self._start, self.project, self.port = start, project, port
        self.source = ASGI

    def save(self, version: int) -> None:
        """Write this version of its code."""
        save(self.project / "main.py", self.source.replace("@VERSION@", label(version)))

    def run(self, *options: str, server: str = "asyncio", config: str = "") -> Run:
        """Start it, and wait until it serves."""
        command = COMMANDS.get(server, f"uvicorn main:app --port @PORT@ --loop {server}")
        if server in WSGI_SERVERS:
            self.source = WSGI
        if config:
            (self.project / "devsup.toml").write_text(f"[services.web]\n{config}\n")
        self.save(1)
        run = self._start(*command.replace("@PORT@", str(self.port)).split(), options=list(options))
        run.ready()
        return run

    def leave(self, run: Run, kind: str, name: str = "go") -> None:
        """A request that is answered, and whose work goes on until `let(name)`."""
        seen = run.lines().count(f"begins {name}")
        assert fetch(self.port, f"/left?kind={kind.replace(' ', '+')}&until={name}", method="POST") == (200, "answered")
        wait_until(lambda: run.lines().count(f"begins {name}") > seen, story=run.story)

    def let(self, name: str) -> None:
        """End what waits for the file `name`."""
        (self.project / name).touch()


@pytest.fixture
def app(devsup: Start, project: Path, port: int) -> App:
    """The app, not yet started."""
    return App(devsup, project, port)


def label(version: int) -> str:
    """Each of another length: a compiled file of the version before is never taken for this one's."""
    return f"v{version}" + "." * version


def left(event: Event) -> list[tuple[str, str, int]]:
    """What a reload waits for, of what requests have left behind."""
    return [(each["name"], each["origin"], each["count"]) for each in event["active"] if each["origin"]]


@pytest.mark.parametrize(("server", "kind"), KINDS)
def test_work_after_the_answer_is_waited_for_and_named(app: App, server: str, kind: str) -> None:
    run = app.run(server=server)
    name = (THREADS if server in WSGI_SERVERS else TASKS)[kind]
    app.leave(run, kind)
    app.save(2)
    assert left(run.wait_for("ReloadWaiting")) == [(name, ORIGIN, 1)]
    assert fetch(app.port) == (200, label(1)), "the site is not closed meanwhile"
    assert "ends go" not in run.lines()
    app.let("go")
    run.ready(2)
    assert "ends go" in run.lines()
    assert fetch(app.port) == (200, label(2))
    assert not run.all("WorkLost")
    assert run.stop() == 0


@pytest.mark.parametrize(("server", "kind"), [("asyncio", "create_task"), ("uvloop", "submit"), (FLASK, "thread")])
def test_work_that_outlives_the_drain_is_named(app: App, server: str, kind: str) -> None:
    run = app.run("--drain-timeout", "0.3", server=server, config="stop_timeout = 0.3")
    app.leave(run, kind)
    app.save(2)
    lost = run.wait_for("WorkLost")
    assert (lost["origin"], lost["count"], lost["generation"]) == (ORIGIN, 1, 1)
    assert lost["name"] == (THREADS if server in WSGI_SERVERS else TASKS)[kind]
    run.ready(2)
    assert len(run.all("WorkLost")) == 1
    app.let("go")


@pytest.mark.parametrize("server", ["asyncio", "uvloop", FLASK])
def test_what_a_request_starts_for_ever_holds_a_reload_once_at_most(app: App, server: str) -> None:
    """For its grace; then it is known, also to the workers that follow."""
    kind, name = ("reader", "reads_forever") if server == FLASK else ("scheduler", "forever")
    run = app.run(server=server, config="background_grace = 1.0")
    app.leave(run, kind)
    app.save(2)
    assert left(run.wait_for("ReloadWaiting")) == [(name, ORIGIN, 1)]
    assert run.wait_for("DaemonLearned")["name"] == name
    for version in (2, 3):
        run.ready(version)
        app.leave(run, kind)
        app.save(version + 1)
    run.ready(4)
    assert not run.all("ReloadWaiting", generation=2)
    assert not run.all("ReloadWaiting", generation=3)
    assert not run.all("WorkLost"), "nobody misses what nobody waits for"
    assert len(run.all("DaemonLearned")) == 1


@pytest.mark.parametrize("server", ["asyncio", FLASK])
def test_a_daemon_is_known_before_the_first_save(app: App, server: str) -> None:
    run = app.run(server=server, config="background_grace = 0.5")
    app.leave(run, "reader")
    assert run.wait_for("DaemonLearned")["origin"] == ORIGIN
    app.save(2)
    run.ready(2)
    assert not run.all("ReloadWaiting")


@pytest.mark.parametrize("server", ["asyncio", "uvloop", *COMMANDS])
def test_what_nobody_has_asked_for_holds_nothing(app: App, server: str) -> None:
    """Tasks and threads of the start; the idle threads of executors; what waits in asyncio's own queue."""
    run = app.run(server=server)
    assert fetch(app.port, "/left?kind=idle", method="POST") == (200, "answered")
    app.save(2)
    run.ready(2)
    assert not run.all("ReloadWaiting")
    assert not run.all("WorkLost")


def test_background_tasks_of_starlette_are_part_of_their_request(app: App) -> None:
    run = app.run()
    assert fetch(app.port, "/behind", method="POST") == (200, "answered")
    run.wait_for_line("begins go")
    app.save(2)
    assert [each["name"] for each in run.wait_for("ReloadWaiting")["active"]] == ["POST /behind"]
    app.let("go")
    run.ready(2)
    assert "ends go" in run.lines()


def test_thousands_of_tasks_are_one_line_and_leave_nothing_in_memory(app: App) -> None:
    run = app.run()
    assert fetch(app.port, "/left?kind=many&until=go", method="POST") == (200, "answered")
    app.save(2)
    assert left(run.wait_for("ReloadWaiting")) == [("analysis_quiet", ORIGIN, 2000)]
    app.save(1)
    run.wait_for("ReloadCancelled")
    app.let("go")
    wait_until(lambda: fetch(app.port, "/census")[1] in {"1 0 0", "2 0 0"}, story=run.story)


@contextmanager
def posting(port: int, pause: float) -> Iterator[list[int]]:
    """A client that leaves some work behind, again and again; the statuses it got."""
    statuses: list[int] = []
    over = threading.Event()

    def post() -> None:
        while not over.wait(pause):
            statuses.append(fetch(port, "/left?kind=brief", method="POST")[0])

    client = threading.Thread(target=post)
    client.start()
    yield statuses
    over.set()
    client.join()


def test_a_steady_client_whose_work_lasts_longer_than_the_gate_loses_nothing(app: App) -> None:
    """As a simulator that posts a point a second, each with seven seconds of analysis: here ten times as fast."""
    run = app.run(config="gate_timeout = 0.5")
    with posting(app.port, 0.1) as statuses:
        wait_until(lambda: len(statuses) > 10)
        app.save(2)
        run.ready(2)
        wait_until(lambda: fetch(app.port) == (200, label(2)))
    assert set(statuses) == {200}
    assert not run.all("WorkLost")


def test_ctrl_c_names_what_does_not_end_in_the_grace_of_streams(app: App) -> None:
    run = app.run(config="stream_grace = 0.2")
    app.leave(run, "create_task")
    assert run.stop() == 0
    assert [(lost["name"], lost["origin"]) for lost in run.all("WorkLost")] == [("analysis", ORIGIN)]


def test_ctrl_c_lets_brief_work_end(app: App) -> None:
    run = app.run()
    assert fetch(app.port, "/left?kind=brief", method="POST") == (200, "answered")
    assert run.stop() == 0
    assert "done" in run.lines()
    assert not run.all("WorkLost")


def test_what_a_websocket_leaves_behind_is_waited_for(app: App) -> None:
    from websockets.sync.client import connect

    run = app.run()
    with connect(f"ws://127.0.0.1:{app.port}/ws", proxy=None) as ws:
        ws.send("begin")
        run.wait_for_line("begins go")
    app.save(2)
    assert left(run.wait_for("ReloadWaiting")) == [("analysis", "WS /ws", 1)]
    app.let("go")
    run.ready(2)
    assert "ends go" in run.lines()
    assert not run.all("WorkLost")


def test_a_telemetry_sink_holds_no_reload(app: App) -> None:
    """Messages ten times a second that nobody ever answers."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    run = app.run("--drain-timeout", "50")
    with connect(f"ws://127.0.0.1:{app.port}/sink", proxy=None) as ws:
        over = threading.Event()

        def send() -> None:
            try:
                while not over.wait(0.1):
                    ws.send("12.5")
            except ConnectionClosed:
                return

        client = threading.Thread(target=send)
        client.start()
        began = time.monotonic()
        app.save(2)
        run.ready(2)
        over.set()
        client.join()
        with pytest.raises(ConnectionClosed):
            ws.recv(5)
        assert ws.protocol.close_code == 1012
    assert time.monotonic() - began < 20, "far from the drain's limit"
    assert not run.all("WorkLost")
