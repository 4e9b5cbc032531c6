"""Exchanges as bytes on a socket: what is sent, when, and all that comes back."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import wait_until

LIMIT = 15.0  # seconds for one exchange
MASK = b"\x01\x02\x03\x04"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@dataclass(frozen=True)
class Read:
    """Go on once this has come, after what was read before."""

    text: bytes


@dataclass(frozen=True)
class Trickle:
    """Send in pieces of this size, each by itself."""

    data: bytes
    size: int = 1


class HalfClose:
    """Send no more, but go on reading."""


class Leave:
    """Close the connection without another word."""


class Reset:
    """Close it with a reset."""


@dataclass(frozen=True)
class Hold:
    """Here a file is saved, if the exchange is played beside a reload; the app goes on once `then` is sent."""

    then: bytes = b""


Step = bytes | Read | Trickle | HalfClose | Leave | Reset | Hold


@dataclass(frozen=True)
class Exchange:
    """What one client does on one connection of its own; then it reads until the server closes."""

    name: str
    steps: tuple[Step, ...]
    seen: str = ""  # what the app has seen is compared too: the name under which it tells
    idle: bool = False  # it has a moment in which the connection waits for nothing
    lazy: bool = False  # it reads late and in small pieces

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Result:
    """What came back, and what the app saw; dates and port numbers are taken out."""

    received: bytes
    seen: list[Any]


@dataclass
class Target:
    """A server to play exchanges against; `at_once` of them are played together, each in a thread."""

    port: int
    seen: Path
    save: Callable[[], None] = lambda: None
    at_once: int = 1

    def __post_init__(self) -> None:
        self._holding = threading.Barrier(self.at_once, self.save)
        self._releasing = threading.Barrier(self.at_once, (self.seen / "release").touch)

    def play(self, exchange: Exchange) -> Result:
        """Play one exchange."""
        if exchange.seen:
            (self.seen / exchange.seen).unlink(missing_ok=True)
        with contextlib.closing(_Client(self, exchange)) as client:
            client.play()
        seen = self._saw(exchange.seen) if exchange.seen else []
        return Result(_normal(bytes(client.data), self.port, client.port), seen)

    def _saw(self, name: str) -> list[Any]:
        file = self.seen / name
        text = wait_until(lambda: file.read_text() if file.exists() else "", LIMIT, lambda: f"the app saw no {name}")
        return [json.loads(line) for line in text.splitlines()]

    def hold(self) -> None:
        """Once the app works on all that are played together: save."""
        held = self.seen / "held"
        wait_until(lambda: held.exists() and len(held.read_text().splitlines()) == self.at_once, LIMIT, held.read_text)
        self._holding.wait(LIMIT)

    def release(self) -> None:
        """Let the app go on."""
        self._releasing.wait(LIMIT)


class _Client:
    def __init__(self, target: Target, exchange: Exchange) -> None:
        self._target, self._exchange = target, exchange
        self._socket = socket.socket()
        if exchange.lazy:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(LIMIT)
        self._socket.connect(("127.0.0.1", target.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = int(self._socket.getsockname()[1])
        self.data = bytearray()
        self._looked = 0

    def close(self) -> None:
        self._socket.close()

    def play(self) -> None:
        for step in self._exchange.steps:
            match step:
                case bytes():
                    self._send(step)
                case Trickle():
                    for start in range(0, len(step.data), step.size):
                        self._send(step.data[start : start + step.size])
                        time.sleep(0.0005)  # so that they are read one by one; nothing depends on it
                case Read():
                    self._read_until(step.text)
                case HalfClose():
                    with contextlib.suppress(OSError):  # the server was faster
                        self._socket.shutdown(socket.SHUT_WR)
                case Hold():
                    self._target.hold()
                    self._send(step.then)
                    self._target.release()
                case Leave() | Reset():
                    linger = isinstance(step, Reset)
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
                    self._socket.close()
                    del self.data[self._looked :]
                    return
        if self._exchange.lazy:
            time.sleep(0.2)  # a client that is slow to read; nothing depends on it
        while self._receive():
            pass

    def _send(self, data: bytes) -> None:
        """Send while reading: a server may answer, and stop reading, before all is sent."""
        while data:
            readable, writable, _ = select.select([self._socket], [self._socket], [], LIMIT)
            if not (readable or writable):
                raise TimeoutError(f"{self._exchange}: nothing is read; so far {bytes(self.data)!r:.300}")
            if readable and not self._receive():
                return
            if writable:
                try:
                    data = data[self._socket.send(data[: 1 << 16]) :]
                except (BrokenPipeError, ConnectionResetError):
                    return

    def _receive(self) -> bool:
        try:
            piece = self._socket.recv(4096 if self._exchange.lazy else 1 << 16)
        except ConnectionResetError:
            return False
        except TimeoutError:
            raise TimeoutError(f"{self._exchange}: no end; so far {bytes(self.data)!r:.300}") from None
        self.data += piece
        return bool(piece)

    def _read_until(self, text: bytes) -> None:
        while (at := self.data.find(text, self._looked)) < 0:
            if not self._receive():
                return
        self._looked = at + len(text)


# Dates, signatures with a time in them, secrets and addresses of the debugger's page.
_VARYING = (rb"(?im)^(date: )[^\r\n]*", rb"(session=)[^;]*", rb'(SECRET = ")[^"]*', rb"(frame-)\d+")


def _normal(data: bytes, port: int, client: int) -> bytes:
    for varies in _VARYING:
        data = re.sub(varies, rb"\1@", data)
    for number, name in ((port, b"@PORT"), (client, b"@PEER")):
        data = re.sub(rb"(?<!\d)%d(?!\d)" % number, name, data)
    return data


# -- WebSocket frames -------------------------------------------------------------------------------------------------

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes | str = b"", *, last: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """One frame, as a client sends it."""
    data = payload.encode() if isinstance(payload, str) else payload
    head = bytes([last << 7 | reserved << 4 | opcode])
    if len(data) < 126:
        head += bytes([masked << 7 | len(data)])
    elif len(data) < 1 << 16:
        head += bytes([masked << 7 | 126]) + len(data).to_bytes(2, "big")
    else:
        head += bytes([masked << 7 | 127]) + len(data).to_bytes(8, "big")
    if not masked:
        return head + data
    pattern = (MASK * (len(data) // 4 + 1))[: len(data)]
    hidden = int.from_bytes(data, "big") ^ int.from_bytes(pattern, "big")
    return head + MASK + hidden.to_bytes(len(data), "big")


def close(code: int | None = 1000, reason: str = "") -> bytes:
    """A close frame of the client's."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


def handshake(path: str, *headers: str) -> bytes:
    """The request that opens a WebSocket."""
    words = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", *headers]
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *words, "", ""]).encode()
