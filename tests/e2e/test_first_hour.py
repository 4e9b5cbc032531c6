"""What somebody meets who puts devsup in front of everything in the first hour."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import LIMIT, Run, fetch, free_port, save, tool, wait_until

APP = """
import os, time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse("v1")

def slow(request):
    print("begun", flush=True)
    time.sleep(60)

app = Starlette(routes=[Route("/", home), Route("/slow", slow)])
"""
FLASK = """
from flask import Flask

app = Flask(__name__)

@app.get("/")
def home():
    return "v1"
"""
ANY_PORT = {
    "uvicorn-asyncio": (APP, "uvicorn main:app --port 0 --loop asyncio --reload"),
    "uvicorn-uvloop": (APP, "uvicorn main:app --port 0 --loop uvloop"),
    "flask": (FLASK, "flask --app main run --debug --port 0"),
}


@pytest.mark.parametrize("style", ANY_PORT)
def test_any_free_port_is_the_same_one_over_reloads(devsup: Callable[..., Run], project: Path, style: str) -> None:
    code, command = ANY_PORT[style]
    save(project / "main.py", code)
    run = devsup(*command.split())
    [url] = run.ready()["urls"]
    for generation in (2, 3):
        save(project / "main.py", code.replace("v1", f"v{generation}"))
        assert run.ready(generation)["urls"] == [url]
        assert fetch(int(url.rpartition(":")[2])) == (200, f"v{generation}")
    assert run.stop() == 0


TLS = {
    "uvicorn": (APP, "uvicorn main:app --port {port} --ssl-keyfile k.pem --ssl-certfile c.pem"),
    "hypercorn": (APP, "hypercorn main:app -b 127.0.0.1:{port} --keyfile k.pem --certfile c.pem"),
    "gunicorn": (FLASK, "gunicorn main:app -b 127.0.0.1:{port} --keyfile k.pem --certfile c.pem"),
    "flask": (FLASK, "flask --app main run --port {port} --key k.pem --cert c.pem"),
}


@pytest.mark.parametrize("style", TLS)
def test_a_server_with_a_certificate(devsup: Callable[..., Run], project: Path, port: int, style: str) -> None:
    words = [tool("openssl"), *"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout k.pem -out c.pem".split()]
    subprocess.run(words, cwd=project, check=True, capture_output=True, timeout=20)
    code, command = TLS[style]
    save(project / "main.py", code)
    run = devsup(*command.format(port=port).split())
    url = f"https://127.0.0.1:{port}"
    assert run.ready()["urls"] == [url]
    for generation in (2, 3):
        save(project / "main.py", code.replace("v1", f"v{generation}"))
        assert run.ready(generation)["urls"] == [url]
        context = ssl._create_unverified_context()
        with urllib.request.urlopen(url, timeout=LIMIT, context=context) as answer:
            assert answer.read().decode() == f"v{generation}"
    assert run.stop() == 0


WITH_SOCKET = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(listener.fileno(), 9, inheritable=True)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_socket_that_was_given_by_its_number(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--fd", "9", prefix=[sys.executable, "-c", WITH_SOCKET, str(port)])
    run.ready()
    save(project / "main.py", APP.replace("v1", "v2"))
    run.ready(2)
    assert fetch(port) == (200, "v2")
    assert run.stop() == 0


def test_a_file_that_the_shell_has_opened(devsup: Callable[..., Run], project: Path, environment: dict[str, str]) -> None:
    save(project / "show.py", "import sys; print(open(sys.argv[1]).read())")
    words = f"exec {sys.executable} -m devsup run python show.py <(echo hello)"
    done = subprocess.run(
        ["bash", "-c", words], cwd=project, env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (0, "hello\n\n"), done.stderr


def test_ctrl_c_says_what_it_waits_for_and_what_it_cuts(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    asking = threading.Thread(target=lambda: fetch(port, "/slow"))
    asking.start()
    run.wait_for_line("begun")
    run.process.send_signal(signal.SIGINT)
    waiting = run.wait_for("StopWaiting")
    assert [each["name"] for each in waiting["active"]] == ["GET /slow"]
    assert 0 < waiting["left"] < 5
    run.process.send_signal(signal.SIGINT)  # a second one kills
    assert run.wait() == 0
    asking.join(LIMIT)
    assert [each["name"] for each in run.all("WorkLost")] == ["GET /slow"]


@pytest.mark.parametrize(
    ("options", "ends"),
    [(["--exit-on-failure"], True), (["--reload", "off"], True), ([], False)],
    ids=["exit-on-failure", "reload off", "default"],
)
def test_a_failed_start_promises_nothing_that_does_not_come(
    project: Path, environment: dict[str, str], port: int, options: list[str], ends: bool
) -> None:
    save(project / "main.py", "import nothing_like_it")
    words = [sys.executable, "-m", "devsup", "run", *options, "uvicorn", "main:app", "--port", str(port)]
    with subprocess.Popen(words, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        said = ""
        while "it did not start" not in said:
            said = process.stdout.readline().decode()
            assert said, "it ended without a word"
        if not ends:
            assert "save a file" in said
            assert f"clients of http://127.0.0.1:{port} get 503" in process.stdout.readline().decode()
            process.send_signal(signal.SIGINT)
        rest = process.stdout.read().decode()
        assert (process.wait(LIMIT) != 0) is ends
    if ends:
        assert "save" not in said + rest
        assert "503" not in said + rest


def test_the_save_that_mends_is_a_reload_of_its_own(devsup: Callable[..., Run], project: Path, port: int) -> None:
    """What the developer took to mend it is no part of its time."""
    save(project / "part.py", "value = 1")
    save(project / "main.py", "import part\n" + APP)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    save(project / "part.py", "import nothing_like_it")
    broken = run.wait_for("PlaceholderShown")
    save(project / "part.py", "value = 2")
    run.ready(3)
    first, second = run.all("ReloadStarted")
    assert first["files"] == second["files"] == [str(project / "part.py")]
    assert second["at"] > broken["at"]
    reloaded = run.wait_for("Reloaded")
    assert reloaded["at"] - reloaded["total"] > broken["at"]
    assert run.stop() == 0


def test_a_port_that_another_devsup_has_is_told_with_the_one_to_end(devsup: Callable[..., Run], project: Path, port: int) -> None:
    """Its worker would be started again."""
    save(project / "main.py", APP)
    first = devsup("uvicorn", "main:app", "--port", str(port))
    first.ready()
    second = devsup("uvicorn", "main:app", "--port", str(port))
    assert second.wait() == 1
    [refused] = second.all("Refused")
    assert f'"kill {first.process.pid}"' in refused["remedy"]
    assert first.stop() == 0
    wait_until(lambda: _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_the_examples_of_the_help_have_a_line_each(project: Path, environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", "devsup", "--help"]
    shown = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, timeout=20, check=True).stdout
    assert len(re.findall(r"^ +devsup run [^\\\n]+$", shown, re.MULTILINE)) == 3
    assert "\\b" not in shown


def test_every_line_of_json_has_its_time(devsup: Callable[..., Run], project: Path) -> None:
    save(project / "show.py", "print('hello')")
    run = devsup("python", "show.py")
    assert run.wait() == 0
    assert all(each["at"] > 0 for each in run.events)
    assert run.lines() == ["hello"]


PROBES = """
import socket, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"v1")

