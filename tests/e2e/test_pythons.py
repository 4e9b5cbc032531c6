"""Every Python that a project may have, with uvicorn and Flask from the registry: the whole story, and no warning."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.exchanges import HEAD_END
from conformance.wire import TEXT, Exchange, Hold, Leave, Read, Result, Target, frame, handshake
from harness import Run, fetch, save

VERSIONS = ("3.9", "3.10", "3.12", "3.13", "3.14")
PACKAGES = ("uvicorn", "websockets", "flask")

HEAD = """
import os, sys, time
from pathlib import Path

VERSION = "v1"

def released():
    with Path(os.environ["SEEN"], "held").open("a") as file:
        file.write("held\\n")
    while not Path(os.environ["SEEN"], "release").exists():
        yield
"""
ASGI = (
    HEAD
    + """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        if hasattr(asyncio, "eager_task_factory"):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/slow":
        for _ in released():
            await asyncio.sleep(0.01)
    if scope["type"] == "websocket":
        return await talk(receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await asyncio.create_task(send({"type": "http.response.body", "body": VERSION.encode()}))

async def talk(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message["text"] == "hold":
            await asyncio.create_task(wait())
        if message["text"] == "idle":
            next(released())
        await send({"type": "websocket.send", "text": message["text"] + VERSION})

async def wait():
    for _ in released():
        await asyncio.sleep(0.01)
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

@app.get("/slow")
def slow():
    for _ in released():
        time.sleep(0.01)
    return VERSION
"""
)

SLOW = Exchange("slow", (b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", Hold()))
BUSY = Exchange("busy", (handshake("/ws"), HEAD_END, frame(TEXT, "hold"), Hold(), Read(b"holdv1"), Leave()))
# It answers once, then waits for nothing until the reload closes it.
IDLE = Exchange("idle", (handshake("/ws"), HEAD_END, frame(TEXT, "idle"), Read(b"idlev1"), Hold()))
CLOSED_BY_RELOAD = b"\x88\x02\x03\xf4"  # 1012


def find_python(version: str) -> str:
    """A Python of this version that runs, on PATH or in pyenv's folder; else a skip that says so."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [shutil.which(f"python{version}"), *(str(path / "bin" / "python") for path in versions.glob(f"{version}.*"))]
    question = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", question], capture_output=True, text=True, timeout=20, check=False)
        if done.stdout.strip() == version:
            return candidate
    pytest.skip(f"there is no Python {version} with the module venv on PATH or in pyenv's folder")


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Of all the processes that run tests, one at a time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def elsewhere(version: str) -> Path:
    """A virtual environment of that Python with the servers in it; made once, and kept beside the tests' own."""
    python = find_python(version)
    folder = Path(sys.prefix) / "pythons" / version
    folder.parent.mkdir(exist_ok=True)
    with alone(folder.parent / f"{version}.lock"):
        if not (folder / "complete").exists():
            bare = [python, "-m", "venv", "--clear", "--without-pip", str(folder)]
            subprocess.run(bare, check=True, timeout=200, stdin=subprocess.DEVNULL)
            pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
            words = [*pip, "install", "--quiet", "--no-compile", *PACKAGES]
            done = subprocess.run(words, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL, check=False)
            if done.returncode:
                pytest.skip(f"{', '.join(PACKAGES)} cannot be installed for Python {version}: {done.stderr[-200:]}")
            (folder / "complete").touch()
    return folder


class Story:
    """An app under another Python, and what every server must do there."""

    def __init__(self, devsup: Callable[..., Run], folder: Path, source: str, python: Path, words: str) -> None:
        self.folder, self.source, self.seen = folder, source, folder.parent / "seen"
        self.seen.mkdir()
        self.save(1)
        port = re.search(r"--port (\d+)", words)
        assert port is not None
        self.port = int(port[1])
        env = {"SEEN": str(self.seen), "VIRTUAL_ENV": "", "DEVSUP_DEBUG": "1"}
        self.run = devsup("python", "-W", "error", *words.split(), options=["--python", str(python)], env=env)

    def save(self, version: int, end: str = "") -> None:
        text = self.source.replace('"v1"', f'"v{version}"') + "#" * version + "\n" + end
        save(self.folder / "main.py", text)

    def serves(self, version: str) -> None:
        ready = self.run.ready()
        assert ready["python"].startswith(version + ".")
        assert fetch(self.port) == (200, "v1")

    def drains(self, *held: Exchange) -> dict[str, Result]:
        """Save while all of these are held: each is answered by the old code, then new code comes."""

        def save_and_see_it_wait() -> None:
            self.save(2)
            self.run.wait_for("ReloadWaiting")

        target = Target(self.port, self.seen, save_and_see_it_wait, len(held))
        with ThreadPoolExecutor(len(held)) as pool:
            found = dict(zip([each.name for each in held], pool.map(target.play, held), strict=True))
        self.run.ready(2)
        assert fetch(self.port) == (200, "v2")
        assert self.run.all("WorkLost") == []
        assert b"v1" in found["slow"].received.partition(b"\r\n\r\n")[2]
        return found

    def keeps_a_syntax_error_away(self) -> None:
        self.save(3, "def broken(:\n")
        broken = self.run.wait_for("SyntaxBroken")
        assert "SyntaxError" in json.dumps(broken)
        assert fetch(self.port) == (200, "v2")
        self.save(4)
        self.run.ready(3)
        assert fetch(self.port) == (200, "v4")

    def ends_clean(self) -> None:
        assert self.run.stop() == 0
        assert self.run.all("Trouble") == []
        assert [event["expected"] for event in self.run.all("WorkerExited")] == [True] * 3
        output = self.run.story()
        assert "Traceback" not in output, output
        assert not re.search(r"\w+Warning", output), output
        assert "devsup: " not in output


@pytest.mark.timeout(300)  # an environment may have to be made first
def test_uvicorn_on_every_python(devsup: Callable[..., Run], project: Path, port: int, version: str, elsewhere: Path) -> None:
    words = f"-m uvicorn main:app --port {port} --ws websockets-sansio --loop asyncio"
    story = Story(devsup, project, ASGI, elsewhere, words)
    story.serves(version)
    found = story.drains(SLOW, BUSY, IDLE)
    assert found["busy"].received.endswith(b"holdv1")
    assert found["idle"].received.endswith(b"idlev1" + CLOSED_BY_RELOAD)
    story.keeps_a_syntax_error_away()
    story.ends_clean()


@pytest.mark.timeout(300)  # an environment may have to be made first
def test_flask_on_every_python(devsup: Callable[..., Run], project: Path, port: int, version: str, elsewhere: Path) -> None:
    story = Story(devsup, project, FLASK, elsewhere, f"-m flask --app main:app run --port {port}")
    story.serves(version)
    story.drains(SLOW)
    story.keeps_a_syntax_error_away()
    story.ends_clean()
