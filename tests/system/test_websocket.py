"""The client for WebSockets: with the servers that people use, and with some that nobody would."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from devsup.system.checks import CheckError
from devsup.system.websocket import LARGEST, WebSocket, connect
from harness import tool, wait_until

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0
MIB = 1 << 20

APP = """
import json

async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    if scope["path"] == "/refuse":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    if scope["path"] == "/scope":
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        told = {"headers": headers, "path": scope["path"], "query": scope["query_string"].decode()}
        await send({"type": "websocket.send", "text": json.dumps(told)})
    elif scope["path"] == "/close":
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        return
    elif scope["path"] == "/big":
        await send({"type": "websocket.send", "bytes": b"x" * 2**20})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("gone", message["code"], flush=True)
            return
        kind = "text" if message.get("text") is not None else "bytes"
        await send({"type": "websocket.send", kind: message[kind]})
"""


# -- servers ----------------------------------------------------------------------------------------------------------


def frame(kind: int, data: bytes = b"", *, first: int | None = None) -> bytes:
    """As servers send it; `first` is the first byte where that is another one than of a whole message."""
    size = len(data)
    length = bytes([size]) if size < 126 else struct.pack("!BH", 126, size) if size < 65536 else struct.pack("!BQ", 127, size)
    return bytes([0x80 | kind if first is None else first]) + length + data


def closing(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode())


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """What a client has sent: the kind and the content of each. All have to be masked, and their lengths as short as can be."""
    found = []
    while data:
        size, start = data[1] & 127, 2
        assert data[0] & 0x70 == 0
        assert data[1] & 0x80
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
            assert size > 125
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
            assert size > 65535
        mask, content = data[start : start + 4], data[start + 4 : start + 4 + size]
        assert len(content) == size
        found.append((data[0], bytes(byte ^ mask[number % 4] for number, byte in enumerate(content))))
        data = data[start + 4 + size :]
    return found


def accepted(head: bytes, *more: str, accept: str = "") -> bytes:
    """The right answer to this handshake."""
    key = next(line for line in head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: "))[19:]
    right = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    fields = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept or right}", *more]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *fields, "", ""]).encode()


def says_goodbye(data: bytes) -> bool:
    """Whether this ends with a close frame; what is long is not looked at."""
    with contextlib.suppress(AssertionError, IndexError):
        return len(data) < 1000 and frames(data)[-1][0] == 0x80 | CLOSE
    return False


class Server:
    """Answers each handshake, sends pieces, and reads until the client says goodbye, or has gone.

    An event among the pieces is waited for. `answer` makes the head. With `hangs_up` it closes after the pieces, with `resets`
    less politely; one that `is_silent` does not even close when the client does.
    """

    def __init__(
        self,
        *pieces: bytes | threading.Event,
        answer: Callable[[bytes], bytes] = accepted,
        hangs_up: bool = False,
        resets: bool = False,
        is_silent: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.pieces, self.answer, self.tls = pieces, answer, tls
        self.hangs_up, self.resets, self.is_silent = hangs_up, resets, is_silent
        self.head, self.received = b"", b""
        self.is_left = threading.Event()
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws{'s' if tls else ''}://127.0.0.1:{self.sock.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.sock.accept()
                connection.settimeout(10)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                head += data
            self.head = head
            connection.sendall(self.answer(self.head))
            for piece in self.pieces:
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    assert piece.wait(10)
            if self.resets:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            while not (self.hangs_up or self.resets) and (data := connection.recv(1 << 20)):
                self.received += data
                if not self.is_silent and says_goodbye(self.received):
                    break
        connection.close()
        self.is_left.set()

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """`serve(b"…")` starts a server. In the end every client has left it."""
    started: list[Server] = []

    def start(*pieces: Any, **more: Any) -> Server:
        started.append(Server(*pieces, **more))
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


class Uvicorn:
    """The app above, by uvicorn; the kernel takes connections before it does."""

    def __init__(self, folder: Path, protocol: str) -> None:
        (folder / "app.py").write_text(APP)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.url = f"ws://127.0.0.1:{sock.getsockname()[1]}"
            command = [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(sock.fileno()), "--ws", protocol]
            self.process = subprocess.Popen(
                command, cwd=folder, pass_fds=[sock.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )

    def end(self) -> str:
        """What it has printed."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=20)[0]


