"""`devsup check`: apps that are well, and apps that are broken in one way each, told apart by exit code and check."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import Answer, free_port, tool, wait_until

GOOD = """
import asyncio, json, os, signal, subprocess, sys, threading, time

async def answer(send, status=200, body=b"hi", headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})

async def http(scope, receive, send):
    await answer(send)

async def startup():
    pass

async def websocket(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": "echo " + message["text"]})

async def app(scope, receive, send):
    if scope["type"] == "http":
        return await http(scope, receive, send)
    if scope["type"] == "websocket":
        return await websocket(scope, receive, send)
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await startup()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
"""
FLASK = "from flask import Flask\napp = Flask(__name__)\n@app.get('/')\ndef home(): return 'hi'\n"
WSGI = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hi']\n"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/')\ndef home(): return {'a': 1}\n"
SCRIPT = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"hi")
http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler).serve_forever()
"""
NODE = """
const http = require('http');
const server = http.createServer((q, s) => s.end('hi')).listen(0, '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
const ends = () => { server.close(); server.closeAllConnections(); setInterval(() => 0, 1000); };
if (process.argv[2]) setTimeout(ends, process.argv[2]);
"""
ROUTES = """
async def http(scope, receive, send):
    path = scope["path"]
    if path == "/items":
        found = json.dumps({"items": [{"id": 1}], "ok": True}).encode()
        return await answer(send, 200, found, [(b"content-type", b"application/json")])
    if path == "/old":
        return await answer(send, 302, b"", [(b"location", b"/items")])
    if path == "/echo":
        body = (await receive())["body"]
        return await answer(send, 201, body + dict(scope["headers"]).get(b"x-name", b""))
    if path == "/fails":
        raise ValueError("cannot be done")
    await answer(send)
"""
COUNT = """
seen = 0
async def http(scope, receive, send):
    global seen
    seen += 1
    if scope["path"] == "/every-third" and seen % 3 == 0:
        return await answer(send, 503)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.12)
    if scope["path"] == "/hangs":
        time.sleep(3)
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(2):
            await send({"type": "http.response.body", "body": b"data: x\\n\\n", "more_body": True})
        await receive()
        await asyncio.sleep(60 if (await receive())["type"] != "http.disconnect" else 0)
        return
    await answer(send, 200, json.dumps({"seen": seen, "stuck": 1}).encode())
"""
ONCE = "async def startup():\n    "  # what follows happens when it starts up
LATER = "async def startup():\n    threading.Thread(target=later, daemon=True).start()\ndef later():\n    "


class App(NamedTuple):
    """Files, what is checked, options, and what must come of it: exit code and failing checks."""

    code: int
    failing: set[str]
    main: str = GOOD
    words: tuple[str, ...] = ("main:app",)
    options: tuple[str, ...] = ("--hold", "0.5")
    checks: str = ""  # of devsup.toml, where there is one
    says: str = ""  # in the text of the first failing check, or its diagnosis


def service(checks: str, more: str = "") -> str:
    """A config of one service."""
    return f'[services.web]\ntarget = "main:app"\n{more}\n{checks}'


def one(line: str) -> str:
    """A config with one check, called own."""
    return service(f"[services.web.checks]\nown = {line}\n")


APPS = {
    # well
    "asgi": App(0, set()),
    "command": App(0, set(), words=("uvicorn", "main:app")),
    "module": App(0, set(), words=("python", "-m", "uvicorn", "main:app")),
    "flask": App(0, set(), FLASK),
    "flask command": App(0, set(), FLASK, ("flask", "--app", "main", "run")),
    "fastapi": App(0, set(), FASTAPI),
    "wsgi": App(0, set(), WSGI),
    "script": App(0, set(), SCRIPT, ("python", "main.py")),
    "gunicorn": App(0, set(), WSGI, ("gunicorn", "-w", "2", "main:app")),
    "hypercorn": App(0, set(), GOOD, ("hypercorn", "main:app")),
    "granian": App(0, set(), GOOD, ("granian", "--interface", "asgi", "--workers", "2", "main:app")),
    "node": App(0, set(), words=("node", "main.js")),
    "all kinds of checks": App(
        0,
        set(),
        GOOD + ROUTES,
        checks=service("""
[services.web.checks]
items = { http = "/items", status = 200, fields = { "items.0.id" = 1, ok = true }, has_headers = { content-type = "json$" } }
old = { http = "/old", redirect = "/items" }
echo = { http = "/echo", method = "POST", headers = { X-Name = "me" }, json = { a = 1 }, status = 201, pattern = '^{"a":1}me$' }
text = { http = "/echo", method = "PUT", body = "plain", status = 201, pattern = "^plain$" }
fails = { http = "/fails", status = 500 }
chat = { ws = "/", send = ["one", "two"], receive = ["^echo one$", "two"] }
printed = { log = "Application startup complete" }
unprinted = { never = ["CUDA error"] }
script = { command = "python -c 'import os, urllib.request as u; u.urlopen(os.environ[\\"DEVSUP_URL\\"])'" }
quick = { ready_within = "15s" }
small = { max_memory = "500MB" }
many = { http = "/items", runs = 20, warm_up = 2, median = "2s", max = "10s" }
"""),
    ),
    # does not start
    "no import": App(3, {"start"}, "import nothing_of_that_name\n" + GOOD, says="nothing_of_that_name is not installed"),
    "syntax": App(3, {"start"}, GOOD + "def broken(:\n", says="main.py:32"),
    "startup raises": App(
        3, {"start"}, FASTAPI + "app.router.on_startup.append(lambda: int('no database'))\n", says="no database"
    ),
    "exits 0 too early": App(3, {"start"}, "print('done')\n", ("python", "main.py"), says="exit code 0"),
    "exits 4": App(3, {"start"}, "raise SystemExit(4)\n", ("python", "main.py"), says="exit code 4"),
    "killed at start": App(3, {"start"}, "import os\nos.kill(os.getpid(), 9)\n", ("python", "main.py"), says="SIGKILL"),
    # is not ready
    "startup hangs": App(4, {"ready"}, GOOD + ONCE + "time.sleep(60)\n", options=("--timeout", "2"), says="main.py:33"),
    "never listens": App(4, {"ready"}, "import time\ntime.sleep(60)\n", ("python", "main.py"), ("--timeout", "2")),
    "slow start": App(4, {"ready"}, "import time\ntime.sleep(8)\n" + GOOD, options=("--timeout", "1.5"), says="main.py:2"),
    "probe says no": App(
        4,
        {"ready"},
        options=("--timeout", "2"),
        checks=service('[services.web.probes]\nready = { http = "/", status = 204 }\n'),
        says="204 expected",
    ),
    # does not stay up
    "dies after ready": App(
        5, {"hold"}, GOOD + LATER + "time.sleep(0.6); os._exit(3)\n", options=("--hold", "5"), says="exit code 3"
    ),
    "dies 5 s after": App(
        5, {"hold"}, GOOD + LATER + "time.sleep(5); print('CUDA gone', flush=True); os._exit(1)\n", options=("--hold", "7")
    ),
    "segfault": App(
        5,
        {"hold"},
        GOOD + LATER + "time.sleep(0.6); __import__('ctypes').string_at(0)\n",
        options=("--hold", "5"),
        says="SIGSEGV",
    ),
    "ends well after ready": App(
        5, {"hold"}, GOOD + LATER + "time.sleep(0.6); os.kill(os.getpid(), 15)\n", options=("--hold", "5")
    ),
    "answers wrongly later": App(
        5,
        {"hold"},
        GOOD
        + "began = time.time()\nasync def http(s, r, send):\n    await answer(send, 200 if time.time() < began + 2 else 500)\n",
        options=("--hold", "5"),
        says="GET / answered 500",
    ),
    "listens no more": App(5, {"hold"}, words=("node", "main.js", "1500"), options=("--hold", "5"), says="refused"),
    # answers wrongly
    "500 at /": App(
        1, {"root"}, GOOD + "async def http(s, r, send):\n    await answer(send, 500 if s['path'] == '/' else 404)\n", says="500"
    ),
    "500 at health": App(
        1, {"health"}, GOOD + "async def http(s, r, send):\n    await answer(send, 500 if s['path'] == '/health' else 200)\n"
    ),
    "500 on a route": App(1, {"own"}, GOOD + ROUTES, checks=one('{ http = "/fails" }'), says="ValueError: cannot be done"),
    "wrong status": App(1, {"own"}, GOOD + ROUTES, checks=one('{ http = "/items", status = 201 }'), says="200, 201 expected"),
    "wrong field": App(
        1, {"own"}, GOOD + ROUTES, checks=one('{ http = "/items", fields = { ok = false } }'), says="true, false expected"
    ),
    "no such field": App(
        1, {"own"}, GOOD + ROUTES, checks=one('{ http = "/items", fields = { count = 1 } }'), says="no field count"
    ),
    "wrong header": App(
        1, {"own"}, GOOD + ROUTES, checks=one('{ http = "/items", has_headers = { content-type = "html" } }'), says="html"
    ),
    "wrong body": App(1, {"own"}, GOOD + ROUTES, checks=one('{ http = "/items", pattern = "nothing" }'), says="nothing like"),
    "wrong redirect": App(1, {"own"}, GOOD + ROUTES, checks=one('{ http = "/old", redirect = "/new" }'), says="/new expected"),
    "no redirect": App(1, {"own"}, GOOD + ROUTES, checks=one('{ http = "/items", redirect = "/x" }'), says="300 to 399 expected"),
    "no answer": App(1, {"own"}, GOOD + COUNT, checks=one('{ http = "/hangs", timeout = "1.8s" }'), says="no answer after 1.8 s"),
    "websocket": App(
        1, {"own"}, checks=one('{ ws = "/", send = ["one"], receive = ["two"], timeout = "1s" }'), says="nothing like"
    ),
    "no websocket": App(1, {"own"}, FLASK, checks=one('{ ws = "/" }')),
    "few events": App(
        1, {"own"}, GOOD + COUNT, checks=one('{ sse = "/stream", events = 3, timeout = "1s" }'), says="2 events in 1 s"
    ),
    "slow route": App(1, {"own"}, GOOD + COUNT, checks=one('{ http = "/slow", runs = 5, p95 = "50ms" }'), says="50 ms allowed"),
    "error rate": App(
        1,
        {"own"},
        GOOD + COUNT,
        checks=one('{ http = "/every-third", runs = 9, error_rate = 0.1 }'),
        says="runs went wrong; the last answered 503",
    ),
    "error rate as allowed": App(0, set(), GOOD + COUNT, checks=one('{ http = "/every-third", runs = 9, error_rate = 0.4 }')),
    "command fails": App(1, {"own"}, checks=one("{ command = \"sh -c 'echo no; exit 3'\" }"), says="exited with 3: no"),
    "stalls": App(
        1,
        {"probe-count"},
        GOOD + COUNT,
        checks=service('[services.web.probes]\ncount = { http = "/", field = "stuck", grows_within = "1s", every = "0.3s" }\n'),
        says="stuck is 1",
    ),
    "grows": App(
        0,
        set(),
        GOOD + COUNT,
        checks=service('[services.web.probes]\ncount = { http = "/", field = "seen", grows_within = "5s", every = "0.3s" }\n'),
    ),
    "a stream that a probe follows": App(
        0,
        set(),
        GOOD + COUNT,
        checks=service('[services.web.probes]\nstream = { sse = "/stream", events = 2, within = "30s" }\n'),
    ),
    "requests after one that failed": App(
        0,
        set(),
        FASTAPI + "@app.get('/fails')\ndef fails(): raise ValueError('cannot be done')\n",
        checks=service(
            "[services.web.checks]\n"
            + "".join(f'f{n} = {{ http = "/fails", status = 500 }}\ng{n} = {{ http = "/" }}\n' for n in range(6))
            + 'many = { http = "/fails", runs = 20, status = 500 }\n'
        ),
    ),
    "an endless answer at /": App(
        0,
        set(),
        GOOD
        + """
async def http(scope, receive, send):
    if scope["path"] != "/":
        return await answer(send, 404)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await receive()
    left = asyncio.ensure_future(receive())
    while not left.done():
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.05)
""",
    ),
    "errors as allowed, with their tracebacks": App(
        0,
        set(),
        FASTAPI + "n = 0\n@app.get('/flaky')\ndef flaky():\n    global n\n    n += 1\n    return 1 / (n % 5)\n",
        checks=one('{ http = "/flaky", runs = 20, error_rate = 0.3 }'),
    ),
    "an error beside a meant one": App(
        1,
        {"log"},
        FASTAPI
        + "import logging\n@app.get('/fails')\ndef fails(): raise KeyError('the meant one')\n"
        + "@app.get('/later')\ndef later():\n    import time\n    time.sleep(1.2)\n    logging.error('no model')\n",
        checks=service('[services.web.checks]\na = { http = "/fails", status = 500 }\nb = { http = "/later" }\n'),
        options=("--hold", "3"),
        says="no model",
    ),
    "unix socket": App(0, set(), words=("uvicorn", "main:app", "--uds", "u.sock")),
    # what it prints
    "forbidden line": App(
        1, {"own"}, GOOD + ONCE + "print('CUDA error: 7')\n", checks=one("{ never = ['CUDA error: \\d'] }"), says="CUDA error: 7"
    ),
    "forbidden line among many": App(
        1,
        {"clean"},
        GOOD + LATER + "print('CUDA error: 7', flush=True)\n    while True: print('tick', flush=True); time.sleep(0.002)\n",
        checks=service("[services.web.checks]\nclean = { never = ['CUDA error'] }\nticks = { log = 'tick' }\n"),
        options=("--hold", "1.5"),
    ),
    "missing line": App(1, {"own"}, checks=one("{ log = 'cache is warm', timeout = '0.5s' }"), says="cache is warm"),
    "logs an error": App(1, {"log"}, GOOD + ONCE + "__import__('logging').error('no model')\n", says="no model"),
    "thread dies": App(1, {"log"}, GOOD + LATER + "raise ValueError('thread is no more')\n", says="thread is no more"),
    "error as meant": App(
        0,
        set(),
        GOOD + ONCE + "__import__('logging').error('no model')\n",
        checks=service("[services.web.checks]\nlog = { never = ['FATAL'] }\n"),
    ),
    # what it uses, and leaves
    "late": App(
        1, {"own"}, "import time\ntime.sleep(0.7)\n" + GOOD, checks=one('{ ready_within = "0.5s" }'), says="0.5 s allowed"
    ),
    "large": App(1, {"own"}, "x = b'x' * 200_000_000\n" + GOOD, checks=one('{ max_memory = "150MB" }'), says="143 MiB allowed"),
    "leaks": App(
        1,
        {"memory"},
        "kept = []\n" + GOOD + LATER + "while True: kept.append(b'x' * 5_000_000); time.sleep(0.1)\n",
        options=("--hold", "2.5"),
        says="goes on",
    ),
    "second listener": App(
        1,
        {"listener"},
        GOOD
        + """
child = None
async def http(scope, receive, send):
    global child
    port = scope["server"][1]
    code = "import socket, time; s = socket.create_server(('::1', %d), family=socket.AF_INET6); time.sleep(60)" % port
    child = child or subprocess.Popen([sys.executable, "-c", code])
    await answer(send)

_app = app
async def app(scope, receive, send):
    await _app(scope, receive, send)
    if scope["type"] == "lifespan":
        child.kill()
""",
        words=("uvicorn", "main:app", "--host", "127.0.0.1"),
        options=("--hold", "1.5"),
        says="[::1]",
    ),
    "ignores TERM": App(
        1,
        {"stop"},
        GOOD + ONCE + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
        checks=service("", 'stop_timeout = "1s"'),
        says="within 1 s of SIGTERM",
    ),
    "exits 7 on TERM": App(
        1, {"stop"}, GOOD + ONCE + "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))\n", says="exit code 7"
    ),
    "leaves a child": App(
        1, {"leftovers"}, GOOD + ONCE + "subprocess.Popen(['sleep', '60'], start_new_session=True)\n", says="sleep 60"
    ),
    "leaves its port": App(
        1,
        {"port"},
        GOOD
        + """
def inherited():
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists("/proc/self/fd/" + name) and os.readlink("/proc/self/fd/" + name).startswith("socket:"):
            os.set_inheritable(int(name), True)

kept = False
async def http(scope, receive, send):
    global kept
    if not kept:
        inherited()
        code = "import os\\nif not os.fork():\\n os.setsid()\\n if not os.fork(): os.execve('/bin/sleep', ['sleep', '6'], {})\\n"
        subprocess.Popen([sys.executable, "-ISc", code], close_fds=False, env={}, stdout=-3, stderr=-3).wait()
        kept = True
    await answer(send)
""",
        words=("uvicorn", "main:app"),
        says="still held by sleep",
    ),
}


@pytest.fixture
def check(project: Path, ask: Callable[..., Answer]) -> Callable[..., tuple[int, Any]]:
    """`check("main:app", "--hold", "1")` in the project: exit code and report."""

    def run(*words: str) -> tuple[int, Any]:
        done = ask("check", "--json", *words)
        assert done.out, done.err
        report = done.json
        assert report["code"] == done.code
        return done.code, report

    return run


def failing(report: Any) -> dict[str, Any]:
    """The outcomes that are bad, by name."""
    outcomes = [each for part in report["rounds"] for each in part["outcomes"]]
    return {each["name"]: each for each in outcomes if each["verdict"] in {"failed", "slow"}}


def story(outcome: Any) -> str:
    """What it says, why, where, and what was printed."""
    place, cause = outcome["place"] or {}, (outcome["diagnosis"] or {}).get("cause", "")
    where = f"{Path(place.get('file', '')).name}:{place.get('line')}"
    return " | ".join([outcome["text"], cause, where, *outcome["lines"]])


# Each is like another one.
SELDOM = set(
    "module|flask command|wsgi|hypercorn|exits 4|killed at start|slow start|ends well after ready|500 at health|no such field|"
    "wrong header|wrong body|no redirect|no websocket|error rate as allowed|command fails|grows|missing line|error as meant|late|"
    "dies after ready".split("|")
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.soak if name in SELDOM else ()) for name in APPS])
def test_each_app_is_told_for_what_it_is(name: str, project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    code, names, main, words, options, config, says = APPS[name]
    (project / "main.py").write_text(main)
    (project / "main.js").write_text(NODE)
    if words[0] == "node":
        tool("node")
    if config:
        (project / "devsup.toml").write_text(config)
        words = ()
    found, report = check(*options, *words)
    bad = failing(report)
    if name == "an error beside a meant one":
        assert bad["log"]["diagnosis"] is None
    told = {each: story(bad[each]) for each in bad}
    assert (found, set(bad)) == (code, names), told
    assert all(says in each for each in told.values()), told
    assert all(each["alone"].startswith("devsup check --only ") for each in bad.values())
    assert not list(project.glob(".devsup"))  # nothing is left in the project


# What cannot be checked


def test_a_taken_port_is_told_with_its_holder(project: Path, ask: Callable[..., Answer]) -> None:
    (project / "main.py").write_text(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        done = ask("check", "--hold", "0", "uvicorn", "main:app", "--port", str(number))
    assert done.code == 6, done.out + done.err
    assert f"Port {number} is taken: 127.0.0.1:{number} by" in done.out
    assert f"devsup port {number} --free" in done.out
    assert "1 failed" in done.out


def test_a_port_that_only_the_program_knows(project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        (project / "main.py").write_text(SCRIPT.replace('("127.0.0.1", 0)', f'("127.0.0.1", {number})'))
        code, report = check("python", "main.py")
    assert code == 6
    assert f"Port {number} is taken" in failing(report)["start"]["text"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "There is nothing to run."),
        (("no-such-program",), 'There is no program "no-such-program"'),
        (("--only", "rot", "main:app"), "--only rot: there is no such check."),
        (("--port", "8000", "python", "main.py"), "It is not known how python main.py is told its port."),
        (("--hold", "soon", "main:app"), "'soon' is no time"),
        (("--repeat", "0", "main:app"), "0 is not in the range"),
        (("--file", "nothing.toml"), "There is no file"),
        (("--junit", "main.py/x.xml", "main:app"), "main.py/x.xml cannot be written"),
        (("main:nothing",), "has no attribute"),
        (("nothing:app",), "There is no module"),
    ],
)
def test_bad_usage_ends_with_2_and_a_remedy(words: tuple[str, ...], said: str, project: Path, ask: Callable[..., Answer]) -> None:
    (project / "main.py").write_text(GOOD)
    done = ask("check", "--hold", "0", *words)
    assert done.code == 2, done.out + done.err
    assert said in done.out + done.err
    assert "Traceback" not in done.err


# How it is used


def test_one_check_alone_does_not_hold(project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    (project / "main.py").write_text(GOOD + ROUTES)
    (project / "devsup.toml").write_text(
        service('[services.web.checks]\nitems = { http = "/items" }\nfails = { http = "/fails" }\n')
    )
    code, report = check("--only", "web.items")
    assert (code, [each["name"] for each in report["rounds"][0]["outcomes"]]) == (0, ["items"])
    assert report["rounds"][0]["phases"]["hold"] < 1
    code, report = check("--only", "fails", "--only", "root")
    assert (code, set(failing(report))) == (1, {"fails"})


def test_the_command_to_repeat_a_failed_check_is_true(project: Path, ask: Callable[..., Answer]) -> None:
    (project / "main.py").write_text(GOOD + "async def http(s, r, send):\n    await answer(send, 500)\n")
    done = ask("check", "--hold", "0.2", "--port", "0", "--junit", "x.xml", "uvicorn", "main:app")
    line = next(line for line in done.out.splitlines() if "--only root" in line)
    words = line.partition("devsup check ")[2].split()
    assert words == ["--only", "root", "--hold", "0.2", "--port", "0", "uvicorn", "main:app"]
    again = ask("check", *words)
    assert again.code == 1
    assert [line.split()[:2] for line in again.out.splitlines() if line.startswith(("FAIL", "PASS"))] == [["FAIL", "root"]]


def test_flaky_starts_are_counted(project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    flaky = "import pathlib\nn = pathlib.Path('n')\nn.write_text(str(int(n.read_text()) + 1 if n.exists() else 0))\n"
    (project / "main.py").write_text(flaky + "if n.read_text() == '1': raise SystemExit(9)\n" + GOOD)
    code, report = check("--hold", "0", "--repeat", "3", "main:app")
    assert code == 3
    assert [any(each["verdict"] == "failed" for each in part["outcomes"]) for part in report["rounds"]] == [False, True, False]
    assert "exit code 9" in story(failing(report)["start"])


def test_quiet_where_nobody_looks(project: Path, ask: Callable[..., Answer]) -> None:
    (project / "main.py").write_text(GOOD)
    done = ask("check", "--hold", "0", "main:app")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1
    assert done.out.startswith("11 passed in ")
    for phase in ("prepare", "start", "checks", "hold", "stop"):
        assert f"{phase} " in done.out
    loud = ask("check", "--hold", "0", "-v", "main:app")
    for name in ("start", "ready", "listener", "root", "log", "hold", "memory", "stop", "port", "leftovers"):
        assert f"PASS {name}" in loud.out
    assert "Application startup complete" in loud.err  # as the program prints it


def test_a_team_is_checked_in_order(project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    first, second = free_port(), free_port()
    (project / "main.py").write_text(GOOD)
    (project / "devsup.toml").write_text(
        f"""
[services.db]
command = "uvicorn main:app --port {first}"
[services.migrate]
command = "python -c 'print(1)'"
[services.web]
command = "uvicorn main:app --port {second}"
depends_on = {{ db = "ready", migrate = "completed" }}
[services.web.checks]
own = {{ http = "/", status = 204 }}
[services.other]
command = "python -c 'raise SystemExit(3)'"
"""
    )
    code, report = check("--hold", "0", "web")
    outcomes = report["rounds"][0]["outcomes"]
    assert (code, set(failing(report))) == (1, {"own"})
    assert {each["service"] for each in outcomes} == {"db", "migrate", "web"}
    assert [each["verdict"] for each in outcomes if each["service"] == "migrate" and each["name"] == "start"] == ["passed"]
    code, report = check("--hold", "0")
    bad = [(each["service"], each["name"]) for each in report["rounds"][0]["outcomes"] if each["verdict"] == "failed"]
    assert (code, bad) == (3, [("other", "start")])


def test_a_port_can_be_chosen(project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    number = free_port()
    (project / "main.py").write_text(GOOD)
    code, report = check("--hold", "0", "--port", str(number), "uvicorn", "main:app", "--port", "1")
    texts = {each["name"]: each["text"] for each in report["rounds"][0]["outcomes"]}
    assert code == 0
    assert f"http://127.0.0.1:{number} " in texts["ready"]
    assert texts["port"] == f"{number} free again"


def test_secrets_are_in_nothing_that_it_says(project: Path, ask: Callable[..., Answer]) -> None:
    (project / "main.py").write_text(GOOD + ROUTES.replace("cannot be done", "bad key s3cr3t-value-1"))
    (project / "devsup.toml").write_text(
        service(
            '[services.web.checks]\nown = { http = "/fails", headers = { Authorization = "Bearer s3cr3t-value-1" } }\n',
            'env = { API_KEY = "s3cr3t-value-1" }',
        )
    )
    report = ask("check", "--json", "--hold", "0").json
    own = failing(report)["own"]
    assert own["diagnosis"]["cause"] == "ValueError: bad key •••"
    assert "s3cr3t" not in json.dumps({**own, "lines": []})  # what the program prints itself is its own
    assert "s3cr3t" not in ask("config").out


# The reload test


def test_a_save_during_a_request(project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    (project / "main.py").write_text('"""An app."""\nfrom __future__ import annotations\n' + GOOD)
    before = (project / "main.py").read_text()
    code, report = check("--hold", "0", "--reload-test", "main:app")
    last = report["rounds"][1]["outcomes"][-1]
    assert (code, last["name"], last["verdict"]) == (0, "reload", "passed"), last
    assert "main.py was saved during a request: answered, and by new code after it" in last["text"]
    assert (project / "main.py").read_text() == before


def test_a_save_during_a_request_of_ones_own(project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    (project / "main.py").write_text(GOOD + COUNT)
    (project / "devsup.toml").write_text(service('[services.web.checks]\nreload = { http = "/slow", fields = { stuck = 1 } }\n'))
    assert check("--hold", "0", "--reload-test", "--only", "reload")[0] == 0
    (project / "devsup.toml").write_text(service('[services.web.checks]\nreload = { http = "/slow", fields = { stuck = 2 } }\n'))
    code, report = check("--hold", "0", "--reload-test", "--only", "reload")
    assert (code, set(failing(report))) == (1, {"reload"})


@pytest.mark.parametrize(
    ("reload", "main", "said"),
    [
        ("restart", GOOD + "import socket\n", "GET /, under way at a save,"),
        ("drain", GOOD + "if 'devsup reload test' in open(__file__).read()[:999]: raise ValueError('twice')\n", "did not start"),
    ],
)
def test_what_a_save_breaks_is_told(
    reload: str, main: str, said: str, project: Path, check: Callable[..., tuple[int, Any]]
) -> None:
    (project / "main.py").write_text(main)
    (project / "devsup.toml").write_text(service("", f'reload = "{reload}"'))
    code, report = check("--hold", "0", "--reload-test")
    assert (code, set(failing(report))) == (1, {"reload"})
    assert said in failing(report)["reload"]["text"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("prints much", (GOOD + "for n in range(100): print(n)\n").encode()),
        ("byte order mark", b"\xef\xbb\xbf" + GOOD.encode()),
        ("latin-1", b"# -*- coding: latin-1 -*-\n# \xe9\n" + GOOD.encode()),
        ("lines that are none", b'"""Docs\x0c\xe2\x80\xa8of two."""\r\n' + GOOD.replace("\n", "\r\n").encode()),
    ],
)
def test_a_save_of_any_file(name: str, data: bytes, project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    (project / "main.py").write_bytes(data)
    code, report = check("--hold", "0", "--reload-test", "--only", "reload", "main:app")
    assert (code, failing(report)) == (0, {})
    assert (project / "main.py").read_bytes() == data


def test_what_a_save_must_never_touch(project: Path, check: Callable[..., tuple[int, Any]]) -> None:
    """The project itself, whether the command names it whole, or links lead to it."""
    (project / "backend" / "app").mkdir(parents=True)
    (project / "app").symlink_to(project / "backend" / "app")
    source = project / "backend" / "app" / "main.py"
    source.write_text(GOOD)
    (project / "run.py").write_text(SCRIPT)
    for words in (("app.main:app",), ("python", str(project / "run.py"))):
        code, report = check("--hold", "0", "--reload-test", "--only", "reload", *words)
        assert (code, failing(report)) == (0, {})
    assert (source.read_text(), (project / "run.py").read_text()) == (GOOD, SCRIPT)


@pytest.mark.parametrize(
    ("config", "words", "said"),
    [
        ('[services.web]\ntarget = "main:app"\nreload = "off"\n', (), "and --reload-test needs one"),
        ('[services.a]\ntarget = "main:app"\n[services.b]\ntarget = "main:app"\n', (), "--reload-test is of one service"),
        ("", ("node", "main.js"), "which file of the project is to be saved"),
    ],
)
def test_what_cannot_be_saved_is_told_before_anything_starts(
    config: str, words: tuple[str, ...], said: str, project: Path, ask: Callable[..., Answer]
) -> None:
    (project / "main.py").write_text(GOOD)
    (project / "main.js").write_text(NODE)
    (project / "devsup.toml").write_text(config)
    done = ask("check", "--reload-test", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


# Interrupts


@pytest.fixture
def folders() -> Iterator[dict[str, str]]:
    """Where devsup and Python have their temporary files: short, as paths of sockets must be; nothing may be left there."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield {"TMPDIR": folder, "XDG_RUNTIME_DIR": folder}
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("when", "main", "options"),
    [
        ("starting", GOOD + ONCE + "print('now', flush=True); time.sleep(60)\n", ()),
        ("hold", GOOD + LATER + "time.sleep(0.5); print('now', flush=True)\n", ("--hold", "60")),
        ("request", GOOD + "async def http(s, r, send):\n    print('now', flush=True)\n    await asyncio.sleep(60)\n", ()),
        (
            "stop",
            GOOD + ONCE + "signal.signal(signal.SIGTERM, lambda *_: (print('now', flush=True), time.sleep(1.5), os._exit(0)))\n",
            ("--hold", "0", "--repeat", "9"),
        ),
        ("reload", GOOD + "if 'devsup-check' in __file__: print('now', flush=True)\n", ("--hold", "0", "--reload-test")),
    ],
)
def test_an_interrupt_ends_all_and_says_so(
    when: str,
    main: str,
    options: tuple[str, ...],
    number: int,
    project: Path,
    environment: dict[str, str],
    folders: dict[str, str],
) -> None:
    (project / "main.py").write_text(main)
    command = [sys.executable, "-m", "devsup", "check", "--verbose", *options, "main:app"]
    with subprocess.Popen(
        command, cwd=project, env={**environment, **folders}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = next(line for line in process.stdout if line.strip() == "now")
        process.send_signal(number)
        said = process.stdout.read()
    assert process.returncode == 130, said
    assert "FAIL" not in said
    assert "interrupted; all that was started is ended" in said


def test_a_check_that_is_killed_leaves_no_process(project: Path, environment: dict[str, str]) -> None:
    """The fixture looks for them; only folders stay, and the doctor names them."""
    (project / "main.py").write_text(GOOD)
    (project / "devsup.toml").write_text(one("""{ command = "sh -c 'echo $$ > pid; sleep 30'" }"""))
    command = [sys.executable, "-m", "devsup", "check", "--hold", "60"]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        env = {**environment, "XDG_RUNTIME_DIR": folder}
        with subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.DEVNULL) as process:
            pid = wait_until(lambda: (project / "pid").read_text().strip() if (project / "pid").exists() else "")
            process.kill()
        wait_until(lambda: not Path("/proc", pid).exists())
        left = [each for each in Path(folder).iterdir() if each.name.startswith(f"devsup-check-{process.pid}-")]
        assert len(left) == 1
        os.utime(left[0], (0, 0))
        told = subprocess.run(
            [sys.executable, "-m", "devsup", "doctor", "--json"],
            cwd=project,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert str(left[0]) in told.stdout


def test_nobody_reads_on(project: Path, environment: dict[str, str]) -> None:
    """As `| head -1`: the verdict and the files are there all the same."""
    (project / "main.py").write_text(GOOD)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "devsup", "check", "--verbose", "--hold", "0", "--junit", "x.xml", "main:app"]
    done = subprocess.run(command, cwd=project, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (project / "x.xml").exists()
