"""One look at a time, at real servers, processes and files; what they leave behind is looked at too."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from devsup.system import checks
from harness import wait_until


class Server:
    """Answers each connection with the same bytes, in pieces, then closes it, or keeps it open until the client has gone."""

    def __init__(self, *pieces: bytes, stays: bool = False) -> None:
        self.pieces, self.stays = pieces, stays
        self.requests: list[bytes] = []
        self.open = 0
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.sock.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        self.open += 1
        with connection, contextlib.suppress(OSError):
            self.requests.append(connection.recv(65536))
            for piece in self.pieces:
                connection.sendall(piece)
            if self.stays:
                connection.recv(1)
        self.open -= 1

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """`serve(b"HTTP/1.1 …")` starts a server."""
    started: list[Server] = []

    def start(*pieces: bytes, stays: bool = False) -> Server:
        started.append(Server(*pieces, stays=stays))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = descriptors()
    yield
    wait_until(lambda: descriptors() <= before)


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def nobody() -> int:
    """A port that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def answer(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    head = "".join(f"{each}\r\n" for each in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields))
    return f"{head}\r\n".encode() + body


def run(check: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return anyio.run(partial(check, *args))


def problem(check: Callable[..., Awaitable[Any]], *args: Any) -> str:
    with pytest.raises(checks.CheckError) as caught:
        run(check, *args)
    return str(caught.value)


# -- http -------------------------------------------------------------------------------------------------------------


def test_an_answer(serve: Callable[..., Server]) -> None:
    server = serve(answer(b'{"a": 1}'))
    assert run(checks.http, f"{server.url}/status?x=1", 5.0) == (200, b'{"a": 1}')
    head = server.requests[0].lower()
    assert head.startswith(b"get /status?x=1 http/1.1\r\n")
    assert b"\r\nuser-agent: devsup\r\n" in head
    assert b"\r\nconnection: close\r\n" in head


def test_a_redirect_is_an_answer(serve: Callable[..., Server]) -> None:
    server = serve(answer(b"", "302 Found", "Location: /elsewhere"))
    assert run(checks.http, server.url, 5.0) == (302, b"")
    assert len(server.requests) == 1


def test_no_proxy_is_asked(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{nobody()}")
    assert run(checks.http, serve(answer(b"ok")).url, 5.0) == (200, b"ok")


def test_a_body_has_a_limit(serve: Callable[..., Server]) -> None:
    assert run(checks.http, serve(answer(b"x" * (1 << 20))).url, 5.0) == (200, b"x" * (1 << 20))
    assert run(checks.http, serve(answer(b"x" * (1 << 20 | 1))).url, 5.0) == (200, None)


def test_the_status_of_what_never_ends(serve: Callable[..., Server]) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", stays=True)
    assert run(checks.http, server.url, 1.5) == (200, None)
    wait_until(lambda: not server.open)


def test_a_server_that_does_not_answer(serve: Callable[..., Server]) -> None:
    server = serve(stays=True)
    began = time.monotonic()
    assert problem(checks.http, server.url, 0.3) == "has no answer after 0.3 s"
    assert time.monotonic() - began < 3.0
    wait_until(lambda: not server.open)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"SSH-2.0-server\r\n", "failed: "),
        (b"", "failed: Server disconnected without sending a response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "failed: peer closed connection"),
    ],
)
def test_what_is_no_answer(sent: bytes, said: str, serve: Callable[..., Server]) -> None:
    assert problem(checks.http, serve(sent).url, 5.0).startswith(said)


def test_nobody_to_ask() -> None:
    assert problem(checks.http, f"http://127.0.0.1:{nobody()}/", 5.0) == "refused"
    assert problem(checks.http, f"http://localhost:{nobody()}/", 5.0) == "refused"
    assert problem(checks.http, "http://127.0.0.1:x/", 5.0).startswith("failed: ")


# -- streams ----------------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_stream_tells_that_it_is_open_then_of_its_events(serve: Callable[..., Server]) -> None:
    server, counts = serve(HEAD, chunk(b"data: 1\n\n: ping\n\ndata: 2\n\n"), chunk(b"")), list[int]()
    run(checks.stream, f"{server.url}/stream", 5.0, counts.append)
    assert counts[0] == 0
    assert sum(counts) == 2
    assert b"\r\naccept: text/event-stream" in server.requests[0].lower()


def test_any_other_stream_is_counted_by_what_arrives(serve: Callable[..., Server]) -> None:
    server, counts = serve(b"HTTP/1.1 200 OK\r\n\r\n", b"\n\n", stays=False), list[int]()
    run(checks.stream, server.url, 5.0, counts.append)
    assert counts == [0, 1]


def test_a_stream_lasts_longer_than_its_timeout_and_is_closed_when_cancelled(serve: Callable[..., Server]) -> None:
    server, counts = serve(HEAD, chunk(b"data: 1\n\n"), stays=True), list[int]()

    async def follow() -> None:
        with anyio.move_on_after(1.0):
            await checks.stream(server.url, 0.3, counts.append)
            raise AssertionError("it has not ended")
        await anyio.to_thread.run_sync(wait_until, lambda: not server.open)

    anyio.run(follow)
    assert sum(counts) == 1


