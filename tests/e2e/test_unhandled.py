"""Exceptions that nobody caught: of requests and threads, told while the process lives on, and of native code, which ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devsup.system.meeting import folder_of
from harness import Event, Run, fetch, save, wait_until

Start = Callable[..., Run]


def command(port: int) -> list[str]:
    return ["uvicorn", "main:app", "--port", str(port), "--log-level", "warning"]


FAILS = """
import threading
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

def deep(): return 1 / 0  # line 7

async def fails(request): return PlainTextResponse(str(deep()))

def die(): raise LookupError("no such thing")  # line 11

async def thread(request):
    each = threading.Thread(target=die, name="simulator")
    each.start()
    each.join()
    return PlainTextResponse("started")

early = threading.Thread(target=die, name="early")
early.start()
early.join()
app = Starlette(routes=[Route("/fails", fails), Route("/thread", thread)])
"""
WSGI = """
def deep(): return 1 / 0

def app(environ, start_response):
    deep()
"""
AIOHTTP = """
import sys
from aiohttp import web

def deep(): return 1 / 0

async def fails(request): deep()

app = web.Application()
app.add_routes([web.get("/fails", fails)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
"""
TORNADO = """
import asyncio, sys
from tornado import web

def deep(): return 1 / 0

class Fails(web.RequestHandler):
    def get(self): deep()

async def main():
    web.Application([("/fails", Fails)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""
DJANGO = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.urls import path

def deep(): return 1 / 0

def fails(request): deep()

urlpatterns = [path("fails", fails)]
settings.configure(DEBUG=True, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of-the-test")
execute_from_command_line(sys.argv)
"""
FLASK = """
from flask import Flask
app = Flask(__name__)

def deep(): return 1 / 0

@app.get("/fails")
def fails(): return str(deep())
"""


def test_a_request_that_fails_is_told_in_a_line_and_counted(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", FAILS)
    run = devsup(*command(port))
    run.ready()
    for count in (1, 2):
        assert fetch(port, "/fails") == (500, "Internal Server Error")
        told = run.wait_for("Unhandled", count, where="request")
        assert (told["name"], told["count"], told["cause"]) == ("GET /fails", count, "ZeroDivisionError: division by zero")
    told = run.all("Unhandled", where="request")[0]
    assert len({each["id"] for each in run.all("Unhandled")}) == len(run.all("Unhandled"))
    own = [frame for frame in told["frames"] if frame["own"]][-1]
    assert (own["line"], own["function"], own["source"]) == (7, "deep", "def deep(): return 1 / 0  # line 7")
    assert 0 <= told["age"] < 5


FAILING = {
    "flask": (FLASK, "flask --app main run --port @PORT@"),
    "flask-debug": (FLASK, "flask --app main run --debug --port @PORT@"),
    "hypercorn": (FAILS, "hypercorn main:app -b 127.0.0.1:@PORT@"),
    "aiohttp": (AIOHTTP, "python main.py @PORT@"),
    "tornado": (TORNADO, "python main.py @PORT@"),
    "waitress": (WSGI, "waitress-serve --listen 127.0.0.1:@PORT@ main:app"),
    "gunicorn": (WSGI, "gunicorn main:app -b 127.0.0.1:@PORT@"),
    "django": (DJANGO, "python main.py runserver @PORT@ --noreload"),
}


@pytest.mark.parametrize("server", FAILING)
def test_a_request_that_fails_is_told_on_other_servers(devsup: Start, project: Path, port: int, server: str) -> None:
    source, words = FAILING[server]
    save(project / "main.py", source)
    run = devsup(*words.replace("@PORT@", str(port)).split())
    run.ready()
    assert fetch(port, "/fails")[0] == 500
    told = run.wait_for("Unhandled", where="request")
    assert (told["name"], told["cause"]) == ("GET /fails", "ZeroDivisionError: division by zero")
    assert [frame["function"] for frame in told["frames"] if frame["own"]][-1] == "deep"
    assert len(run.all("Unhandled", where="request")) == 1


def told_of(run: Run, name: str) -> Event:
    return wait_until(lambda: [each for each in run.all("Unhandled") if each["name"] == name], story=run.story)[0]


def test_a_thread_that_dies_is_told_although_the_process_lives(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", FAILS)
    run = devsup(*command(port))
    run.ready()
    early = told_of(run, "early")
    assert (early["where"], early["cause"]) == ("thread", "LookupError: no such thing")
    assert fetch(port, "/thread") == (200, "started")
    told = told_of(run, "simulator")
    assert [frame["line"] for frame in told["frames"] if frame["own"]] == [11]
    assert told["count"] == 2
    assert fetch(port, "/thread") == (200, "started")


# -- S5: the server that dies in silence ------------------------------------------------------------------------------

SILENT = """
import ctypes, os, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args): pass

def load_model():
    time.sleep(SECONDS)
    ctypes.string_at(0)  # line 13

for fd in (1, 2):
    os.close(fd)
server = HTTPServer(("127.0.0.1", PORT), Handler)
threading.Thread(target=load_model, name="model").start()
server.serve_forever()
"""


def test_a_death_in_native_code_without_a_word_is_explained(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", SILENT.replace("SECONDS", "8").replace("PORT", str(port)))
    run = devsup("python", "main.py")
    run.ready()
    assert fetch(port, "/health")[0] == 200
    ended = run.wait_for("WorkerExited")
    found = run.wait_for("Diagnosed")["diagnosis"]
    assert ended["exit"]["signal"] == signal.SIGSEGV
    served = ended["served"]
    assert 6 < served < 10
    assert found["cause"].startswith(
        "It crashed in native code (SIGSEGV: Segmentation fault) in ctypes.string_at, called from main.py:13"
    )
    assert found["cause"].endswith(f"after {served:.1f} s of service")
    assert (found["place"]["line"], found["place"]["function"]) == (13, "load_model")
    assert found["code"][_AROUND] == [13, "    ctypes.string_at(0)  # line 13"]
    assert "native code: Segmentation fault" in found["evidence"]


_AROUND = 2


HANDLED = """
import logging
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("uvicorn.error").exception("handled")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})
"""


def test_what_an_app_has_handled_and_logged_is_no_failure(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", HANDLED)
    run = devsup(*command(port))
    run.ready()
    assert fetch(port) == (200, "fine")
    assert run.stop() == 0
    assert not run.all("Unhandled")


# -- the black box ----------------------------------------------------------------------------------------------------

CLOSES = """
import os
os.closerange(3, 2048)
while os.open("data.db", os.O_RDWR | os.O_CREAT) < 1023: pass
with open("data.db", "w") as file:
    file.write("precious")
raise LookupError("after all")
"""
REPLACES = """
import os, sys, time
if len(sys.argv) < 40:
    time.sleep(0.1)
    os.execv(sys.executable, [sys.executable, *sys.argv, "again"])
"""


def test_a_program_that_closes_all_and_uses_the_number_again_keeps_its_file(devsup: Start, project: Path) -> None:
    save(project / "main.py", CLOSES)
    run = devsup("python", "main.py")
    found = run.wait_for("Diagnosed")["diagnosis"]
    assert found["cause"] == "LookupError: after all (main.py:7)"
    assert (project / "data.db").read_text() == "precious"


def test_a_process_that_becomes_another_program_is_never_signalled(devsup: Start, project: Path) -> None:
    """It is looked at while it starts, time and again, and exec puts back what a signal does."""
    save(project / "child.py", REPLACES)
    start = "import subprocess, sys, time\nchildren = [subprocess.Popen([sys.executable, 'child.py']) for _ in range(4)]\n"
    save(project / "main.py", start + "print([child.wait() for child in children], flush=True)\ntime.sleep(60)\n")
    run = devsup("python", "main.py")
    pid = run.wait_for("WorkerSpawned")["pid"]
    asked = 0
    while not run.lines():
        asked += 1
        assert stacks(project).returncode == 0
    assert run.lines() == ["[0, 0, 0, 0]"]
    assert asked > 3
    assert pid


def stacks(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devsup", "stacks"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)


def test_the_black_box_of_a_worker_is_gone_with_it(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", HANDLED)
    run = devsup(*command(port))
    run.ready()
    for generation in (2, 3):
        save(project / "main.py", HANDLED + "#" * generation)
        run.ready(generation)
    [record] = (project / ".devsup").glob("app-*.json")
    folder = folder_of(json.loads(record.read_text())["run"])
    wait_until(lambda: len([each for each in Path(folder).iterdir() if each.name.startswith("link.")]) <= 2)
