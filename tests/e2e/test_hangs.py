"""What hangs is named while it hangs: a blocked event loop, a start that takes long, a worker that does not end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from harness import LIMIT, Run, fetch, save, thinned, wait_until

Start = Callable[..., Run]

# Each way blocks for SECONDS; `other` is the address of a server that takes connections and never answers.
APP = """
import asyncio, ctypes, os, socket, threading, time
from urllib.request import urlopen

SECONDS = 2.5

def sleep(): time.sleep(SECONDS)  # line 7

def call():
    try:
        urlopen(os.environ["OTHER"], timeout=SECONDS).read()  # line 11
    except OSError:
        pass

def busy():
    end = time.thread_time() + SECONDS
    while time.thread_time() < end: pass  # line 17

def lock():
    held = threading.Lock()
    held.acquire()
    held.acquire(timeout=SECONDS)  # line 22

def native():  # a C call that does not let go of the GIL
    ctypes.PyDLL(None).usleep(int(SECONDS * 1e6))  # line 25

async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/quick":
        await asyncio.sleep(0.001)
    elif scope["path"] == "/long":
        await waits()
    elif scope["path"] != "/":
        globals()[scope["path"][1:]]()
    await answer(send, b"done")

async def waits():
    while not os.path.exists("go"):
        await asyncio.sleep(0.02)  # line 48
"""
LINES = {"sleep": 7, "call": 11, "busy": 17, "lock": 22, "native": 25}


@contextmanager
def silent_server() -> Iterator[int]:
    """A port on which connections are taken, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def command(port: int, loop: str = "asyncio") -> list[str]:
    return ["uvicorn", "main:app", "--port", str(port), "--loop", loop, "--log-level", "warning"]


@pytest.mark.parametrize(("way", "loop"), thinned(product(LINES, ("asyncio", "uvloop"))))
def test_what_blocks_a_loop_is_named_while_it_does(
    devsup: Start, project: Path, port: int, environment: dict[str, str], way: str, loop: str
) -> None:
    save(project / "main.py", APP)
    with silent_server() as other:
        environment["OTHER"] = f"http://127.0.0.1:{other}/"
        run = devsup(*command(port, loop))
        run.ready()
        asking = threading.Thread(target=fetch, args=(port, f"/{way}"))
        asking.start()
        blocked = run.wait_for("LoopBlocked")
        assert asking.is_alive(), "it was named only when it was over"
        asking.join(LIMIT)
        run.wait_for("LoopFree")
    assert blocked["requests"] == [f"GET /{way}"]
    own = next(frame for frame in blocked["frames"] if frame["own"])
    assert (own["file"], own["line"], own["function"]) == (str(project / "main.py"), LINES[way], way)
    assert f"line {LINES[way]}" in own["source"]
    assert f"main.py:{LINES[way]}" in blocked["doing"]
    assert blocked["seconds"] >= 1.0
    assert len(run.all("LoopBlocked")) == 1
    assert run.stop() == 0


CRUNCHES = APP.replace(
    "async def answer(",
    "def crunch(): return sum(range(CRUNCHED))  # line 27\n\nasync def answer(",
).replace(
    'elif scope["path"] == "/long":',
    'elif scope["path"] == "/crunch":\n        await asyncio.get_running_loop().run_in_executor(None, crunch)\n'
    '    elif scope["path"] == "/long":',
)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_another_thread_that_keeps_the_gil_is_named_as_such(devsup: Start, project: Path, port: int, loop: str) -> None:
    """`sum` of a range does not let go of it for seconds."""
    save(project / "main.py", CRUNCHES.replace("CRUNCHED", str(250_000_000)))
    run = devsup(*command(port, loop))
    run.ready()
    assert fetch(port, "/crunch")[0] == 200
    for each in run.all("LoopBlocked"):
        assert each["doing"].endswith(("another thread, in main.py:27 (crunch)", "another thread is in main.py:27 (crunch)"))
    assert run.all("LoopBlocked")


