"""What clients see while nothing serves: a page in browsers, problem+json in programs, and nothing of it from outside."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser import Page, axe, browser
from harness import LIMIT, Run, save, wait_until

Start = Callable[..., Run]

APP = """
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

async def home(request):
    return HTMLResponse("<!doctype html><title>app</title><h1>VERSION</h1>")

app = Starlette(routes=[Route("/", home)])
"""
BROKEN = "import os\nimport nosuchpackage  # <b>bold</b>\n"
SHOTS = os.environ.get("DEVSUP_SCREENSHOTS", "")


def save_app(project: Path, version: str = "v1", before: str = "") -> None:
    save(project / "main.py", before + APP.replace("VERSION", version))


def ask(port: int, *fields: str, method: str = "GET", path: str = "/") -> tuple[int, dict[str, str], str]:
    """Status, headers and body of a request with these header lines."""
    lines = [
        f"{method} {path} HTTP/1.1",
        *(fields if any(f.lower().startswith("host") for f in fields) else ("Host: localhost", *fields)),
    ]
    with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        data = b""
        while piece := sock.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return int(status.split()[1]), headers, body.decode()


@pytest.fixture
def run(devsup: Start, project: Path, port: int) -> Run:
    """A service whose app has been broken by a save."""
    save_app(project)
    started = devsup("uvicorn", "main:app", "--port", str(port), "--log-level", "warning")
    started.ready()
    save_app(project, "v2", BROKEN)
    started.wait_for("PlaceholderShown")
    return started


def test_a_program_gets_the_diagnosis_as_problem_json(run: Run, port: int, project: Path) -> None:
    status, headers, body = ask(port, "Accept: */*")
    problem = json.loads(body)
    assert (status, headers["content-type"], headers["retry-after"]) == (503, "application/problem+json", "1")
    assert (problem["status"], problem["type"]) == (503, "urn:devsup:module-not-installed")
    assert "Module nosuchpackage is not installed" in problem["detail"]
    assert problem["diagnosis"]["remedy"].endswith("-m pip install nosuchpackage")
    assert problem["diagnosis"]["place"]["file"] == str(project / "main.py")
    assert problem["diagnosis"] == run.wait_for("Diagnosed")["diagnosis"]
    assert problem["output"][-1] == "ModuleNotFoundError: No module named 'nosuchpackage'"


def test_a_terminal_gets_text(run: Run, port: int) -> None:
    status, headers, body = ask(port, "Accept: */*", "User-Agent: curl/8.5.0")
    assert (status, headers["content-type"]) == (503, "text/plain; charset=utf-8")
    assert "Module nosuchpackage is not installed" in body
    assert ask(port, method="HEAD")[2] == ""


def test_a_browser_gets_a_page_that_runs_nothing_but_its_own(run: Run, port: int) -> None:
    status, headers, body = ask(port, "Accept: text/html,*/*")
    assert (status, headers["content-type"]) == (503, "text/html; charset=utf-8")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; frame-ancestors 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "import nosuchpackage  # &lt;b&gt;bold&lt;/b&gt;" in body
    assert "<b>" not in body
    assert "vscode://file/" in body


OUTSIDE = {
    "another host": ["Host: devsup.example"],
    "a host and a port of another": ["Host: example.com:8000"],
    "a tunnel": ["Host: localhost", "X-Forwarded-For: 203.0.113.7"],
    "a proxy": ["Host: localhost", "Forwarded: for=203.0.113.7"],
    "two hosts": ["Host: localhost", "Host: example.com"],
    "a name that begins alike": ["Host: localhost.example.com"],
    "a proxy that only says so": ["Host: localhost", "Via: 1.1 proxy"],
    "a page of another site": ["Host: localhost", "Sec-Fetch-Site: cross-site"],
    "a head that is too long to be read": ["Host: localhost", *["X-Filler: " + "x" * 1000] * 70, "X-Forwarded-For: 203.0.113.7"],
}


def test_who_asks_from_elsewhere_learns_nothing(run: Run, port: int, project: Path) -> None:
    for kind, accept in itertools.product(OUTSIDE, ["text/html", "application/json", "text/plain"]):
        status, _, body = ask(port, *OUTSIDE[kind], f"Accept: {accept}")
        assert status == 503, kind
        for secret in ("nosuchpackage", str(project), "main.py", "Traceback"):
            assert secret not in body, f"{kind}, {accept}"


def test_a_proxy_of_http_1_0_learns_nothing(run: Run, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: text/html\r\n\r\n")
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert b" 503 " in data
    assert b"nosuchpackage" not in data


def test_clients_without_number_do_not_end_devsup(devsup: Start, project: Path, port: int) -> None:
    """More connections than devsup may have descriptors."""
    save_app(project, "v1", BROKEN)
    limited = 'import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); sys.argv[0] = "devsup"; '
    save(project / "limited.py", limited + "from devsup.cli import main; main()\n")
    words = [sys.executable, "limited.py", "run", "--log-format", "json", "uvicorn", "main:app", "--port", str(port)]
    env = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    run = Run(words, project, env)
    socks: list[socket.socket] = []
    try:
        run.wait_for("PlaceholderShown")
        for _ in range(260):
            socks.append(socket.socket())
            socks[-1].setblocking(False)
            socks[-1].connect_ex(("127.0.0.1", port))
        wait_until(lambda: len(list(Path(f"/proc/{run.process.pid}/fd").iterdir())) >= 195)
        for sock in socks:
            sock.close()
        assert ask(port, "Accept: text/html")[0] == 503
        assert run.stop() == 0
    finally:
        for sock in socks:
            sock.close()
        run.close()


def test_an_upgrade_to_websocket_is_refused_with_503(run: Run, port: int) -> None:
    fields = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    assert ask(port, *fields)[0] == 503


def test_a_page_that_waits_is_told_of_the_next_failure_and_of_the_end(run: Run, port: int, project: Path) -> None:
    _, headers, _ = ask(port, "Accept: text/html")
    found: list[tuple[int, dict[str, str], str]] = []

    def wait(version: str) -> threading.Thread:
        asking = threading.Thread(target=lambda: found.append(ask(port, "Accept: text/html", f"X-Devsup-Seen: {version}")))
        asking.start()
        return asking

    asking = wait(headers["x-devsup-version"])
    save_app(project, "v3", "import alsomissing\n")
    asking.join(LIMIT)
    status, headers, body = found.pop()
    assert status == 503
    assert "alsomissing" in body
    run.wait_for("PlaceholderShown", 2)
    asking = wait(ask(port, "Accept: text/html")[1]["x-devsup-version"])
    save_app(project, "v4")
    asking.join(LIMIT)
    assert found[0][0] in {200, 204}  # devsup's word, or, where it came late, the app's own answer


def test_clients_that_left_a_waiting_page_are_let_go(run: Run, port: int) -> None:
    version = ask(port, "Accept: text/html")[1]["x-devsup-version"]
    devsup = run.process.pid

    def open_files() -> int:
        return sum(1 for _ in Path(f"/proc/{devsup}/fd").iterdir())

    before = open_files()
    socks = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(20)]
    for sock in socks:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nX-Devsup-Seen: {version}\r\n\r\n".encode())
    try:
        wait_until(lambda: open_files() >= before + 15)  # one that was answered before may still have counted
    finally:
        for sock in socks:
            sock.close()
    wait_until(lambda: open_files() <= before)


def test_a_long_start_is_answered_with_where_it_is(devsup: Start, project: Path, port: int) -> None:
    save_app(project)
    words = ["uvicorn", "main:app", "--port", str(port), "--log-level", "warning"]
    save(project / "devsup.toml", f"[services.app]\ncommand = {json.dumps(words)}\nhold = 2.5\n")
    run = devsup()
    run.ready()
    save_app(project, "v2", "import time\ntime.sleep(7)\n")
    run.wait_for("PlaceholderShown")
    wait_until(lambda: "in main.py:2" in ask(port, "Accept: application/json")[2])
    problem = json.loads(ask(port, "Accept: application/json")[2])
    assert problem["detail"].startswith("It has been starting for ")
    assert ask(port, "Accept: text/html")[0] == 503
    run.ready(2)
    assert "v2" in ask(port)[2]


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    profile = tmp_path / "profile"
    profile.mkdir()
    with browser(profile) as tab:
        yield tab


def shoot(page: Page, name: str) -> None:
    """A screenshot, for who looks at the test's results."""
    if SHOTS:
        import base64

        Path(SHOTS, f"{name}.png").write_bytes(
            base64.b64decode(page.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        )


def look(page: Page, port: int, width: int, scheme: str) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
def test_the_page_is_readable_and_accessible(run: Run, page: Page, port: int, width: int, scheme: str) -> None:
    look(page, port, width, scheme)
    assert "Module nosuchpackage is not installed" in page.value("document.querySelector('h1').textContent")
    assert "import nosuchpackage" in page.value("document.querySelector('.at').textContent")
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    shoot(page, f"page-{width}-{scheme}")
    assert axe(page) == []


def test_the_page_heals_itself_and_keeps_its_place(run: Run, page: Page, port: int, project: Path) -> None:
    look(page, port, 375, "light")
    page.value("document.querySelector('#output').open = true; window.scrollTo(0, 150); window.mark = 1; void 0")
    assert page.value("scrollY") == 150
    save_app(project, "v3", "\nimport alsomissing\n")
    wait_until(lambda: "alsomissing" in page.value("document.querySelector('h1').textContent"))
    assert page.value("[scrollY, window.mark, document.querySelector('#output').open]") == [150, 1, True], "it was loaded anew"
    save_app(project, "v4")
    wait_until(lambda: page.value("document.title") == "app")
    assert page.value("document.querySelector('h1').textContent") == "v4"
    assert run.all("WorkerReady")[-1]["generation"] == 4


def test_the_page_waits_for_a_slow_start_and_does_not_reload_before(run: Run, page: Page, port: int, project: Path) -> None:
    look(page, port, 375, "light")
    page.value("window.mark = 1; void 0")
    save_app(project, "v3", "import time\ntime.sleep(2)\n")
    generation = run.wait_for("WorkerSpawned", 3)["generation"]
    look_again = "window.mark === 1 && document.title.includes('nosuchpackage') ? 0 : performance.timeOrigin"
    loaded = wait_until(lambda: page.value(look_again))
    assert loaded / 1000 > run.ready(generation)["at"] - 0.005, "it was loaded before the new worker was ready"
    wait_until(lambda: page.value("document.title") == "app")
