"""The control API and the commands on top of it: every operation, every command, and nobody else's hands on them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openapi_spec_validator
import psutil
import pytest

from harness import LIMIT, Answer, Run, fetch, free_port, save, wait_until

Start = Callable[..., Run]
Ask = Callable[..., Answer]

APP = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

async def home(request):
    return PlainTextResponse("VERSION")

async def slow(request):
    await asyncio.sleep(60)

async def ticks():
    while True:
        yield "data: 1\\n\\n"
        await asyncio.sleep(0.1)

async def stream(request):
    return StreamingResponse(ticks(), media_type="text/event-stream")

app = Starlette(routes=[Route("/", home), Route("/slow", slow), Route("/stream", stream)])
"""


class Served:
    """Two services under `devsup start`, and a client of its control API."""

    def __init__(self, run: Run, port: int, control: str) -> None:
        self.run, self.port, self.control = run, port, control
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=control), base_url="http://devsup", trust_env=False, timeout=LIMIT
        )


@pytest.fixture
def served(team: Start, project: Path) -> Iterator[Served]:
    save(project / "main.py", APP.replace("VERSION", "v1"))
    port = free_port()
    run = team(f"""
[services.web]
command = "uvicorn main:app --port {port}"
env = {{ API_TOKEN = "verysecret123" }}
[services.worker]
command = {[sys.executable, "-u", "-c", "import os, time; print('up', os.getcwd()); time.sleep(100)"]!r}
""")
    for name in ("web", "worker"):
        run.wait_for("WorkerReady", service=name)
    record = json.loads(next((project / ".devsup").glob("web-*.json")).read_text())
    found = Served(run, port, record["control"])
    yield found
    found.http.close()


def test_the_document_is_valid_and_every_operation_in_it_answers_as_it_says(served: Served) -> None:
    document = served.http.get("/openapi.json").json()
    openapi_spec_validator.validate(document)
    asked = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path in {"/v1/down", "/v1/services/{name}/stop"}:
                continue
            where = path.replace("{name}", "web")
            media = next(iter(operation["responses"]["200"]["content"]))
            with served.http.stream(method.upper(), where) as response:
                if path == "/v1/services/{name}/input":
                    assert response.status_code == 409, "it runs piped"
                else:
                    assert response.status_code == 200, path
                    assert response.headers["content-type"].startswith(media)
            asked.add((method, path))
    assert len(asked) == len(document["paths"]) - 2
    assert served.http.get("/v1/nothing").status_code == 404
    unknown = served.http.post("/v1/services/wep/reload")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert "web, worker" in unknown.json()["detail"]


def test_the_socket_is_the_users_alone_and_nothing_listens_on_tcp(served: Served) -> None:
    assert stat.S_IMODE(Path(served.control).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(served.control).parent.stat().st_mode) == 0o700
    served.http.get("/v1")
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=False).stdout
    ours = [line for line in listening.splitlines() if f"pid={served.run.process.pid}," in line]
    assert all(f":{served.port} " in line for line in ours), "but for the listener that it keeps for the service"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_cannot_connect(served: Served) -> None:
    code = (
        "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\n"
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\nexcept PermissionError: sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code, served.control], check=False).returncode == 7


def test_status_tells_how_each_service_stands(served: Served, ask: Ask, project: Path) -> None:
    (project / "deep" / "er").mkdir(parents=True)
    answer = ask("status", "--json", cwd=project / "deep" / "er")
    web, worker = answer.json
    assert answer.code == 0
    assert (web["name"], web["state"], web["generation"], web["active"]) == ("web", "ready", 1, 0)
    assert web["urls"] == [f"http://127.0.0.1:{served.port}"]
    assert web["pid"] == served.run.all("WorkerReady", service="web")[0]["pid"]
    assert web["rss"] > 10 * 2**20
    assert worker["urls"] == []
    table = ask("status").out
    assert re.search(rf"^web +ready .* http://127.0.0.1:{served.port} ", table, re.MULTILINE)
    assert "\x1b" not in table


