"""What answers on the kept listeners while no worker can: 503 with the reason, and nobody is left hanging.

Theory of operation. It accepts only while it means to answer; holding is done by not accepting. It looks at the head of a
request without taking it (MSG_PEEK); what is not HTTP is closed. After the answer it shuts its side for writing and reads on for
a moment, because closing at once would reset the connection of a client that is still sending, and lose it the answer.
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio.abc import TaskGroup

_HEAD_LIMIT = 2.0  # seconds for a request's head to arrive
_LINGER = 1.0  # seconds to read on after the answer
_LINGER_BYTES = 1 << 20
_HTTP = re.compile(rb"[A-Z]{3,20} \S+ HTTP/1\.[01]\r?\n")
_LOCAL_NAMES = re.compile(rb"\r\nhost:\s*(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?\s*\r\n", re.IGNORECASE)

_HOSTS = re.compile(rb"\r\nhost:", re.IGNORECASE)
_FORWARDED = re.compile(rb"\r\n(?:x-forwarded-|forwarded:|cf-)", re.IGNORECASE)


async def answer(
    listeners: Iterable[socket.socket], idle: set[socket.socket], reason: Callable[[], str], answers: TaskGroup
) -> None:
    """Answer on each listener until cancelled, and on the `idle` connections, of which those are taken that ask.

    `reason()` is shown to clients on this machine only. Who is answered is so in `answers`, which outlives this.
    """
    async with anyio.create_task_group() as tasks:
        for connection in list(idle):
            tasks.start_soon(_wait, connection, idle, reason, answers)
        for listener in listeners:
            tasks.start_soon(_accept, listener, reason, answers)


async def _accept(listener: socket.socket, reason: Callable[[], str], answers: TaskGroup) -> None:
    while True:
        await anyio.wait_readable(listener)
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            continue
        connection.setblocking(False)
        answers.start_soon(_serve, connection, reason)


async def _wait(connection: socket.socket, idle: set[socket.socket], reason: Callable[[], str], answers: TaskGroup) -> None:
    await anyio.wait_readable(connection)
    idle.remove(connection)
    answers.start_soon(_serve, connection, reason)


async def _serve(connection: socket.socket, reason: Callable[[], str]) -> None:
    with connection, suppress(OSError):
        head = b""
        with anyio.move_on_after(_HEAD_LIMIT):
            head = await _peek_head(connection)
        if _HTTP.match(head):
            await _send(connection, _page(reason() if _is_local(connection.getpeername()[0], head) else ""))
            connection.shutdown(socket.SHUT_WR)
            with anyio.move_on_after(_LINGER):
                await _read_on(connection)


def _is_local(peer: str, head: bytes) -> bool:
    """Whether it is a browser or program of this machine that asks, and not a page or a tunnel by way of one."""
    fields = head.partition(b"\r\n\r\n")[0] + b"\r\n"
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


def _page(reason: str) -> bytes:
    body = ("devsup: the server is not running.\n\n" + (reason or "Its terminal says why.")).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


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
