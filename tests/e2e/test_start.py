"""`devsup start`: services in order, what they wait for, how they end, and how they come back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Answer, Run, fetch, free_port, save, wait_until

Start = Callable[..., Run]
Ask = Callable[..., Answer]

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse("VERSION")

app = Starlette(routes=[Route("/", home)])
"""


def python(code: str) -> str:
    """The command of a service, in TOML: a one-line program."""
    return f"command = {[sys.executable, '-c', code]!r}"


def app(project: Path, name: str = "main", version: str = "v1") -> None:
    save(project / f"{name}.py", APP.replace("VERSION", version))


def test_services_start_in_the_order_of_what_they_depend_on_and_side_by_side_where_they_can(team: Start, project: Path) -> None:
    app(project)
    ports = [free_port(), free_port()]
    run = team(f"""
[services.front]
command = "uvicorn main:app --port {ports[0]}"
depends_on = {{ back = "ready", beside = "started" }}
[services.back]
command = "uvicorn main:app --port {ports[1]}"
depends_on = {{ migrate = "completed" }}
[services.migrate]
{python("import time; print('migrating', flush=True); time.sleep(0.5)")}
[services.beside]
{python("import time; print('beside', flush=True); time.sleep(100)")}
""")
    run.wait_for("WorkerReady", service="front")
    at = {name: run.all("WorkerSpawned", service=name)[0]["at"] for name in ("front", "back", "migrate", "beside")}
    ended = run.wait_for("WorkerExited", service="migrate")["at"]
    assert abs(at["migrate"] - at["beside"]) < 0.4, "they wait for nobody, so not for each other"
    assert at["back"] >= ended
    assert at["front"] >= run.all("WorkerReady", service="back")[0]["at"]
    assert [fetch(port)[1] for port in ports] == ["v1", "v1"]
    assert run.stop() == 0
    stopped = {each["service"]: each["at"] for each in run.all("Stopped")}
    assert stopped["front"] <= stopped["back"], "who depends on another ends first"


def test_what_a_service_waits_for_is_said_with_its_reason(team: Start) -> None:
    run = team(f"""
[services.web]
{python("print('up')")}
depends_on = {{ migrate = "completed" }}
start_timeout = 2
[services.migrate]
{python("import time; time.sleep(60)")}
""")
    said = run.wait_for("DependencyAwaited", service="web", condition="completed", reason="still runs")
    assert (said["on"], said["overdue"]) == ("migrate", False)
    late = run.wait_for("DependencyAwaited", overdue=True)
    assert 2 <= late["seconds"] < 3, "the limit of the wait is start_timeout"
    assert not run.all("WorkerSpawned", service="web")
    assert run.stop() == 0


def test_a_task_that_fails_keeps_its_dependents_and_says_why_until_it_is_mended(team: Start, ask: Ask, project: Path) -> None:
    (project / "migrate.py").write_text("import sys; sys.exit('no such table: users')\n")
    run = team(f"""
[services.web]
{python("import time; print('web runs', flush=True); time.sleep(100)")}
depends_on = {{ migrate = "completed" }}
[services.migrate]
command = ["{sys.executable}", "migrate.py"]
""")
    run.wait_for("WorkerFailed", service="migrate")
    waiting = ask("status", "--wait", "ready", "--json", "web")
    assert waiting.code == 1
    assert waiting.json[0]["state"] == "waiting"
    assert waiting.json[0]["reason"].startswith("waits for migrate, which has failed")
    assert "web is waiting: waits for migrate" in waiting.err
    save(project / "migrate.py", "print('migrated')\n")
    run.wait_for_line("web runs")
    assert ask("status", "migrate", "--json").json[0]["state"] == "completed"
    assert run.stop() == 0


def test_when_all_tasks_are_done_devsup_is_and_its_code_is_the_first_that_failed(team: Start) -> None:
    run = team(f"""
[services.one]
{python("print('one')")}
[services.two]
{python("raise SystemExit(3)")}
reload = "off"
""")
    assert run.wait() == 3