helper, api = free_port(), free_port()
print("helper", helper, flush=True)
threading.Thread(target=HTTPServer(("127.0.0.1", helper), Hello).serve_forever, daemon=True).start()
HTTPServer(("127.0.0.1", api), Hello).serve_forever()
"""


def test_a_program_that_looks_for_free_ports_never_gets_one_that_another_part_of_it_serves(
    devsup: Callable[..., Run], project: Path
) -> None:
    """It has bound them to any, closed them, and binds them by number."""
    save(project / "main.py", PROBES)
    run = devsup("python", "main.py")
    for generation in (1, 2, 3):
        urls = run.ready(generation)["urls"]
        helper = run.lines()[-1].split()[-1]
        assert len(urls) == len(set(urls))
        assert [url for url in urls if url.endswith(f":{helper}")]
        assert [fetch(int(url.rpartition(":")[2])) for url in urls] == [(200, f"v{generation}")] * len(urls)
        save(project / "main.py", PROBES.replace("v1", f"v{generation + 1}"))
    run.ready(4)
    assert run.stop() == 0


ENDED_THREAD = """
import multiprocessing, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"v1")

def child(port):
    import uvicorn
    async def app(scope, receive, send):
        pass
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    server.should_exit = True
    thread.join()
    print("ended", flush=True)
    time.sleep(100)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=child, args=(int(sys.argv[2]),), daemon=True).start()
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Hello).serve_forever()
"""


def test_a_server_that_has_ended_holds_no_gate(devsup: Callable[..., Run], project: Path, port: int) -> None:
    """Its process lives on, and another one of the worker serves."""
    save(project / "main.py", ENDED_THREAD)
    run = devsup("python", "main.py", str(port), str(free_port()))
    run.wait_for_line("ended")
    save(project / "main.py", ENDED_THREAD.replace("v1", "v2"))
    run.ready(2)
    assert run.wait_for("Reloaded")["waited"] < 5.0  # what a gate has that nobody answers
    assert fetch(port) == (200, "v2")
    assert run.stop() == 0


FINISHING = """
import os, signal, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def end(*_):
    time.sleep(2)
    print("finished", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
while True:
    listener.accept()[0].close()
"""
LOOKS_FOR_A_PORT = """
import socket, subprocess, sys
with socket.socket() as sock:
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
subprocess.run([sys.executable, "-I", "server.py", str(port)])
"""


def test_a_launcher_that_looks_for_a_free_port_lets_its_server_finish(devsup: Callable[..., Run], project: Path) -> None:
    save(project / "server.py", FINISHING)
    save(project / "main.py", LOOKS_FOR_A_PORT)
    run = devsup("python", "main.py")
    run.ready()
    assert run.stop() == 0
    assert "finished" in run.lines()