@pytest.fixture(params=["websockets", "wsproto"])
def uvicorn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Uvicorn]:
    server = Uvicorn(tmp_path, request.param)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def run(function: Callable[..., Awaitable[Any]], *args: Any, backend: str = "asyncio") -> Any:
    return anyio.run(partial(function, *args), backend=backend)


async def first(url: str, timeout: float = 5.0) -> str | bytes:
    """The first message."""
    async with connect(url, None, timeout) as client:
        return await client.receive()


async def exchange(url: str, *messages: str | bytes) -> list[str | bytes]:
    async with connect(url, {}, 10.0) as client:
        answers = []
        for message in messages:
            await client.send(message)
            answers.append(await client.receive())
        return answers


def problem(url: str, timeout: float = 5.0, headers: dict[str, str] | None = None) -> str:
    """Why there is no first message."""

    async def ask() -> None:
        async with connect(url, headers, timeout) as client:
            await client.receive()

    with pytest.raises(CheckError) as caught:
        run(ask)
    return str(caught.value)


# -- servers that people use ------------------------------------------------------------------------------------------


def test_uvicorn(uvicorn: Uvicorn) -> None:
    texts = ["a", "", "ä😀", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536, b"\x00\xff", b"y" * MIB]
    assert run(exchange, uvicorn.url, *texts) == texts
    assert run(first, f"{uvicorn.url}/big") == b"x" * MIB
    assert problem(f"{uvicorn.url}/refuse") == "was refused with 403"
    assert problem(f"{uvicorn.url}/close") == "was closed: 4001 enough"
    printed = uvicorn.end()
    assert printed.count("gone 1000") == 2
    assert "Traceback" not in printed


def test_what_uvicorn_gets(uvicorn: Uvicorn) -> None:
    async def ask() -> Any:
        headers = {
            "Authorization": "Bearer x",
            "user-agent": "mine",
            "Sec-WebSocket-Protocol": "chat, other",
            "Host": "shop.test",
        }
        async with connect(f"{uvicorn.url.replace('ws', 'http')}/scope?a=b c&d=é#no", headers, 10.0) as client:
            return json.loads(await client.receive())

    told = run(ask)
    assert (told["path"], told["query"]) == ("/scope", "a=b%20c&d=%C3%A9")
    assert told["headers"]["authorization"] == "Bearer x"
    assert told["headers"]["user-agent"] == "mine"
    assert told["headers"]["host"] == "shop.test"


async def _aiohttp_echo(request: web.Request) -> web.StreamResponse:
    if request.path == "/page":
        return web.Response(text="a page")
    answer = web.WebSocketResponse(protocols=["chat"])
    await answer.prepare(request)
    await answer.ping(b"are you there")
    async for message in answer:
        await answer.send_str(f"{answer.ws_protocol}: {message.data}")
    return answer


@contextlib.asynccontextmanager
async def _aiohttp() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{any:.*}", _aiohttp_echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_aiohttp() -> None:
    async def ask() -> None:
        async with _aiohttp() as url:
            async with connect(f"{url}/ws", {"sec-websocket-protocol": "other,chat"}, 5.0) as client:
                await client.send("hello")
                assert await client.receive() == "chat: hello"
            with pytest.raises(CheckError, match=r"^answered no WebSocket, but 200$"):
                await first(f"{url}/page")

    run(ask)


def test_trio(serve: Callable[..., Server]) -> None:
    server = serve(frame(TEXT, b"hello"))
    assert run(first, server.url, backend="trio") == "hello"
    assert server.is_left.wait(5)
    assert frames(server.received) == [(0x80 | CLOSE, b"\x03\xe8")]


# -- the handshake ----------------------------------------------------------------------------------------------------


def test_what_is_asked(serve: Callable[..., Server]) -> None:
    server = serve(frame(TEXT, b"hello"))
    assert run(first, f"{server.url.replace('ws://', 'ws://me@')}/a?b") == "hello"
    head, *lines = server.head.decode().split("\r\n")
    fields = dict(line.split(": ") for line in lines[:-2])
    assert head == "GET /a?b HTTP/1.1"
    assert len(base64.b64decode(fields.pop("Sec-WebSocket-Key"))) == 16
    assert fields == {
        "Host": server.url.removeprefix("ws://"),
        "User-Agent": "devsup",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
    }