def test_nothing_starts_where_one_port_is_taken(team: Start, project: Path) -> None:
    app(project)
    ports = [free_port(), free_port()]
    with_server = f"import http.server; http.server.HTTPServer(('127.0.0.1', {ports[1]}), None).serve_forever()"
    holder = subprocess.Popen([sys.executable, "-c", with_server])
    try:
        wait_until(lambda: _listens(ports[1]))
        run = team(f"""
[services.one]
command = "uvicorn main:app --port {ports[0]}"
[services.two]
{python("import time; time.sleep(100)")}
port = {ports[1]}
""")
        assert run.wait() == 1
        assert f"Port {ports[1]} is taken" in run.stderr
        assert f"pid {holder.pid}" in run.stderr
        assert not run.all("WorkerSpawned")
    finally:
        holder.kill()
        holder.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_service_that_is_killed_comes_back_and_the_others_do_not_notice(team: Start, project: Path) -> None:
    app(project)
    ports = [free_port(), free_port()]
    run = team("\n".join(f'[services.s{n}]\ncommand = "uvicorn main:app --port {port}"' for n, port in enumerate(ports)))
    first = [run.wait_for("WorkerReady", service=f"s{n}")["pid"] for n in range(2)]
    time_of_ready = run.all("WorkerReady", service="s0")[0]["at"]
    wait_until(lambda: time.time() - time_of_ready > 1.1)
    for generation in range(2, 6):
        os.kill(run.all("WorkerReady", service="s0")[-1]["pid"], signal.SIGKILL)
        ready = run.wait_for("WorkerReady", service="s0", generation=generation)
        wait_until(lambda at=ready["at"]: time.time() - at > 1.1)  # type: ignore[misc]
    assert not run.all("CrashLoop"), "who is killed from outside is not to blame"
    assert [each["pid"] for each in run.all("WorkerReady", service="s1")] == first[1:]
    assert [fetch(port)[1] for port in ports] == ["v1", "v1"]
    assert run.stop() == 0


@pytest.mark.parametrize(("restart", "starts"), [('restart = "on-failure"', 5), ("", 1), ('restart = "never"', 1)])
def test_a_start_that_fails_is_tried_again_only_where_restarts_are_asked_for(team: Start, restart: str, starts: int) -> None:
    run = team(f"[services.one]\n{python('raise SystemExit(1)')}\n{restart}\n")
    if starts > 1:
        assert run.wait_for("CrashLoop", limit=60)["crashes"] == starts
        delays = [each["delay"] for each in run.all("RestartScheduled")]
        assert delays == sorted(delays)
        assert all(base <= delay <= base * 1.2 for base, delay in zip((0.25, 1, 4, 16), delays, strict=True))
    run.wait_for("WorkerFailed", starts)
    assert len(run.all("WorkerSpawned")) == starts
    assert run.stop() == 0


def test_a_program_that_serves_no_port_is_ready_when_it_runs_and_is_started_again_when_it_dies(team: Start) -> None:
    run = team(f"[services.worker]\n{python('import time, os; print(os.getpid(), flush=True); time.sleep(100)')}\n")
    ready = run.wait_for("WorkerReady")
    assert ready["urls"] == []
    os.kill(ready["pid"], signal.SIGSEGV)
    run.wait_for("WorkerReady", 2)
    assert run.stop() == 0


def test_always_starts_again_what_ends_well(team: Start) -> None:
    run = team(f'[services.job]\n{python("print(1)")}\nrestart = "always"\n')
    run.wait_for("WorkerSpawned", 3)
    assert run.stop() == 0


