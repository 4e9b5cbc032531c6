"""What requests leave behind, seen from inside, on every Python that the guest promises to run on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import find_python

ROOT = Path(__file__).resolve().parents[2]

# A server as uvicorn is one: a task per request in a set, and an object per request that knows its scope.
SCRIPT = """
import asyncio, gc, json, sys, threading, time, weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

sys.path.insert(0, sys.argv[1])
from devsup_agent.active import background, jobs, owners

jobs.patch(threading)
jobs.patch(sys.modules[ThreadPoolExecutor.__module__])
jobs.patch(sys.modules[ProcessPoolExecutor.__module__])

class Cycle:
    def __init__(self, path):
        self.scope, self.devsup_since = {"method": "POST", "path": path}, time.monotonic()

class Server:
    tasks = set()

class Agent:
    servers, debugged, said = [Server], False, []
    settings = {"background_grace": 30.0, "daemons": [], "streams": {}}
    def send(self, op, **fields):
        self.said.append((op, fields["name"], fields["origin"]))

agent = Agent()
agent.background = left = background.Background(agent)
jobs._background = lambda: left
pool, processes, released = ThreadPoolExecutor(2), ProcessPoolExecutor(1), threading.Event()

async def analysis():
    while not released.is_set():
        await asyncio.sleep(0.005)

async def nested():
    asyncio.create_task(analysis())

def blocks():
    released.wait(20)

def starts_another():
    threading.Thread(target=blocks).start()

KINDS = {
    "create_task": lambda: asyncio.create_task(analysis()),
    "ensure_future": lambda: asyncio.ensure_future(analysis()),
    "loop": lambda: asyncio.get_running_loop().create_task(analysis()),
    "nested": lambda: asyncio.create_task(nested()),
    "executor": lambda: asyncio.get_running_loop().run_in_executor(None, blocks),
    "submit": lambda: pool.submit(blocks),
    "process": lambda: processes.submit(time.sleep, 0.3),
    "thread": lambda: threading.Thread(target=blocks).start(),
    "threads": lambda: pool.submit(starts_another),
    "queue": lambda: asyncio.create_task(asyncio.Queue().get()),
    "library": lambda: threading.Thread(target=json.dumps, args=(0,)),
}

async def request(cycle, handler):
    owners.enter(cycle)
    handler()
    await asyncio.sleep(0)

async def serve(path, handler):
    loop = asyncio.get_running_loop()
    Server.loop, cycle = loop, Cycle(path)
    task = loop.create_task(request(cycle, handler))
    Server.tasks.add(task)
    task.add_done_callback(Server.tasks.discard)
    await task
    await asyncio.sleep(0.05)
    return weakref.ref(cycle)

async def one(kind):
    released.clear()
    cycle = await serve("/" + kind, KINDS[kind])
    counted = [(item["name"], item["origin"], item["count"]) for item in left.items()]
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    left.wait(float("inf"), lambda: loop.call_soon_threadsafe(done.set))
    early = done.is_set()
    released.set()
    await asyncio.wait_for(done.wait(), 10)
    await asyncio.sleep(0.02)
    gc.collect()
    return counted, bool(left._jobs), kind == "queue" or cycle() is None

async def everything():
    found = {kind: await one(kind) for kind in KINDS}
    released.clear()
    agent.settings["background_grace"] = 0.2
    await serve("/scheduler", KINDS["create_task"])
    found["young"] = [item["name"] for item in left.items()]
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    left.wait(float("inf"), lambda: loop.call_soon_threadsafe(done.set))
    await asyncio.wait_for(done.wait(), 10)
    await serve("/scheduler", KINDS["create_task"])
    found["old"], found["said"] = left.items(), agent.said
    released.set()
    return found

if __name__ == "__main__":
    if len(sys.argv) > 2:
        import uvloop
        uvloop.install()
    print(json.dumps(asyncio.run(everything())))
    pool.shutdown()
    processes.shutdown()
"""

COUNTED = {
    "create_task": "analysis",
    "ensure_future": "analysis",
    "loop": "analysis",
    "nested": "analysis",
    "executor": "blocks",
    "submit": "blocks",
    "process": "sleep",
    "thread": "blocks",
    "threads": "blocks",
}


def run(folder: Path, python: str, *options: str) -> None:
    """The script's findings are what they must be."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DEVSUP_", "PYTHON"))}
    words = [python, str(script), str(ROOT / "devsup" / "guest"), *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=40, check=False, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("young") == ["analysis"]
    assert found.pop("old") == []
    assert found.pop("said") == [["daemon", "analysis", "POST /scheduler"]]
    for kind, (counted, jobs_left, forgotten) in found.items():
        expected = [[COUNTED[kind], f"POST /{kind}", 1]] if kind in COUNTED else []
        assert (kind, counted) == (kind, expected)
        assert (kind, jobs_left, forgotten) == (kind, False, True)


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_every_kind_is_counted_and_forgotten(version: str, tmp_path: Path) -> None:
    run(tmp_path, find_python(version))


def test_every_kind_is_counted_on_uvloop(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    run(tmp_path, sys.executable, "uvloop")
