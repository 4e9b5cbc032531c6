"""Exceptions and output that are made to break whoever shows them; and secrets, which nobody is shown."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness import LIMIT, Run, fetch, save, wait_until

Start = Callable[..., Run]

SERVES = """
import sys
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"v1"})
"""
HOSTILE = {
    "ten megabytes": "raise ValueError('x' * 10_000_000)\n",
    "control characters": "raise ValueError('\\x1b[2J\\x1b]0;title\\x07\\r\\n\\x00 <script>alert(1)</script>')\n",
    "broken text": "class Broken(Exception):\n    def __str__(self): raise RuntimeError('in __str__')\n"
    "    __repr__ = __str__\nraise Broken()\n",
    "deep recursion": "sys.setrecursionlimit(20_000)\ndef deep(n): return deep(n - 1) if n else 1 / 0\ndeep(10_000)\n",
    "not UTF-8": "sys.stdout.buffer.write(b'\\xff\\xfe\\x80' * 1000)\nsys.stdout.flush()\nraise ValueError('\\udcff')\n",
    "no newline": "for _ in range(50): sys.stdout.write('y' * 1_000_000)\nsys.stdout.flush()\nraise ValueError('after')\n",
    "a file name that is no UTF-8": "raise SyntaxError('bad', ('/tmp/x\\udcff.py', 3, 1, 't'))\n",
    "a line that is no number": "raise SyntaxError('bad', ('/tmp/x.py', 'abc', 1, 't'))\n",
    "a file name with a NUL": "raise SyntaxError('bad', ('/tmp/\\0.py', 3, 1, 't'))\n",
    "a name of markup": "raise type('[red]<b>&', (Exception,), {})('[/red] </main>')\n",
    "a chain": "def chain(n):\n    try:\n        if n: chain(n - 1)\n        else: raise KeyError(n)\n"
    "    except Exception: raise ValueError(n)\nchain(200)\n",
}
_MOST = 120  # MiB that the supervisor may have


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_exception_is_shown_cut_and_escaped(devsup: Start, project: Path, port: int, kind: str) -> None:
    save(project / "main.py", SERVES)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    save(project / "main.py", SERVES + HOSTILE[kind])
    found = run.wait_for("Diagnosed", limit=2 * LIMIT)["diagnosis"]
    run.wait_for("PlaceholderShown")
    for text in (found["cause"], found["remedy"], *found["evidence"]):
        assert len(text) < 300
        assert text.isprintable(), text
    assert len(json.dumps(found)) < 100_000
    page = ask(port, "text/html")
    assert "<script>alert" not in page
    assert page.count("</main>") == 1
    assert "\x1b" not in page
    assert "\x00" not in page
    assert len(page) < 1_000_000
    json.loads(ask(port, "application/json"))
    assert psutil.Process(run.process.pid).memory_info().rss < _MOST << 20
    save(project / "main.py", SERVES)
    run.ready(run.wait_for("WorkerReady", 2)["generation"])
    assert fetch(port) == (200, "v1")


def ask(port: int, accept: str) -> str:
    with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
        data = b""
        while piece := sock.recv(65536):
            data += piece
    return data.partition(b"\r\n\r\n")[2].decode()


# -- secrets ----------------------------------------------------------------------------------------------------------

SECRET = "s3cr3t-pAssw0rd-42"
LEAKS = (
    "import os\nraise ValueError('cannot log in with ' + os.environ['SERVICE_API_KEY'] + ' at ' + os.environ['DATABASE_URL'])\n"
)


def test_no_value_of_a_secret_is_shown_but_by_the_app_itself(
    devsup: Start, project: Path, port: int, environment: dict[str, str]
) -> None:
    environment["SERVICE_API_KEY"] = SECRET
    environment["DATABASE_URL"] = "postgresql://me:hunter22@db/app"
    environment["MONKEY"] = "MONKEYS-ARE-NO-SECRET"
    save(project / "main.py", LEAKS + SERVES)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.wait_for("PlaceholderShown")
    own = [event for event in run.events if event["event"] != "Line"]
    for text in (json.dumps(own), ask(port, "text/html"), ask(port, "application/json"), ask(port, "text/plain")):
        assert SECRET not in text
        assert "hunter22" not in text
    assert "cannot log in with ••• at postgresql://me:•••@db/app" in run.wait_for("Diagnosed")["diagnosis"]["cause"]
    wait_until(lambda: SECRET in run.stderr)  # the app's own output passes unchanged
    log = (project / ".devsup" / "events.jsonl").read_text()
    assert SECRET not in log


def test_a_secret_of_an_env_file_is_one(devsup: Start, project: Path, port: int) -> None:
    save(project / ".env", f"AUTH_TOKEN={SECRET}\n")
    save(project / "main.py", LEAKS.replace("SERVICE_API_KEY", "AUTH_TOKEN").replace("DATABASE_URL", "PATH") + SERVES)
    run = devsup("uvicorn", "main:app", "--port", str(port), options=["--env-file", ".env"])
    found = run.wait_for("Diagnosed")["diagnosis"]
    assert "cannot log in with •••" in found["cause"]
