"""The link's end in the supervisor: a Unix socket that agents connect to, one link per process that serves.

Theory of operation. An agent says `hello` with its token, `<run>-<generation>`; whoever has none is hung up on. After that both
sides send messages when they have something to say; a question carries an `id`, and its answer a `reply` (or the name of the
answer) with the same one. Descriptors travel as SCM_RIGHTS with the first byte of the message that names their number in
`fds`. The end of a link is a hint and no more: only waitpid says that a worker is dead.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import UNIXSocketStream

from devsup.guest.devsup_agent.wire import MAX_FDS, Decoder, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Message = dict[str, Any]
_ANSWER_LIMIT = 2.0  # seconds for an agent's thread to answer a question
_HELLO_LIMIT = 5.0
_ANSWERS = frozenset({"active", "compiled", "imported", "preloaded", "forked", "retired", "stacked", "requested"})


class Link:
    """One process of a worker, as the supervisor talks to it."""

    def __init__(self, stream: UNIXSocketStream, hello: Message) -> None:
        self._stream = stream
        self._lock = anyio.Lock()
        self._answers: dict[int, tuple[anyio.Event, list[Message]]] = {}
        self._next_id = 0
        self._has_ended = False
        self.whose = str(hello["token"]).rpartition("-")[2]
        self.generation = int(self.whose) if self.whose.isdigit() else 0  # a fork server's
        self.pid = int(hello["pid"])
        self.python = str(hello["python"])
        self.thread = 0  # the agent's, as the system numbers it
        self.listens = self.serves = self.adopts = self.prompts = self.debugged = False
        self.awaits: tuple[str, Any] | None = None  # the command it was given, and the fact that follows

    async def send(self, op: str, fds: Sequence[int] = (), **fields: Any) -> None:
        """Send one message; a link that is gone swallows it (the worker's exit will tell)."""
        data = encode({"op": op, "fds": len(fds), **fields})
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with self._lock:
                if fds:
                    await self._stream.send_fds(data, list(fds))
                else:
                    await self._stream.send(data)

    async def send_all(self, op: str, fds: Sequence[int]) -> None:
        """Send any number of descriptors, in as many messages as they take."""
        for start in range(0, len(fds), MAX_FDS):
            await self.send(op, fds[start : start + MAX_FDS])

    async def ask(self, op: str, fds: Sequence[int] = (), limit: float = _ANSWER_LIMIT, **fields: Any) -> Message | None:
        """Send a question and wait for its answer; None when there is none within `limit` seconds, or the link ends."""
        self._next_id += 1
        key, arrived, answer = self._next_id, anyio.Event(), list[Message]()
        self._answers[key] = (arrived, answer)
        if self._has_ended:
            arrived.set()
        try:
            await self.send(op, fds, id=key, **fields)
            with anyio.move_on_after(limit):
                await arrived.wait()
        finally:
            del self._answers[key]
        return answer[0] if answer else None

    def answered(self, message: Message) -> bool:
        """Whether `message` is the answer to a question that waits."""
        waiting = self._answers.get(message.get("id", 0)) if message["op"] in _ANSWERS else None
        if waiting is not None:
            waiting[1].append(message)
            waiting[0].set()
        return waiting is not None

    def ended(self) -> None:
        """Nobody will answer any more."""
        self._has_ended = True
        for arrived, _ in self._answers.values():
            arrived.set()


class LinkServer:
    """Takes agents in. `on_hello(link)` and `on_end(link)` frame the messages `on_message(link, message, fds)`."""

    def __init__(self, run: str) -> None:
        self._run = run
        self.on_hello: Callable[[Link], Awaitable[None]] = _ignored
        self.on_end: Callable[[Link], Any] = lambda _: None
        self.on_message: Callable[[Link, Message, list[int]], Any] = lambda _link, _message, _fds: None

    async def serve(self, sock: socket.socket) -> None:
        """Accept agents until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.wait_readable(sock)
                with suppress(BlockingIOError, ConnectionError):
                    connection, _ = sock.accept()
                    tasks.start_soon(self._handle, await UNIXSocketStream.from_socket(connection))

    async def _handle(self, stream: UNIXSocketStream) -> None:
        """One connection, from hello to its end."""
        link: Link | None = None
        decoder, fds = Decoder(), list[int]()
        async with stream:
            try:
                with anyio.CancelScope() as scope:
                    scope.deadline = anyio.current_time() + _HELLO_LIMIT
                    while True:
                        data, arrived = await stream.receive_fds(65536, MAX_FDS)
                        for fd in arrived:  # before anything can be spawned
                            os.set_inheritable(fd, False)
                        fds.extend(arrived)
                        for message in decoder.feed(data):
                            if link is None:
                                if not str(message.get("token", "")).startswith(f"{self._run}-"):
                                    return
                                scope.deadline = float("inf")
                                link = Link(stream, message)
                                await self.on_hello(link)
                                continue
                            mine = fds[: message.get("fds", 0)]
                            del fds[: len(mine)]
                            if not link.answered(message):
                                self.on_message(link, message, mine)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            finally:
                for fd in fds:
                    os.close(fd)
                if link is not None:
                    link.ended()
                    self.on_end(link)


async def _ignored(_: Link) -> None:
    pass


def adopt(fd: int, family: int) -> socket.socket:
    """The listening socket behind a descriptor that came over a link."""
    return socket.socket(family, socket.SOCK_STREAM, fileno=fd)