def test_what_comes_with_the_handshake_is_not_lost(serve: Callable[..., Server]) -> None:
    server = serve(answer=lambda head: accepted(head) + frame(TEXT, b"at once"))
    assert run(first, server.url) == "at once"


def test_headers_that_are_ours(serve: Callable[..., Server]) -> None:
    server = serve(frame(TEXT, b"hello"))

    async def ask() -> None:
        headers = {"Sec-WebSocket-Extensions": "permessage-deflate", "sec-websocket-key": "mine", "Origin": "http://x"}
        async with connect(server.url, headers, 5.0) as client:
            await client.receive()

    run(ask)
    assert b"deflate" not in server.head
    assert b"mine" not in server.head
    assert b"\r\nOrigin: http://x\r\n" in server.head


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0", "was refused with 403"),
        ("HTTP/1.0 404 Not Found", "was refused with 404"),
        ("HTTP/1.1 302 Found\r\nLocation: /elsewhere", "was refused with 302"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2", "answered no WebSocket, but 200"),
        ("HTTP/1.1 nonsense", "answered no WebSocket, but something else"),
        ("HTTP/1.1 101 Switching Protocols", "answered no WebSocket: it upgrades to something else"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade",
            "answered no WebSocket: it upgrades to something else",
        ),
        ("SSH-2.0-OpenSSH_9.2", "answered no WebSocket, but something else"),
        (f"HTTP/1.1 101 X\r\nX: {'x' * 200_000}", "answered no WebSocket, but something else"),
    ],
)
def test_other_answers(serve: Callable[..., Server], head: str, said: str) -> None:
    server = serve(answer=lambda _: f"{head}\r\n\r\n".encode())
    assert problem(server.url) == said
    assert server.is_left.wait(5)


def test_another_protocol_is_seen_at_once(serve: Callable[..., Server]) -> None:
    server = serve(answer=lambda _: b"SSH-2.0-OpenSSH_9.2\r\n")
    assert problem(server.url) == "answered no WebSocket, but something else"
    assert server.is_left.wait(5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, "its Sec-WebSocket-Accept is wrong"),
        ({"more": "Sec-WebSocket-Extensions: permessage-deflate"}, "it uses an extension that was not offered"),
        ({"more": "Sec-WebSocket-Protocol: chat"}, "it speaks a subprotocol that was not offered"),
    ],
)
def test_wrong_handshakes(serve: Callable[..., Server], changes: dict[str, str], said: str) -> None:
    more = [changes["more"]] if "more" in changes else []
    server = serve(answer=lambda head: accepted(head, *more, accept=changes.get("accept", "")))
    assert problem(server.url) == f"answered no WebSocket: {said}"
    assert server.is_left.wait(5)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Swit"])
def test_an_answer_that_ends_too_early(serve: Callable[..., Server], answer: bytes) -> None:
    assert problem(serve(answer=lambda _: answer, hangs_up=True).url) == "was cut off"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Swit"])
def test_no_answer(serve: Callable[..., Server], answer: bytes) -> None:
    server = serve(answer=lambda _: answer)
    began = time.monotonic()
    assert problem(server.url, 0.3) == "has no answer after 0.3 s"
    assert time.monotonic() - began < 3
    assert server.is_left.wait(5)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert problem(f"ws://127.0.0.1:{port}") == "refused"
    assert problem(f"wss://127.0.0.1:{port}") == "refused"


@pytest.mark.parametrize(
    "url", ["ftp://localhost/", "ws:///path", "ws://localhost:99999", "ws://[::1/", f"ws://{'ä' * 70}.test/", ""]
)
def test_no_address(url: str) -> None:
    assert problem(url).startswith("has no usable address: ")


