"""`kill -9` of devsup: whatever it ran is gone within a second, and the port is free; what was opened for the user is there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from harness import Run, save, wait_until

Start = Callable[..., Run]

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"v1"})
"""

POOL = """
import os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2)
    for _ in range(2):
        pool.submit(time.sleep, 600)
    for pid in pool._processes:
        print("child", pid, flush=True)
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Hello).serve_forever()
"""

DAEMON = """
import os, socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
server.set_inheritable(True)
if not os.fork():  # twice, as daemons do: it holds the port too
    os.setsid()
    if not os.fork():
        print("child", os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
while True:
    server.accept()[0].close()
"""

NODE = """
const child = require("child_process").spawn("sleep", ["600"], { detached: true });
console.log("child", child.pid);
require("http").createServer((_, answer) => answer.end("v1")).listen(Number(process.argv[2]), "127.0.0.1");
"""

SHELL = """
trap '' TERM HUP INT
sh -c 'trap "" TERM HUP INT; echo child $$; while :; do sleep 600; done' &
exec 3>&1
"$1" -I -m http.server "$2" --bind 127.0.0.1 &
while :; do wait; done
"""

FLASK = """
from flask import Flask
app = Flask(__name__)

@app.get("/")
def home():
    return "v1"
"""

KINDS = {
    "uvicorn": ("main.py", ASGI, ["uvicorn", "main:app", "--port", "PORT"]),
    "flask-debug": ("main.py", FLASK, ["flask", "--app", "main", "run", "--debug", "--port", "PORT"]),
    "pool": ("main.py", POOL, ["python", "main.py", "PORT"]),
    "daemon": ("main.py", DAEMON, ["python", "main.py", "PORT"]),
    "node": ("main.js", NODE, ["node", "main.js", "PORT"]),
    "shell": ("main.sh", SHELL, ["sh", "main.sh", sys.executable, "PORT"]),
    "uv": ("main.py", ASGI, ["uv", "run", "--no-project", "--python", sys.executable, "uvicorn", "main:app", "--port", "PORT"]),
}


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def descendants(pid: int) -> set[int]:
    """All that a process has started, as far as their parents are known."""
    found, more = set[int](), {pid}
    while more:
        found |= more
        more = {child for each in more for child in children(each)} - found
    return found - {pid}


def children(pid: int) -> set[int]:
    found = set[int]()
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def can_listen(port: int) -> bool:
    with suppress(OSError), socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()
        return True
    return False


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", KINDS)
def test_all_is_gone_and_the_port_is_free(devsup: Start, project: Path, port: int, kind: str, rounds: int) -> None:
    name, source, words = KINDS[kind]
    if shutil.which(words[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") is None:
        pytest.skip(f"no {words[0]} here")
    save(project / name, source)
    for _ in range(rounds):
        run = devsup(*(str(port) if word == "PORT" else word for word in words))
        main = run.ready()["pid"]
        told = {int(line.split()[1]) for line in run.lines() if line.startswith("child ")}
        ours = {pid for pid in descendants(run.process.pid) | told if alive(pid)}
        assert main in ours
        run.process.kill()
        run.process.wait()
        wait_until(partial(is_over, ours, port), 5, partial(str, ours))
        run.wait()


def is_over(pids: set[int], port: int) -> bool:
    return not any(map(alive, pids)) and can_listen(port)


# -- what was opened for the user -------------------------------------------------------------------------------------

OPENS = textwrap.dedent("""
    import subprocess, sys, webbrowser
    webbrowser.open("http://127.0.0.1/")
    subprocess.Popen(["xdg-open", "http://127.0.0.1/other"])
""")

BROWSER = """#!/bin/sh
sleep 600 &
echo "$!" >> "{folder}/opened"
"""


def test_a_browser_outlives_everything_and_opens_once(
    devsup: Start, project: Path, tmp_path: Path, port: int, environment: dict[str, str]
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("mybrowser", "xdg-open"):
        save(programs / name, BROWSER.format(folder=tmp_path))
        (programs / name).chmod(0o755)
    save(project / "main.py", OPENS + ASGI)
    env = {"BROWSER": f"{programs}/mybrowser", "PATH": f"{programs}{os.pathsep}{environment['PATH']}"}
    run = devsup("uvicorn", "main:app", "--port", str(port), env=env)
    run.ready()

    def opened() -> list[int]:
        with suppress(OSError):
            return list(map(int, (tmp_path / "opened").read_text().split()))
        return []

    try:
        wait_until(lambda: len(opened()) == 2)
        save(project / "main.py", OPENS + ASGI.replace("v1", "v2"))
        run.ready(2)
        assert run.wait_for("BrowserNotOpened")["url"] == "http://127.0.0.1/"
        wait_until(lambda: len(opened()) == 3)  # what is no webbrowser.open is the program's business
        assert all(map(alive, opened()))
        run.process.kill()
        run.process.wait()
        wait_until(lambda: can_listen(port), 5)
        assert all(map(alive, opened()))
    finally:
        for pid in opened():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("option", "stays"), [("--headless", False), ("--new-window", True)])
def test_of_what_looks_like_a_browser_only_what_the_program_drives_is_ended(
    devsup: Start, project: Path, tmp_path: Path, port: int, option: str, stays: bool
) -> None:
    chrome = tmp_path / "chrome"
    shutil.copy(os.path.realpath("/bin/sh"), chrome)
    words = [str(chrome), "-c", f"{chrome} -c 'sleep 600; :' --type=gpu-process & sleep 600; :", option]
    start = (
        f"import subprocess\nchild = subprocess.Popen({words}, start_new_session=True)\nprint('child', child.pid, flush=True)\n"
    )
    save(project / "main.py", start + ASGI)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    child = int(run.wait_for_line("child ")["line"].split()[1])
    try:
        own = wait_until(partial(children, child))
        assert run.stop() == 0
        assert {alive(pid) for pid in (child, *own)} == {stays}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


OPENING = """
import os, subprocess, sys
for options in ({}, {"preexec_fn": os.setsid}, {"env": dict(os.environb)}, {"process_group": 0}, {"start_new_session": True}):
    if "process_group" not in options or sys.version_info >= (3, 11):
        subprocess.Popen([sys.argv[1] + "/xdg-open", "x"], **options).wait()
subprocess.Popen(sys.argv[1] + "/xdg-open x", shell=True).wait()
class Mine(subprocess.Popen):
    pass
assert Mine([sys.argv[1] + "/xdg-open"], -1).wait() == 0
print("all opened", flush=True)
"""


def test_opening_raises_nothing_that_it_did_not_before(devsup: Start, project: Path) -> None:
    save(project / "xdg-open", "#!/bin/sh\n")
    (project / "xdg-open").chmod(0o755)
    save(project / "main.py", OPENING)
    run = devsup("python", "main.py", str(project))
    assert run.wait() == 0
    assert run.lines() == ["all opened"]


def test_a_server_that_is_called_as_an_editor_is_a_server(devsup: Start, project: Path, port: int) -> None:
    zed = project / "zed"
    shutil.copy(os.path.realpath("/bin/sh"), zed)
    run = devsup(str(zed), "-c", f"{sys.executable} -I -m http.server {port} --bind 127.0.0.1; :")
    run.ready()
    assert run.stop() == 0