def test_streams_that_cannot_be_followed(serve: Callable[..., Server]) -> None:
    assert problem(checks.stream, serve(answer(b"", "404 Not Found")).url, 5.0, print) == "answered 404"
    assert problem(checks.stream, serve(stays=True).url, 0.3, print) == "has no answer after 0.3 s"
    assert problem(checks.stream, f"http://127.0.0.1:{nobody()}/", 5.0, print) == "refused"
    assert problem(checks.stream, serve(HEAD, chunk(b"data: 1\n\n")).url, 5.0, lambda _: None).startswith("failed: ")


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: 1\n\ndata: 2\n\n", 2),
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", 2),
        (b"data: 1\r\rdata: 2\r\r", 2),
        (b"id: 1\nevent: point\ndata: 1\ndata: 2\n\n", 1),
        (b"data\n\n", 1),
        (b": ping\n\n\n\nretry: 3\n\nid: 7\n\n", 0),
        (b"database: 1\n\n", 0),
        (b"data: 1\r\ndata: 2\r\n\r\n", 1),
        (b"data: 1\n", 0),
        (b"data: " + b"x" * 300_000 + b"\n\n", 1),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_events_however_they_are_cut(data: bytes, events: int, size: int) -> None:
    counter = checks.EventCounter()
    assert sum(counter.feed(data[at : at + size]) for at in range(0, len(data), size)) == events


# -- ports and files --------------------------------------------------------------------------------------------------


def test_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        run(checks.tcp, "127.0.0.1", sock.getsockname()[1], 5.0)
        sock.settimeout(5.0)
        connection, _ = sock.accept()
        with connection:
            assert connection.recv(1) == b""
    assert problem(checks.tcp, "127.0.0.1", nobody(), 5.0) == "refused"
    assert problem(checks.tcp, "localhost", nobody(), 5.0) == "refused"


def test_a_host_that_there_is_not() -> None:
    assert problem(checks.tcp, "nowhere.invalid", 80, 20.0).startswith("failed: ")


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "live.csv"
    assert run(checks.size, str(file), 5.0) is None
    assert run(checks.size, str(file / "below"), 5.0) is None
    file.write_text("12345")
    assert run(checks.size, str(file), 5.0) == 5
    assert run(checks.size, str(file / "below"), 5.0) is None
    assert problem(checks.size, str(tmp_path / ("x" * 300)), 5.0) == "could not be looked at: File name too long"


# -- commands ---------------------------------------------------------------------------------------------------------


def command(tmp_path: Path, script: str, timeout: float = 20.0, **env: str) -> str:
    """What a shell script comes to; empty when it is well."""
    words = ["sh", "-c", script]
    try:
        run(checks.command, words, str(tmp_path), {"PATH": os.environ["PATH"], **env}, timeout)
    except checks.CheckError as exc:
        return str(exc)
    return ""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", ""),
        ("echo well; test $ANSWER = 42", ""),
        ("exit 3", "exited with 3"),
        ("echo first; echo ' no response '; echo >&2; exit 2", "exited with 2: no response"),
        ("kill -SEGV $$", "was ended by SIGSEGV"),
        ("pwd; exit 1", "exited with 1: {}"),
        ("cat; exit 4", "exited with 4"),
    ],
)
def test_a_command(script: str, said: str, tmp_path: Path) -> None:
    assert command(tmp_path, script, ANSWER="42") == said.format(tmp_path)


def test_a_command_may_print_much(tmp_path: Path) -> None:
    assert command(tmp_path, "seq 200000; echo the end; exit 5") == "exited with 5: the end"
    assert command(tmp_path, "seq 200000 | tr -d '\\n'; exit 5").startswith("exited with 5: ")


def test_a_command_that_there_is_not(tmp_path: Path) -> None:
    said = problem(checks.command, ["./nothing"], str(tmp_path), {}, 5.0)
    assert said == "could not be started: No such file or directory"


def test_all_of_a_command_ends_with_its_time(tmp_path: Path) -> None:
    assert command(tmp_path, "sleep 60 & echo $! > pids; echo $$ >> pids; wait", timeout=1.0) == "took longer than 1 s"
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    wait_until(lambda: all(map(gone, pids)))
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[1], os.WNOHANG)


def test_what_a_command_leaves_behind_ends_with_it_and_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    assert command(tmp_path, "sleep 60 & echo $! > pids; exit 0") == ""
    assert time.monotonic() - began < 10.0
    wait_until(lambda: gone(int((tmp_path / "pids").read_text())))


def test_a_command_ends_when_nobody_wants_to_know(tmp_path: Path) -> None:
    async def cancelled() -> None:
        async with anyio.create_task_group() as tasks:
            words = ["sh", "-c", "echo $$ > pids.new; mv pids.new pids; exec sleep 60"]
            tasks.start_soon(checks.command, words, str(tmp_path), {"PATH": os.environ["PATH"]}, 60.0)
            await anyio.to_thread.run_sync(wait_until, (tmp_path / "pids").exists)
            tasks.cancel_scope.cancel()

    anyio.run(cancelled)
    wait_until(lambda: gone(int((tmp_path / "pids").read_text())))
