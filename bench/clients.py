"""What a server is asked while it is saved: steady requests, and one piece of work that the save meets."""

import http.client
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from bench import harness

FRESH = 4
KEPT = 4
PAUSE = 0.02  # of each client between two requests
LIMIT = 15.0  # for one answer


@dataclass
class Traffic:
    """What became of the requests; the times of those that were answered are in ms."""

    lost: int = 0
    times: list[float] = field(default_factory=list)

    def ask_until(self, over: threading.Event, port: int, *, keep: bool) -> None:
        connection = http.client.HTTPConnection(harness.HOST, port, timeout=LIMIT)
        while not over.wait(PAUSE):
            asked = time.perf_counter()
            if _ask(connection, keep=keep):
                self.times.append((time.perf_counter() - asked) * 1000)
            else:
                self.lost += 1
                connection.close()
        connection.close()


def _ask(connection: http.client.HTTPConnection, *, keep: bool) -> bool:
    """Whether a 200 came whole. A connection that the server ended between two requests is opened anew, as browsers do."""
    if isinstance(connection.sock, socket.socket) and select.select([connection.sock], [], [], 0)[0]:
        connection.close()
    try:
        connection.request("GET", "/", headers={"Connection": "keep-alive" if keep else "close"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return False
    return answer.status == 200


@contextmanager
def traffic(port: int) -> Iterator[Traffic]:
    """Clients that ask all the time, some over connections that they keep; the counts are whole when the block is left."""
    seen = Traffic()
    over = threading.Event()
    keeps = [False] * FRESH + [True] * KEPT
    clients = [threading.Thread(target=seen.ask_until, args=(over, port), kwargs={"keep": keep}) for keep in keeps]
    for client in clients:
        client.start()
    try:
        yield seen
    finally:
        over.set()
        for client in clients:
            client.join()


class Client(Protocol):
    """One piece of work under way."""

    def outcome(self, seconds: float) -> str:
        """'whole', 'cut', 'ended' (cleanly, before it was whole), or 'open' where nothing of that comes in so many seconds."""


class Get:
    """A request; its answer is whole when it has the word."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self._socket = connection
        accept = "text/event-stream" if path in {"/tokens", "/endless"} else "*/*"
        head = [f"GET {path} HTTP/1.1", f"Host: {harness.HOST}", f"Accept: {accept}", "Connection: close"]
        connection.sendall("\r\n".join([*head, "", ""]).encode())

    def outcome(self, seconds: float) -> str:
        received = bytearray()
        deadline = time.perf_counter() + seconds
        while b"whole" not in received:
            self._socket.settimeout(max(0.001, deadline - time.perf_counter()))
            try:
                piece = self._socket.recv(65536)
            except TimeoutError:
                return "open"
            except OSError:
                return "cut"
            if not piece:
                return "ended" if received.endswith(b"\r\n0\r\n\r\n") else "cut"
            if time.perf_counter() > deadline:
                return "open"
            received += piece
        return "whole"


class WebSocket:
    """A connection, which a message keeps busy or which stays idle."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def outcome(self, seconds: float) -> str:
        try:
            self._connection.recv(seconds)
        except TimeoutError:
            return "open"
        except ConnectionClosed as closed:
            return f"closed {closed.rcvd.code}" if closed.rcvd else "cut"
        return "whole"


@contextmanager
def get(port: int, path: str) -> Iterator[Client]:
    with socket.create_connection((harness.HOST, port), LIMIT) as connection:
        client = Get(connection, path)
        _wait_until(lambda: harness.ask(port, "/begun") not in {None, b"0"})
        if path == "/blocked":
            _wait_until(lambda: harness.ask(port, "/begun", timeout=0.1) is None)
        yield client


@contextmanager
def websocket(port: int, *, busy: bool) -> Iterator[Client]:
    with connect(f"ws://{harness.HOST}:{port}/ws", proxy=None, ping_interval=None, close_timeout=0.5) as connection:
        if busy:
            connection.send("work")
            _wait_until(lambda: harness.ask(port, "/begun") not in {None, b"0"})
        yield WebSocket(connection)


def _wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + LIMIT
    while not fact():
        if time.perf_counter() > deadline:
            raise harness.BenchError("the work that a save was to meet has not begun")
        time.sleep(harness.STEP)


# What a save meets, each taking 3 s where it ends at all.
KINDS: dict[str, Callable[[int], AbstractContextManager[Client]]] = {
    "request": partial(get, path="/slow"),
    "token stream": partial(get, path="/tokens"),
    "busy WebSocket": partial(websocket, busy=True),
    "idle WebSocket": partial(websocket, busy=False),
    "endless SSE": partial(get, path="/endless"),
    "blocked loop": partial(get, path="/blocked"),
}
WSGI_KINDS = {"request", "token stream", "endless SSE"}