def test_each_service_has_the_environment_that_the_config_says_and_its_own_folder(team: Start, project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub" / ".env").write_text("FROM_FILE=2\n")
    code = "import os; print(os.getcwd().rpartition('/')[2], os.environ['FROM_FILE'], os.environ['OF_CONFIG'])"
    run = team(f'[services.job]\n{python(code)}\ncwd = "sub"\nenv_files = [".env"]\nenv = {{ OF_CONFIG = "3" }}\n')
    assert run.wait() == 0
    assert run.lines() == ["sub 2 3"]


def test_only_some_are_started_with_what_they_need(team: Start, ask: Ask, project: Path) -> None:
    run = team(
        f"""
[services.a]
{python("import time; time.sleep(100)")}
depends_on = ["b"]
[services.b]
{python("import time; time.sleep(100)")}
[services.c]
{python("import time; time.sleep(100)")}
""",
        "a",
    )
    run.wait_for("WorkerReady", service="a")
    assert {each["service"] for each in run.all("WorkerSpawned")} == {"a", "b"}
    assert run.stop() == 0


def test_a_procfile_is_taken_as_it_is(project: Path, environment: dict[str, str]) -> None:
    app(project)
    (project / "Procfile").write_text("# a comment\nweb: uvicorn main:app --port $PORT\nclock: sh -c 'echo tick; sleep 100'\n")
    words = [sys.executable, "-m", "devsup", "start", "--log-format", "json", "-f", "Procfile"]
    run = Run(words, project, {**environment, "PORT": str(free_port())})
    try:
        run.wait_for_line("tick")
        assert run.wait_for("WorkerReady", service="web")["urls"]
        assert run.stop() == 0
    finally:
        run.close()


def test_a_detached_start_returns_when_all_is_ready_or_says_why_not(ask: Ask, project: Path) -> None:
    app(project)
    port = free_port()
    (project / "devsup.toml").write_text(f'[services.web]\ncommand = "uvicorn main:app --port {port}"\n')
    started = ask("start", "-d")
    try:
        assert started.code == 0, started.err
        assert "web" in started.out
        assert fetch(port) == (200, "v1")
        again = ask("start", "-d")
        assert again.code == 1
        assert "Service web runs already" in again.err
    finally:
        assert ask("down").code == 0
    assert ask("status").code == 1
    save(project / "main.py", "import nosuchpackage\n")
    failed = ask("start", "-d")
    try:
        assert failed.code == 1
        assert "web is failed" in failed.err
        assert "nosuchpackage" in failed.err
    finally:
        assert ask("down").code == 0


def test_two_services_on_one_port_are_refused_before_anything_starts(team: Start, project: Path) -> None:
    app(project)
    port = free_port()
    run = team("\n".join(f'[services.{name}]\ncommand = "uvicorn main:app --port {port}"' for name in ("one", "two")))
    assert run.wait() == 2
    assert f"Services one and two both want port {port}." in run.stderr
    assert not run.all("WorkerSpawned")


def test_after_kill_9_nothing_of_any_service_is_left(team: Start, project: Path) -> None:
    app(project)
    port = free_port()
    run = team(f"""
[services.web]
command = "uvicorn main:app --port {port}"
reload = "handover"
[services.shell]
command = "sh -c 'trap : TERM; sleep 100 & while :; do sleep 1; done'"
[services.worker]
{python("import subprocess, time; subprocess.Popen(['sleep', '100'], start_new_session=True); time.sleep(100)")}
""")
    for name in ("web", "shell", "worker"):
        run.wait_for("WorkerReady", service=name)
    record = json.loads(next((project / ".devsup").glob("web-*.json")).read_text())
    run.process.kill()
    wait_until(lambda: not _listens(port))
    wait_until(lambda: not Path(record["control"]).parent.exists())
    again = team((project / "devsup.toml").read_text())
    assert again.wait_for("WorkerReady", service="web")
    assert again.stop() == 0


def test_a_blocked_loop_degrades_its_service_while_it_lasts(team: Start, ask: Ask, project: Path) -> None:
    blocking = "async def home(request):\n    import time\n    time.sleep(8)\n"
    save(project / "main.py", APP.replace("async def home(request):\n", blocking))
    port = free_port()
    run = team(f'[services.web]\ncommand = "uvicorn main:app --port {port}"\n')
    run.wait_for("WorkerReady")
    asking = threading.Thread(target=lambda: fetch(port))
    asking.start()
    run.wait_for("LoopBlocked")
    state = ask("status", "--json").json[0]
    assert (state["state"], "event loop blocked" in state["reason"]) == ("degraded", True)
    asking.join()
    run.wait_for("LoopFree")
    assert ask("status").code == 0
    assert run.stop() == 0