def test_wait_ends_with_the_reason_as_soon_as_it_cannot_be(served: Served, ask: Ask, project: Path) -> None:
    save(project / "main.py", "import nosuchpackage\n")
    served.run.wait_for("WorkerFailed")
    began = time.monotonic()
    answer = ask("status", "web", "--wait", "ready", "--timeout", "30s")
    assert answer.code == 1
    assert "not ready: web is failed: " in answer.err
    assert "nosuchpackage" in answer.err
    assert time.monotonic() - began < 15, "nothing would have changed by waiting on"
    save(project / "main.py", APP.replace("VERSION", "v2"))
    assert ask("status", "web", "--wait", "ready").code == 0
    late = ask("status", "web", "--wait", "completed", "--timeout", "500ms")
    assert (late.code, "web is ready" in late.err) == (1, True)
    assert ask("status", "nobody").code == 1
    assert ask("status", "--timeout", "soon").code == 2


def test_reload_waits_for_requests_and_restart_does_not(served: Served, ask: Ask) -> None:
    asking = threading.Thread(target=_swallow, args=[lambda: fetch(served.port, "/slow")])
    asking.start()
    wait_until(lambda: ask("status", "web", "--json").json[0]["active"])
    shown = ask("requests", "--json").json
    assert [(each["service"], each["kind"], each["method"], each["path"], each["holds"]) for each in shown] == [
        ("web", "http", "GET", "/slow", True)
    ]
    assert re.search(r"main\.py:\d+ in slow", shown[0]["waits_in"])
    assert "GET /slow" in ask("requests").out
    assert ask("reload", "web").code == 0
    served.run.wait_for("ReloadWaiting")
    state = ask("status", "web", "--json").json[0]
    assert (state["state"], state["reloading"], state["reason"]) == ("draining", True, "GET /slow")
    assert ask("restart", "web").code == 0
    served.run.wait_for("WorkerReady", service="web", generation=2)
    asking.join(LIMIT)
    assert fetch(served.port) == (200, "v1")


def _swallow(act: Callable[[], Any]) -> None:
    with contextlib.suppress(OSError):
        act()


def test_an_endless_stream_is_listed_as_one(served: Served, ask: Ask) -> None:
    with socket.create_connection(("127.0.0.1", served.port), LIMIT) as sock:
        sock.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        assert sock.recv(100)
        wait_until(lambda: [each["kind"] for each in ask("requests", "--json").json] == ["stream"])


def test_stop_ends_one_and_start_brings_it_back_where_it_was(served: Served, ask: Ask) -> None:
    assert ask("stop", "web").code == 0
    served.run.wait_for("Stopped", service="web")
    assert ask("status", "web", "--json").json[0]["state"] == "stopped"
    assert ask("status", "worker").code == 0, "the other goes on"
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", served.port)) != 0, "nothing keeps the port"
    assert ask("start", "web").code == 0
    ready = served.run.wait_for("WorkerReady", 2, service="web")
    assert ready["generation"] == 2, "a number is never used twice"
    assert fetch(served.port) == (200, "v1")
    assert ask("reload", "worker").code == 0
    served.run.wait_for("WorkerReady", 2, service="worker")
    assert ask("reload").code == 2, "which one?"


def test_down_ends_all_and_returns_when_they_are_gone(served: Served, ask: Ask) -> None:
    assert ask("down").code == 0
    assert served.run.wait() == 0
    assert not Path(served.control).exists()
    gone = ask("status")
    assert (gone.code, "No service runs" in gone.err) == (1, True)


def test_stacks_show_where_a_service_stands(served: Served, ask: Ask) -> None:
    found = ask("stacks", "worker", "--json").json
    assert found["service"] == "worker"
    assert ask("stacks").out.count("thread") >= 2


def test_events_come_as_they_happen(served: Served, project: Path) -> None:
    with served.http.stream("GET", "/v1/events", params={"service": "web"}) as response:
        lines = response.iter_lines()
        assert next(lines) == ": devsup"
        save(project / "main.py", APP.replace("VERSION", "v2"))
        names = []
        for line in lines:
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            if line.startswith("data: "):
                assert json.loads(line.removeprefix("data: "))["service"] == "web"
            if names[-1:] == ["Reloaded"]:
                break
    assert names[0] == "ReloadStarted"