def test_the_same_place_is_counted(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", APP.replace("SECONDS = 2.5", "SECONDS = 1.6"))
    run = devsup(*command(port))
    run.ready()
    for count in (1, 2):
        assert fetch(port, "/sleep")[0] == 200
        assert run.wait_for("LoopBlocked", count)["count"] == count
        run.wait_for("LoopFree", count)


def test_zero_switches_it_off(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", APP.replace("SECONDS = 2.5", "SECONDS = 1.6"))
    save(project / "devsup.toml", f"[services.app]\ncommand = {json.dumps(command(port))}\nloop_block_warn = 0\n")
    run = devsup()
    run.ready()
    assert fetch(port, "/sleep") == (200, "done")
    assert run.stop() == 0
    assert not run.all("LoopBlocked")


@pytest.mark.parametrize("seconds", [20, pytest.param(600, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_a_busy_app_that_is_well_is_not_reported(devsup: Start, project: Path, port: int, seconds: int) -> None:
    save(project / "main.py", APP)
    run = devsup(*command(port))
    run.ready()
    ends, answers = time.monotonic() + seconds, []

    def ask() -> None:
        while time.monotonic() < ends:
            answers.append(fetch(port, "/quick")[0])

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert set(answers) == {200}
    assert len(answers) > 20 * seconds
    assert run.stop() == 0
    assert not run.all("LoopBlocked")


def test_a_loop_at_rest_has_no_heartbeat(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = devsup(*command(port))
    pid = run.ready()["pid"]
    assert fetch(port, "/quick")[0] == 200

    def switches() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("voluntary_ctxt_switches:")[1].split()[0])

    def rests() -> bool:
        before = switches()
        threading.Event().wait(1.0)
        return switches() - before <= 1

    wait_until(rests, 10)


# -- a start ----------------------------------------------------------------------------------------------------------


def test_a_slow_start_says_where_it_is_and_where_the_time_went(devsup: Start, project: Path, port: int) -> None:
    library = project / "lib" / "site-packages"
    library.mkdir(parents=True)
    save(library / "slowlib.py", "import time\ndef fetch_model():\n    time.sleep(6.5)\n")
    save(
        project / "main.py",
        f"import sys\nsys.path.insert(0, {str(library)!r})\nfrom slowlib import fetch_model\nfetch_model()\n{APP}",
    )
    run = devsup(*command(port))
    starting = run.wait_for("StillStarting")
    assert not run.all("WorkerReady"), "it was named only when it was over"
    assert starting["doing"] == "in slowlib.fetch_model, called from main.py:4"
    assert 5 <= starting["seconds"] < 7
    took = run.wait_for("SlowStart")
    assert took["parts"][0][0] == starting["doing"]
    assert took["seconds"] == pytest.approx(run.ready()["seconds"], abs=1.5)
    assert took["parts"][0][1] > took["seconds"] / 2
    assert len(run.all("StillStarting")) == 1


def test_a_start_that_is_not_slow_is_not_told_of(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", f"import time\ntime.sleep(2.5)\n{APP}")
    run = devsup(*command(port))
    run.ready()
    assert run.stop() == 0
    assert not run.all("StillStarting")
    assert not run.all("SlowStart")


# -- an end -----------------------------------------------------------------------------------------------------------


def test_a_worker_that_does_not_end_is_killed_and_where_it_was_is_said(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", APP.replace("SECONDS = 2.5", "SECONDS = 60"))
    save(project / "devsup.toml", f"[services.app]\ncommand = {json.dumps(command(port))}\nstop_timeout = 1.0\n")
    run = devsup()
    run.ready()
    asking = threading.Thread(target=fetch, args=(port, "/sleep"))
    asking.start()
    run.wait_for("LoopBlocked")
    run.stop()
    asking.join(LIMIT)
    [ended] = run.all("NotStopping")
    assert "main.py:7 (sleep)" in [stack["doing"].removeprefix("in ") for stack in ended["stacks"]]


# -- when asked -------------------------------------------------------------------------------------------------------


def ask(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devsup", "stacks", *words],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def stack_of(stacks: list[dict[str, Any]], part: str) -> dict[str, Any]:
    return next(each for each in stacks if part in each["name"])


def test_stacks_shows_threads_and_tasks_with_what_they_await(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = devsup(*command(port))
    run.ready()
    asking = threading.Thread(target=fetch, args=(port, "/long"))
    asking.start()
    try:

        def found() -> list[dict[str, Any]]:
            done = ask(project, "--json")
            assert done.returncode == 0, done.stderr
            stacks: list[dict[str, Any]] = json.loads(done.stdout)["stacks"]
            return stacks if any("main.py:48" in each["doing"] for each in stacks) else []

        stacks = wait_until(found)
        task = stack_of(stacks, "run_asgi")
        assert [frame["function"] for frame in task["frames"] if frame["own"]] == ["waits", "app"]
        assert stack_of(stacks, "thread MainThread")["pid"] == run.ready()["pid"]
        assert not any("devsup" in each["name"] for each in stacks)
        text = ask(project).stdout
        assert "main.py:48 waits" in text
        assert "\x1b" not in text
    finally:
        (project / "go").touch()
        asking.join(LIMIT)


def test_stacks_names_what_it_cannot_find(project: Path) -> None:
    done = ask(project, "nosuchservice")
    assert done.returncode == 1
    assert "No service nosuchservice runs under devsup" in done.stderr


def test_the_program_is_not_disturbed_by_being_looked_at(devsup: Start, project: Path, port: int) -> None:
    """A C call that is interrupted by a signal would come back early; the signal goes to a thread of ours."""
    save(project / "main.py", APP)
    run = devsup(*command(port))
    run.ready()
    began = time.monotonic()
    assert fetch(port, "/native") == (200, "done")
    assert time.monotonic() - began >= 2.5
    assert len(run.all("LoopBlocked")) == 1


# -- what only the log says -------------------------------------------------------------------------------------------

SWALLOWED = """
import logging, socket, time
logging.basicConfig()
try:
    socket.create_server(("127.0.0.1", TAKEN))
except OSError as exc:
    logging.getLogger("metrics").error("cannot listen: %s", exc)
time.sleep(60)
"""
UNMOUNTED = """
import logging
logging.basicConfig()
try:
    import nosuchrouter
except ImportError:
    logging.getLogger("shop").exception("router payments is not mounted")
"""


def test_a_program_that_lives_and_never_listens_is_shown_with_what_it_logged(devsup: Start, project: Path) -> None:
    with silent_server() as taken:
        save(project / "main.py", SWALLOWED.replace("TAKEN", str(taken)))
        run = devsup("python", "main.py")
        starting = run.wait_for("StillStarting")
    assert starting["doing"] == "in main.py:8"
    assert len(starting["complaints"]) == 1
    assert "cannot listen: " in starting["complaints"][0]


def test_a_start_that_left_something_out_is_told_although_it_serves(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", UNMOUNTED + APP)
    run = devsup(*command(port))
    run.ready()
    told = run.wait_for("StartComplained")["complaints"]
    assert told == ["ERROR:shop:router payments is not mounted", "ModuleNotFoundError: No module named 'nosuchrouter'"]


def test_a_start_without_errors_is_not_complained_of(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", "print('INFO: no ERRORS here, error_handler set, 0 errors')\n" + APP)
    run = devsup(*command(port))
    run.ready()
    assert fetch(port) == (200, "done")
    assert run.stop() == 0
    assert not run.all("StartComplained")


def test_a_program_that_never_serves_is_left_alone(devsup: Start, project: Path) -> None:
    save(project / "main.py", "import time\ntime.sleep(60)\n")
    run = devsup("python", "main.py")
    assert run.wait_for("StillStarting")["doing"] == "in main.py:2"
    assert run.stop() == 0
    assert len(run.all("StillStarting")) == 1
    assert not run.all("SlowStart")