@pytest.mark.parametrize(("name", "value"), [("X", "a\r\nY: b"), ("X", "a\0"), ("X: a\r\nY", "b"), ("", "a"), ("a b", "c")])
def test_headers_that_cannot_be_sent(serve: Callable[..., Server], name: str, value: str) -> None:
    server = serve()
    assert problem(server.url, headers={name: value}) == f"has a header that cannot be sent: {name}"
    assert not server.head


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Of somebody whom nobody knows."""
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=elsewhere -keyout k.pem -out c.pem".split()
    subprocess.run([tool("openssl"), *words], cwd=folder, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "c.pem", folder / "k.pem")
    return context


def test_tls(serve: Callable[..., Server], certificate: ssl.SSLContext) -> None:
    server = serve(frame(TEXT, b"hello"), tls=certificate)
    assert run(first, server.url) == "hello"
    assert run(first, server.url.replace("wss", "https")) == "hello"
    assert server.is_left.wait(5)


def test_tls_on_one_side_only(serve: Callable[..., Server], certificate: ssl.SSLContext) -> None:
    said = problem(serve(tls=certificate).url.replace("wss", "ws"))
    assert said in {"answered no WebSocket, but something else", "was cut off"}  # with and without an alert
    with socket.create_server(("127.0.0.1", 0)) as sock:

        def refuse() -> None:
            with sock.accept()[0] as connection:
                assert connection.recv(65536)[0] == 0x16  # a TLS handshake
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(65536)

        thread = threading.Thread(target=refuse)
        thread.start()
        assert "wrong version number" in problem(f"wss://127.0.0.1:{sock.getsockname()[1]}").replace("_", " ").lower()
        thread.join(5)
        assert not thread.is_alive()


def test_a_tls_server_that_says_nothing(serve: Callable[..., Server]) -> None:
    server = serve(answer=lambda _: b"")
    assert problem(server.url.replace("ws", "wss"), 0.3) == "has no answer after 0.3 s"
    assert server.is_left.wait(5)


# -- messages ---------------------------------------------------------------------------------------------------------


def test_fragments_and_a_ping_between(serve: Callable[..., Server]) -> None:
    whole = "größe".encode()
    server = serve(
        frame(TEXT, whole[:3], first=TEXT),  # in the middle of a character
        frame(PING, b"there?"),
        frame(MORE, first=MORE),
        frame(MORE, whole[3:]),
        frame(PONG, b"nobody asked"),
        frame(BINARY, b"next"),
    )

    async def ask() -> list[str | bytes]:
        async with connect(server.url, None, 5.0) as client:
            return [await client.receive(), await client.receive()]

    assert run(ask) == ["größe", b"next"]
    assert server.is_left.wait(5)
    assert frames(server.received) == [(0x80 | PONG, b"there?"), (0x80 | CLOSE, b"\x03\xe8")]


def test_what_is_sent(serve: Callable[..., Server]) -> None:
    messages: list[str | bytes] = ["", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536, b"bytes", "\udc80"]

    async def send(url: str) -> None:
        async with connect(url, None, 5.0) as client:
            for message in messages:
                await client.send(message)

    server = serve()
    run(send, server.url)
    assert server.is_left.wait(5)
    sent = [(0x82, each) if isinstance(each, bytes) else (0x81, each.encode("utf-8", "replace")) for each in messages]
    assert frames(server.received) == [*sent, (0x88, b"\x03\xe8")]
    assert len(set(masks(server.received))) == len(messages) + 1


def masks(data: bytes) -> list[bytes]:
    found = []
    for _, content in frames(data):
        start = 2 if len(content) < 126 else 4 if len(content) < 65536 else 10
        found.append(data[start : start + 4])
        data = data[start + 4 + len(content) :]
    return found


def test_byte_by_byte(serve: Callable[..., Server]) -> None:
    data = frame(TEXT, b"x" * 200) + frame(BINARY, b"y" * 70_000)
    server = serve(*(data[at : at + 1] for at in range(300)), data[300:])

    async def ask() -> list[str | bytes]:
        async with connect(server.url, None, 5.0) as client:
            return [await client.receive(), await client.receive()]

    assert run(ask) == ["x" * 200, b"y" * 70_000]


def test_a_message_has_a_limit(serve: Callable[..., Server]) -> None:
    assert LARGEST == MIB
    half, most = b"x" * (MIB // 2), b"x" * (MIB - 1)
    assert run(first, serve(frame(TEXT, most, first=TEXT), frame(PING, b"p" * 125), frame(MORE, b"x")).url) == "x" * MIB
    for pieces in (
        [frame(TEXT, b"x" * (MIB + 1))],
        [frame(TEXT, half, first=TEXT), frame(MORE, half, first=MORE), frame(MORE, b"x")],
        [b"\x81\x7f" + (1 << 62).to_bytes(8, "big")],  # of which nothing comes
        [b"\x82\x7f" + b"\xff" * 8],
    ):
        server = serve(*pieces)
        assert problem(server.url) == "sent a message longer than 1 MiB"
        assert server.is_left.wait(5)
        assert frames(server.received) == [(0x88, (1009).to_bytes(2, "big"))]


@pytest.mark.parametrize(
    ("pieces", "said", "code"),
    [
        ([b"\xc1\x01x"], "broke the protocol: reserved bits", 1002),
        ([b"\x83\x01x"], "broke the protocol: a frame of kind 3", 1002),
        ([b"\x8b\x00"], "broke the protocol: a frame of kind 11", 1002),
        ([b"\x81\x81abcdx"], "broke the protocol: a masked frame", 1002),
        ([frame(MORE, b"x")], "broke the protocol: fragments out of order", 1002),
        ([frame(TEXT, b"x", first=TEXT), frame(TEXT, b"y")], "broke the protocol: fragments out of order", 1002),
        ([frame(PING, b"x" * 126)], "broke the protocol: a control frame that is too long, or in fragments", 1002),
        ([frame(PING, b"x", first=PING)], "broke the protocol: a control frame that is too long, or in fragments", 1002),
        ([frame(CLOSE, b"\x03")], "broke the protocol: half a close code", 1002),
        ([frame(TEXT, b"\xff")], "sent a text that is no UTF-8", 1007),
        ([frame(TEXT, b"\xc3", first=TEXT), frame(MORE)], "sent a text that is no UTF-8", 1007),
    ],
)
def test_broken_rules(serve: Callable[..., Server], pieces: list[bytes], said: str, code: int) -> None:
    server = serve(*pieces)
    assert problem(server.url) == said
    assert server.is_left.wait(5)
    assert frames(server.received) == [(0x88, code.to_bytes(2, "big"))]


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("piece", "said"),
    [
        (closing(1000), "was closed: 1000"),
        (closing(1011, "größe"), "was closed: 1011 größe"),
        (closing(4000, "x" * 123), f"was closed: 4000 {'x' * 123}"),
        (frame(CLOSE), "was closed"),
        (frame(CLOSE, b"\x03\xf3\xff"), "was closed: 1011 \ufffd"),
    ],
)
def test_a_server_that_closes(serve: Callable[..., Server], piece: bytes, said: str) -> None:
    server = serve(piece)
    assert problem(server.url) == said
    assert server.is_left.wait(5)
    assert frames(server.received) == [(0x88, piece[2:4])]


def test_what_is_over_stays_over(serve: Callable[..., Server]) -> None:
    server = serve(frame(TEXT, b"last"), closing(1008, "no"))

    async def ask() -> list[str]:
        said = []
        async with connect(server.url, None, 5.0) as client:
            assert await client.receive() == "last"
            for use in (client.receive, client.receive, partial(client.send, "x")):
                with pytest.raises(CheckError) as caught:
                    await use()
                said.append(str(caught.value))
        return said

    assert run(ask) == ["was closed: 1008 no"] * 3


def test_a_server_that_hangs_up(serve: Callable[..., Server]) -> None:
    assert problem(serve(hangs_up=True).url) == "was cut off"
    assert problem(serve(frame(TEXT, b"half")[:3], hangs_up=True).url) == "was cut off"


def test_a_server_that_resets(serve: Callable[..., Server]) -> None:
    may = threading.Event()
    server = serve(frame(TEXT, b"hello"), may, resets=True)

    async def flood(client: WebSocket) -> None:
        while True:
            await client.send("x" * 100_000)

    async def ask() -> list[str]:
        said = []
        async with connect(server.url, None, 5.0) as client:
            assert await client.receive() == "hello"
            may.set()
            assert await anyio.to_thread.run_sync(server.is_left.wait, 5)
            for use in (partial(flood, client), client.receive):
                with pytest.raises(CheckError) as caught:
                    await use()
                said.append(str(caught.value))
        return said

    assert run(ask) == ["was cut off"] * 2


def test_silence(serve: Callable[..., Server]) -> None:
    server = serve(is_silent=True)
    began = time.monotonic()
    assert problem(server.url, 0.3) == "has no answer after 0.3 s"
    assert 1.0 < time.monotonic() - began < 4  # the goodbye is not answered either
    assert server.is_left.wait(5)
    assert frames(server.received) == [(0x88, b"\x03\xe8")]


def test_a_goodbye_is_as_short_as_the_server_lets_it_be(serve: Callable[..., Server]) -> None:
    may = threading.Event()
    server = serve(may, frame(TEXT, b"still"), frame(PING, b"there?"), closing(1000), is_silent=True)
    took = 0.0

    async def ask() -> None:
        nonlocal took
        async with connect(server.url, None, 5.0):
            may.set()
            began = time.monotonic()
        took = time.monotonic() - began

    run(ask)
    assert took < 0.9
    assert server.is_left.wait(5)
    assert frames(server.received) == [(0x88, b"\x03\xe8")]  # after that nothing, not even a pong


def test_a_server_that_never_stops_talking(serve: Callable[..., Server]) -> None:
    server = serve(*([frame(TEXT, b"x" * MIB)] * 20_000))
    began = time.monotonic()
    assert run(first, server.url) == "x" * MIB
    assert time.monotonic() - began < 5
    assert server.is_left.wait(5)


def test_fragments_without_end(serve: Callable[..., Server]) -> None:
    empty = frame(MORE, first=MORE) * 100_000
    server = serve(frame(TEXT, first=TEXT), *([empty] * 2000))
    assert problem(server.url, 0.5) == "has no answer after 0.5 s"
    assert server.is_left.wait(5)


def test_a_server_that_does_not_read(serve: Callable[..., Server]) -> None:
    may = threading.Event()
    server = serve(may)
    left = 0.0

    async def ask() -> str:
        nonlocal left
        async with connect(server.url, None, 0.5) as client:
            with pytest.raises(CheckError) as caught:
                await client.send("x" * 50_000_000)
            left = time.monotonic()
        left = time.monotonic() - left
        return str(caught.value)

    assert run(ask) == "took no message within 0.5 s"
    assert left < 0.9  # nobody is there for a goodbye
    may.set()
    assert server.is_left.wait(5)


def test_a_cancelled_receive_loses_nothing(serve: Callable[..., Server]) -> None:
    may = threading.Event()
    data = frame(TEXT, b"x" * 1000)
    server = serve(data[:500], may, data[500:], frame(TEXT, b"next"))

    async def ask() -> list[str | bytes]:
        async with connect(server.url, None, 5.0) as client:
            with anyio.move_on_after(0.2) as limit:
                await client.receive()
            assert limit.cancelled_caught
            may.set()
            return [await client.receive(), await client.receive()]

    assert run(ask) == ["x" * 1000, "next"]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_client_that_is_cancelled(serve: Callable[..., Server], is_open: bool) -> None:
    server = serve(answer=accepted if is_open else lambda _: b"")

    async def ask() -> None:
        with anyio.move_on_after(0.2) as limit:
            async with connect(server.url, None, 30.0) as client:
                await client.receive()
        assert limit.cancelled_caught

    began = time.monotonic()
    run(ask)
    assert time.monotonic() - began < 4
    assert server.is_left.wait(5)


def test_an_error_of_the_user_passes(serve: Callable[..., Server]) -> None:
    server = serve(closing(1000))

    async def ask() -> None:
        async with connect(server.url, None, 5.0):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(ask)
    assert server.is_left.wait(5)


def test_one_sends_while_another_answers_pings(serve: Callable[..., Server]) -> None:
    server = serve(*([frame(PING, b"?")] * 50), frame(TEXT, b"done"))

    async def send(client: WebSocket) -> None:
        for _ in range(20):
            await client.send("x" * 100_000)

    async def ask() -> None:
        async with connect(server.url, None, 10.0) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(send, client)
            assert await client.receive() == "done"

    run(ask)
    assert server.is_left.wait(5)
    kinds = [kind for kind, _ in frames(server.received)]
    assert (kinds.count(0x8A), kinds.count(0x81), kinds[-1]) == (50, 20, 0x88)
