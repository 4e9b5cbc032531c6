"""Behind devsup a server answers as it does without: every byte, every close code, and what the app itself sees."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded, StreamReset, WindowUpdated

from conformance import exchanges
from conformance.wire import Exchange, Result, Target
from harness import Run, free_port, save, wait_until

APPS = Path(exchanges.__file__).parent
BIN = Path(sys.prefix) / "bin"


@dataclass(frozen=True)
class Server:
    """A server's command, and the exchanges that it is asked."""

    name: str
    command: str
    exchanges: tuple[Exchange, ...]
    held: tuple[Exchange, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name

    def words(self, port: int) -> list[str]:
        return self.command.replace("@PORT@", str(port)).split()

    def environment(self, seen: Path) -> dict[str, str]:
        """Sets have one order, too."""
        return {"SEEN": str(seen), "PYTHONHASHSEED": "0", **dict(self.env)}


HTTP, WEBSOCKETS, HELD = tuple(exchanges.HTTP), tuple(exchanges.WEBSOCKETS), tuple(exchanges.HELD)


def uvicorn(http: str, loop: str, ws: str, *options: str, **env: str) -> Server:
    command = f"uvicorn asgi:app --port @PORT@ --http {http} --loop {loop} --ws {ws} " + " ".join(options)
    return Server(f"uvicorn-{http}-{loop}-{ws}", command, HTTP + WEBSOCKETS, HELD, tuple(env.items()))


HYPERCORN = "hypercorn asgi:app --bind 127.0.0.1:@PORT@ --graceful-timeout 1 --worker-class "
# What a server leaves open, or does not tell its app: nothing to wait for, with or without devsup.
OPEN_WSGI = {"HTTP/1.0 keep-alive", "pipelined byte by byte", "a negative length"}
OPEN_HYPERCORN = {"HTTP/1.2", "HTTP/3.0", "half-closed", "half-closed with a body", "half-closed at once", "WS by POST"}
OPEN_HYPERCORN |= {"chunked, cut", "half-closed in a body", "half-closed in a head"}  # which it sees first is chance
OPEN_HYPERCORN |= {"disconnect", "disconnect by reset", "WS late sends", "held disconnect", "held half-closed"}
RUN_SIMPLE = """
import sys
from werkzeug.serving import run_simple
from wsgi import app
run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
"""
HYPERCORNS = tuple(each for each in HTTP + WEBSOCKETS if each.name not in OPEN_HYPERCORN)
HYPERCORNS_HELD = tuple(each for each in HELD if each.name not in OPEN_HYPERCORN)
WSGI = tuple(each for each in exchanges.WSGI if each.name not in OPEN_WSGI)
WSGI_HELD = tuple(exchanges.WSGI_HELD)
SERVERS = [
    uvicorn("h11", "asyncio", "websockets"),
    uvicorn("httptools", "uvloop", "websockets-sansio", "--root-path", "/root", OWN_FACTORY="1"),
    uvicorn("h11", "uvloop", "wsproto", "--no-proxy-headers"),
    uvicorn("httptools", "asyncio", "websockets", "--limit-concurrency", "100", "--header", "X-Served:yes", OWN_FACTORY="1"),
    Server("hypercorn", HYPERCORN + "asyncio", HYPERCORNS, HYPERCORNS_HELD),
    Server("hypercorn-uvloop", HYPERCORN + "uvloop", HYPERCORNS, HYPERCORNS_HELD),
    Server("werkzeug", "python serve.py @PORT@", WSGI, WSGI_HELD),
    Server("flask", "flask --app wsgi:flask run --port @PORT@", WSGI, WSGI_HELD),
    Server("flask-debug", "flask --app wsgi:flask run --debug --no-reload --port @PORT@", WSGI, WSGI_HELD),
]


@pytest.fixture
def apps(project: Path) -> Path:
    """The project with the apps in it; the file that they serve has one date."""
    for name in ("asgi.py", "parts.py", "wsgi.py", "part.py"):
        shutil.copy(APPS / name, project)
    (project / "serve.py").write_text(RUN_SIMPLE)
    data = project / "data.txt"
    data.write_text("0123456789abcdef\n" * 1000)
    os.utime(data, (1e9, 1e9))
    return project


@contextmanager
def without_devsup(server: Server, folder: Path, seen: Path, environment: dict[str, str]) -> Iterator[Target]:
    """The command as it is, when its port answers."""
    seen.mkdir()
    port, output = free_port(), seen.with_suffix(".log")
    program, *words = server.words(port)
    env = {**environment, **server.environment(seen)}
    with output.open("w") as file:
        process = subprocess.Popen(
            [BIN / program, *words], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        wait_until(lambda: answers(port), story=output.read_text)
        yield Target(port, seen)
    finally:
        process.terminate()
        process.wait(10)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


@contextmanager
def behind_devsup(server: Server, devsup: Callable[..., Run], seen: Path) -> Iterator[tuple[Target, Run]]:
    """The same command behind devsup, when it is ready."""
    seen.mkdir()
    port = free_port()
    run = devsup(*server.words(port), env=server.environment(seen))
    run.ready()
    yield Target(port, seen), run


def play_together(exchanges: tuple[Exchange, ...], target: Target, save: Callable[[], None] = lambda: None) -> dict[str, Result]:
    """Play all of them at the same time; `save` is called once the app works on every one."""
    together = Target(target.port, target.seen, save, len(exchanges))
    with ThreadPoolExecutor(len(exchanges)) as pool:
        return dict(zip([each.name for each in exchanges], pool.map(together.play, exchanges), strict=True))


def assert_same(expected: dict[str, Result], found: dict[str, Result], story: Callable[[], str] = lambda: "") -> None:
    different = [name for name in expected if found.get(name) != expected[name]]
    if different:
        both = "\n".join(
            f"{each}\n  without: {expected[each]!r:.1500}\n  with:    {found.get(each)!r:.1500}" for each in different
        )
        raise AssertionError(f"{story()}\n{len(different)} of {len(expected)} differ\n{both}")


FEW = {
    "uvicorn-h11-asyncio-websockets",
    "uvicorn-httptools-uvloop-websockets-sansio",
    "uvicorn-h11-uvloop-wsproto",
    "hypercorn",
    "flask",
}
EACH = [pytest.param(each, id=each.name, marks=[] if each.name in FEW else pytest.mark.soak) for each in SERVERS]


@pytest.mark.parametrize("server", EACH)
def test_every_exchange_is_the_same_with_and_without_devsup(
    server: Server, devsup: Callable[..., Run], apps: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    with without_devsup(server, apps, tmp_path / "without", environment) as target:
        expected = {each.name: target.play(each) for each in server.exchanges}
    with behind_devsup(server, devsup, tmp_path / "with") as (target, run):
        found = {each.name: target.play(each) for each in server.exchanges}
        assert run.stop() == 0
    assert_same(expected, found)


@pytest.mark.parametrize("server", EACH)
def test_what_is_active_when_a_file_is_saved_gets_the_same_answer_as_without_devsup(
    server: Server, devsup: Callable[..., Run], apps: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    with without_devsup(server, apps, tmp_path / "without", environment) as target:
        expected = play_together(server.held, target)
    with behind_devsup(server, devsup, tmp_path / "with") as (target, run):

        def save_and_see_it_wait() -> None:
            change(apps, 2)
            waiting = run.wait_for("ReloadWaiting")
            assert len(waiting["active"]) == len(server.held), waiting

        found = play_together(server.held, target, save_and_see_it_wait)
        run.ready(2)
        assert_nothing_lost(run)
        assert run.stop() == 0
    assert_same(expected, found, run.story)


def change(apps: Path, version: int) -> None:
    """Save a file that either app imports; each version has a length of its own."""
    save(apps / "part.py", (APPS / "part.py").read_text() + "#" * version + "\n")


def assert_nothing_lost(run: Run) -> None:
    lost = [(event["name"], event["detail"]) for event in run.all("WorkLost")]
    assert lost == [], run.story()
    assert run.all("Trouble") == []


# -- HTTP/2 -----------------------------------------------------------------------------------------------------------

OVER_H2 = ("/echo", "/whole_scope", "/stream", "/early_hint?hold", "/trailers", "/trailers?hold", "/nothing?204")


def ask_over_h2(target: Target, hold: Callable[[], None]) -> dict[str, list[str]]:
    """All on one connection at once, without TLS: the frames of each answer; `hold` is called once two of them are held."""
    conn = H2Connection(H2Configuration(header_encoding="utf-8"))
    conn.initiate_connection()
    names = {}
    for path in OVER_H2:
        stream = conn.get_next_available_stream_id()
        names[stream] = path
        conn.send_headers(
            stream,
            [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "us"), ("te", "trailers")],
            end_stream=True,
        )
    answers: dict[str, list[str]] = {path: [] for path in OVER_H2}
    ended: set[int] = set()
    with socket.create_connection(("127.0.0.1", target.port), 15) as sock:
        sock.sendall(conn.data_to_send())
        held = target.seen / "held"
        wait_until(lambda: held.exists() and len(held.read_text().splitlines()) == 2)
        hold()
        (target.seen / "release").touch()
        while len(ended) < len(OVER_H2):
            data = sock.recv(1 << 16)
            assert data, (ended, answers)
            for event in conn.receive_data(data):
                stream = getattr(event, "stream_id", None) or 0
                shown = getattr(event, "headers", None) or getattr(event, "data", None) or ""
                if isinstance(event, (StreamEnded, StreamReset)):
                    ended.add(stream)
                if stream in names and not isinstance(event, WindowUpdated):
                    text = re.sub(r"'date', '[^']*'", "'date'", str(shown)).replace(str(sock.getsockname()[1]), "@PEER")
                    answers[names[stream]].append(f"{type(event).__name__} {text}".replace(str(target.port), "@PORT"))
            sock.sendall(conn.data_to_send())
    return answers


def test_http_2_with_early_hints_and_trailers_is_the_same_also_over_a_save(
    devsup: Callable[..., Run], apps: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    server = next(each for each in SERVERS if each.name == "hypercorn")
    with without_devsup(server, apps, tmp_path / "without", environment) as target:
        expected = ask_over_h2(target, lambda: None)
    assert any("InformationalResponse" in each for each in expected["/early_hint?hold"])
    assert any("TrailersReceived" in each and "x-sum" in each for each in expected["/trailers?hold"])
    with behind_devsup(server, devsup, tmp_path / "with") as (target, run):

        def save_and_see_it_wait() -> None:
            change(apps, 2)
            run.wait_for("ReloadWaiting")

        assert ask_over_h2(target, save_and_see_it_wait) == expected
        run.ready(2)
        assert_nothing_lost(run)
        assert run.stop() == 0


# -- while files are saved --------------------------------------------------------------------------------------------

CLOSED_BY_RELOAD = b"\x88\x02\x03\xf4"  # 1012


@contextmanager
def saving(run: Run, apps: Path, pause: float) -> Iterator[list[int]]:
    """Save an imported file all the time, so long after each worker is ready; the generations that came."""
    over, generations = threading.Event(), [1]

    def save_on() -> None:
        while not over.wait(pause):
            change(apps, generations[-1] + 1)
            run.ready(generations[-1] + 1)
            generations.append(generations[-1] + 1)

    with ThreadPoolExecutor(1) as pool:
        saver = pool.submit(save_on)
        try:
            yield generations
        finally:
            over.set()
        saver.result()


def accept_idle_close(exchange: Exchange, expected: Result, found: Result) -> Result:
    """An idle WebSocket or kept-alive connection may be closed by a reload; what came before must be the same."""
    begun = found.received.removesuffix(CLOSED_BY_RELOAD)
    if exchange.idle and b"\r\n\r\n" in begun and expected.received.startswith(begun):
        return expected
    return found


def play_while_saving(server: Server, target: Target, run: Run, apps: Path, pause: float, rounds: float) -> None:
    """Play all exchanges again and again for so many seconds, at least once; the first round is what is expected."""
    expected = {each.name: target.play(each) for each in server.exchanges}
    began = time.monotonic()
    with saving(run, apps, pause) as generations:
        while True:
            found = {each.name: accept_idle_close(each, expected[each.name], target.play(each)) for each in server.exchanges}
            assert_same(expected, found, run.story)
            if time.monotonic() - began > rounds:
                break
    assert len(generations) > 1, "no reload came"
    assert_nothing_lost(run)


@pytest.mark.parametrize("server", [SERVERS[1], SERVERS[-2]], ids=str)
def test_requests_on_fresh_connections_are_answered_the_same_while_files_are_saved(
    server: Server, devsup: Callable[..., Run], apps: Path, tmp_path: Path
) -> None:
    """Reloads back to back; each connection has one request and asks for its end."""
    fresh = tuple(each for each in server.exchanges if not each.idle and "pipelined" not in each.name)
    with behind_devsup(server, devsup, tmp_path / "with") as (target, run):
        play_while_saving(replace(server, exchanges=fresh), target, run, apps, 0.5, 0)
        assert run.stop() == 0


@pytest.mark.soak
@pytest.mark.parametrize("pause", [0.05, 5.0], ids=["back-to-back", "every-5-s"])
@pytest.mark.parametrize("server", SERVERS, ids=str)
def test_every_exchange_is_the_same_while_files_are_saved_for_a_minute(
    server: Server, pause: float, devsup: Callable[..., Run], apps: Path, tmp_path: Path
) -> None:
    with behind_devsup(server, devsup, tmp_path / "with") as (target, run):
        play_while_saving(server, target, run, apps, pause, 60)
        assert run.stop() == 0
