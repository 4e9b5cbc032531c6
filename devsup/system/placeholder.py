"""What answers on the kept listeners while no worker can: 503 with the reason, and nobody is left hanging.

Theory of operation. It accepts only while it means to answer; holding is done by not accepting. It looks at the head of a
request without taking it (MSG_PEEK); what is not HTTP is closed. After the answer it shuts its side for writing and reads on for
a moment, because closing at once would reset the connection of a client that is still sending, and lose it the answer.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyio.abc import TaskGroup

_HEAD_LIMIT = 2.0  # seconds for a request's head to arrive
_FULL = 0.1  # seconds until it is tried again
_SENDING = 10.0  # seconds for a client to take its answer
_LINGER = 1.0  # seconds to read on after the answer
_LINGER_BYTES = 1 << 20
_HTTP = re.compile(rb"[A-Z]{3,20} \S+ HTTP/1\.[01]\r?\n")
_LOCAL_NAMES = re.compile(rb"\r\nhost:\s*(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?\s*\r\n", re.IGNORECASE)

_HOSTS = re.compile(rb"\r\nhost:", re.IGNORECASE)
# What proxies, tunnels, and pages of other sites are known by; nginx speaks HTTP/1.0 to those behind it.
_FORWARDED = re.compile(
    rb"\r\n(?:x-forwarded-|forwarded:|cf-|via:|x-real-ip:|true-client-ip:|tailscale-|ngrok-|sec-fetch-site:\s*cross-site)",
    re.IGNORECASE,
)


class Asked(NamedTuple):
    """What is read off a request's head. `seen` is the version of the page that asks for news, "" where none does."""

    method: str
    accept: str
    agent: str
    seen: str
    is_local: bool


class Answer(Protocol):
    """A 503's content."""

    @property
    def kind(self) -> str:
        """Its media type."""

    @property
    def headers(self) -> dict[str, str]:
        """Further headers."""

    @property
    def body(self) -> bytes:
        """Its bytes."""


class Desk(NamedTuple):
    """Who gives the answers: `respond(asked)`, None once a worker serves, and `news(seen)`, which returns when there are any."""

    respond: Callable[[Asked], Answer | None]
    news: Callable[[str], Awaitable[None]]


async def answer(listeners: Iterable[socket.socket], idle: set[socket.socket], desk: Desk, answers: TaskGroup) -> None:
    """Answer on each listener until cancelled, and on the `idle` connections, of which those are taken that ask.

    Who is answered is so in `answers`, which outlives this.
    """
    async with anyio.create_task_group() as tasks:
        for connection in list(idle):
            tasks.start_soon(_wait, connection, idle, desk, answers)
        for listener in listeners:
            tasks.start_soon(_accept, listener, desk, answers)


async def _accept(listener: socket.socket, desk: Desk, answers: TaskGroup) -> None:
    while True:
        await anyio.wait_readable(listener)
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            continue
        except OSError:  # no descriptor is left
            await anyio.sleep(_FULL)
            continue
        connection.setblocking(False)
        answers.start_soon(_serve, connection, desk)


async def _wait(connection: socket.socket, idle: set[socket.socket], desk: Desk, answers: TaskGroup) -> None:
    await anyio.wait_readable(connection)
    idle.remove(connection)
    answers.start_soon(_serve, connection, desk)


async def _serve(connection: socket.socket, desk: Desk) -> None:
    with connection, suppress(OSError):  # TimeoutError is one
        head = b""
        with anyio.move_on_after(_HEAD_LIMIT):
            head = await _peek_head(connection)
        if _HTTP.match(head):
            asked = _read(connection.getpeername()[0], head)
            if asked.seen and asked.is_local and not await _has_waited(connection, len(head), desk.news(asked.seen)):
                return
            with anyio.fail_after(_SENDING):
                await _send(connection, _response(desk.respond(asked), with_body=asked.method != "HEAD"))
            connection.shutdown(socket.SHUT_WR)
            with anyio.move_on_after(_LINGER):
                await _read_on(connection)


async def _has_waited(connection: socket.socket, head: int, news: Awaitable[None]) -> bool:
    """Whether there are news before the client leaves."""
    connection.recv(head)
    has_left = False
    async with anyio.create_task_group() as tasks:

        async def leave() -> None:
            nonlocal has_left
            await anyio.wait_readable(connection)
            has_left = True
            tasks.cancel_scope.cancel()

        tasks.start_soon(leave)
        await news
        tasks.cancel_scope.cancel()
    return not has_left


def _read(peer: str, head: bytes) -> Asked:
    fields = {}
    for line in head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    method = head.split(b" ", 1)[0].decode("latin-1")
    accept, agent, seen = (fields.get(name, "") for name in ("accept", "user-agent", "x-devsup-seen"))
    return Asked(method, accept, agent, seen, _is_local(peer, head))


def _is_local(peer: str, head: bytes) -> bool:
    """Whether it is a browser or program of this machine that asks, and not a page or a tunnel by way of one."""
    fields, whole, _ = head.partition(b"\r\n\r\n")
    fields += b"\r\n"
    if not whole or b" HTTP/1.1\r\n" not in fields:
        return False
    if peer not in {"127.0.0.1", "::1", "::ffff:127.0.0.1"} or len(_HOSTS.findall(fields)) != 1:
        return False
    return _LOCAL_NAMES.search(fields) is not None and _FORWARDED.search(fields) is None


async def _peek_head(connection: socket.socket) -> bytes:
    head = b""
    while True:
        await anyio.wait_readable(connection)
        peeked = connection.recv(65536, socket.MSG_PEEK)
        if (
            b"\r\n\r\n" in peeked
            or len(peeked) >= 65536
            or not peeked
            or (len(peeked) > 20 and not re.match(rb"[A-Z]{3,20} ", peeked))
        ):
            return peeked
        if len(peeked) == len(head):
            await anyio.sleep(0.01)  # peeked bytes stay readable: there is no event for more of them
        head = peeked


def _response(found: Answer | None, *, with_body: bool) -> bytes:
    if found is None:
        return b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    further = "".join(f"{name}: {value}\r\n" for name, value in found.headers.items())
    head = (
        f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {found.kind}\r\nContent-Length: {len(found.body)}\r\n"
        f"Retry-After: 1\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{further}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1", "replace") + (found.body if with_body else b"")


async def _send(connection: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        await anyio.wait_writable(connection)
        view = view[connection.send(view) :]


async def _read_on(connection: socket.socket) -> None:
    left = _LINGER_BYTES
    while left > 0:
        await anyio.wait_readable(connection)
        data = connection.recv(65536)
        if not data:
            return
        left -= len(data)