def test_logs_are_shown_together_in_order_filtered_and_followed(served: Served, ask: Ask, project: Path) -> None:
    wait_until(lambda: "Uvicorn running" in ask("logs").out)
    both = ask("logs", "-t").out.splitlines()
    assert both == sorted(both, key=lambda line: line[:23])
    assert any(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} worker \| up ", line) for line in both)
    assert ask("logs", "worker").out == f"up {project}\n"
    assert ask("logs", "web", "--grep", "Uvicorn [r]unning", "-n", "1").out.count("\n") == 1
    assert ask("logs", "--since", "1h").out.count("\n") == len(both)
    assert ask("logs", "web", "-n", "0").out == ""
    assert ask("logs", "nobody").code == 2
    assert ask("logs", "--grep", "[").code == 2
    following = subprocess.Popen(
        [sys.executable, "-m", "devsup", "logs", "-f", "web"], cwd=project, stdout=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    try:
        assert "Started server" in following.stdout.readline()
        fetch(served.port, "/followed")
        wait_until(lambda: "/followed" in (following.stdout.readline() if following.stdout else ""))
    finally:
        following.send_signal(signal.SIGINT)
        assert following.wait(LIMIT) == 0
        following.stdout.close()


def test_the_commands_work_on_a_devsup_run_too(devsup: Start, ask: Ask, project: Path) -> None:
    save(project / "main.py", APP.replace("VERSION", "v1"))
    port = free_port()
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    assert ask("status", "--wait", "ready").code == 0
    assert "app" in ask("status").out
    assert ask("requests", "--json").json == []
    assert "thread" in ask("stacks").out
    wait_until(lambda: "Uvicorn running" in ask("logs").out)
    assert ask("reload").code == 0
    run.ready(2)
    assert ask("stop").code == 0
    assert run.wait() == 0


def test_attach_gives_a_prompt_of_a_detached_service_this_terminal(ask: Ask, project: Path, environment: dict[str, str]) -> None:
    code = "x = input('your name? '); print('hello', x, flush=True); import time; time.sleep(100)"
    (project / "devsup.toml").write_text(f"[services.ask]\ncommand = {[sys.executable, '-c', code]!r}\n")
    assert ask("start", "-d").code == 0
    try:
        wait_until(lambda: ask("status", "--json").json[0]["prompting"])
        piped = ask("attach")
        assert (piped.code, "needs a terminal" in piped.err) == (2, True)
        pid, master = pty.fork()
        if not pid:
            os.chdir(project)
            os.execve(sys.executable, [sys.executable, "-m", "devsup", "attach"], environment)
        said = _read_until(master, "your name? ")
        os.write(master, b"joe\r")
        said = _read_until(master, "hello joe")
        os.write(master, b"\x1d")
        _read_until(master, "left ask")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
        os.close(master)
        assert ask("status").code == 0, "it goes on"
    finally:
        assert ask("down").code == 0


def _read_until(fd: int, text: str) -> str:
    said, ends = "", time.monotonic() + LIMIT
    while text not in said and time.monotonic() < ends:
        ready, _, _ = select.select([fd], [], [], 0.1)
        if ready:
            said += os.read(fd, 4096).decode(errors="replace")
    assert text in said
    return said


def test_many_restarts_at_once_leave_one_worker(served: Served, ask: Ask) -> None:
    for _ in range(5):
        served.http.post("/v1/services/web/restart")
        served.http.post("/v1/services/worker/restart")
    assert ask("status", "--wait", "ready").code == 0
    wait_until(lambda: fetch(served.port) == (200, "v1"))
    for name in ("web", "worker"):
        spawned = [each["pid"] for each in served.run.all("WorkerSpawned", service=name)]
        wait_until(lambda spawned=spawned: sum(map(psutil.pid_exists, spawned)) == 1)  # type: ignore[misc]


def test_wait_waits_for_devsup_itself_too(ask: Ask, project: Path, environment: dict[str, str]) -> None:
    (project / "devsup.toml").write_text(
        f"[services.job]\ncommand = {[sys.executable, '-c', 'import time; time.sleep(100)']!r}\n"
    )
    command = [sys.executable, "-m", "devsup", "start"]
    starting = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert ask("status", "--wait", "ready").code == 0
    finally:
        starting.send_signal(signal.SIGINT)
        assert starting.wait(LIMIT) == 0
    began = time.monotonic()
    assert ask("status", "--wait", "ready", "--timeout", "1s").code == 1
    assert time.monotonic() - began > 1
