"""A small client for WebSockets (RFC 6455), for checks.

Written here, as no library may come along with devsup: uvicorn, hypercorn and others choose how they serve WebSockets by what is
installed. One that devsup brought into the project's environment would let an app work under devsup that fails elsewhere.

Every wait has an end, also that for the server's goodbye, and leaving the block leaves no connection. Extensions are not offered.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

import anyio

from devsup.system.checks import CheckError, tls, why

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyio.abc import ByteStream

LARGEST = 1 << 20  # bytes of a message
_HEAD = 1 << 16  # bytes of the answer's head
_GOODBYE = 1.0  # seconds that the server has to close
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\r\n\0]*")
_UNQUOTED = "%/?:@!$&'()*+,;=~"
_GONE = (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError)
_CUT, _OTHER = "was cut off", "answered no WebSocket, but something else"

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_KINDS = {0, _TEXT, _BINARY, _CLOSE, _PING, _PONG}
_FINAL, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_SHORT = 125  # bytes; the most of a control frame, and of a length that needs no more bytes
_NORMAL, _PROTOCOL, _NO_TEXT, _TOO_LARGE = 1000, 1002, 1007, 1009


@asynccontextmanager
async def connect(url: str, headers: Mapping[str, str] | None, timeout: float) -> AsyncIterator[WebSocket]:
    """A connection to ws://, wss://, http:// or https://, whose certificate is not judged; each wait has the timeout."""
    address = _address(url)
    try:
        with anyio.fail_after(timeout):
            stream, rest = await _open(address, headers or {})
    except TimeoutError:
        raise CheckError(f"has no answer after {timeout:g} s") from None
    socket = WebSocket(stream, rest, timeout)
    try:
        yield socket
    finally:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_GOODBYE):
                await socket.say_goodbye()
            await stream.aclose()


class WebSocket:
    """An open one. What goes wrong is a CheckError, said again whenever it is used again."""

    def __init__(self, stream: ByteStream, rest: bytes, timeout: float) -> None:
        self._stream, self._timeout = stream, timeout
        self._reader = _Reader(rest)
        self._sending = anyio.Lock()  # what answers pings is not who sends
        self._over = ""  # why no message comes or goes any more
        self._has_closed = self._is_torn = False

    async def send(self, message: str | bytes) -> None:
        """A text, or bytes, in one frame."""
        if self._over:
            raise CheckError(self._over)
        kind, data = (_TEXT, message.encode("utf-8", "replace")) if isinstance(message, str) else (_BINARY, message)
        try:
            with anyio.fail_after(self._timeout):
                await self._write(kind, data)
        except TimeoutError:
            raise CheckError(f"took no message within {self._timeout:g} s") from None

    async def receive(self) -> str | bytes:
        """The next message. Nothing is lost where this is cancelled, or its time is over."""
        try:
            with anyio.fail_after(self._timeout):
                return await self._message()
        except TimeoutError:
            raise CheckError(f"has no answer after {self._timeout:g} s") from None

    async def say_goodbye(self) -> None:
        """The closing handshake, as far as there is anybody to have it with; its caller limits it."""
        with suppress(CheckError):
            await self._close(_NORMAL)
            while not self._is_torn:
                await self._message()

    # -- one after the other ----------------------------------------------------------------------------------------------

    async def _message(self) -> str | bytes:
        while not self._over:
            try:
                kind, data = await self._taken()
                if kind == _TEXT:
                    return data.decode()
                if kind == _BINARY:
                    return data
                await self._control(kind, data)
            except UnicodeDecodeError:
                await self._fail(_NO_TEXT, "sent a text that is no UTF-8")
            except _ViolationError as exc:
                await self._fail(exc.code, str(exc))
        raise CheckError(self._over)

    async def _taken(self) -> tuple[int, bytes]:
        while (found := self._reader.take()) is None:
            try:
                self._reader.feed(await self._stream.receive())
            except _GONE:
                self._over = _CUT
                raise CheckError(_CUT) from None
        return found

    async def _control(self, kind: int, data: bytes) -> None:
        if kind == _PING and not self._has_closed:
            await self._write(_PONG, data)
        elif kind == _CLOSE:
            if len(data) == 1:
                raise _ViolationError(_PROTOCOL, "broke the protocol: half a close code")
            code = int.from_bytes(data[:2], "big")
            self._over = f"was closed: {code} {data[2:].decode('utf-8', 'replace')}".rstrip() if code else "was closed"
            await self._close(code)

    async def _fail(self, code: int, problem: str) -> None:
        self._over = problem
        await self._close(code)

    async def _close(self, code: int) -> None:
        """Say that nothing more is sent; once."""
        if not self._has_closed and not self._is_torn:
            self._has_closed = True
            with suppress(CheckError):
                await self._write(_CLOSE, code.to_bytes(2, "big") if code else b"")

    async def _write(self, kind: int, data: bytes) -> None:
        async with self._sending:
            self._is_torn = True  # where this is cancelled, a part of the frame may be on its way
            try:
                await self._stream.send(_frame(kind, data))
            except _GONE:
                self._over = self._over or _CUT
                raise CheckError(self._over) from None
            self._is_torn = False


# -- frames ---------------------------------------------------------------------------------------------------------------


class _ViolationError(Exception):
    """What a server must not do, with the code for its close frame."""

    def __init__(self, code: int, problem: str) -> None:
        super().__init__(problem)
        self.code = code


class _Reader:
    """From bytes to messages and control frames."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)
        self._kind, self._joined = 0, bytearray()  # of a message that comes in fragments

    def feed(self, data: bytes) -> None:
        self._data += data

    def take(self) -> tuple[int, bytes] | None:
        """The kind and the content of what is complete; None where more bytes are needed."""
        while (found := self._frame()) is not None:
            first, content = found
            if first & 15 >= _CLOSE:
                return first & 15, content
            if bool(first & 15) == bool(self._kind):
                raise _ViolationError(_PROTOCOL, "broke the protocol: fragments out of order")
            self._kind = self._kind or first & 15
            self._joined += content
            if first & _FINAL:
                kind, whole = self._kind, bytes(self._joined)
                self._kind, self._joined = 0, bytearray()
                return kind, whole
        return None

    def _frame(self) -> tuple[int, bytes] | None:
        """The first byte and the content of a frame that is there as a whole. Its length is judged before it is."""
        if len(self._data) < 2:
            return None
        first, second = self._data[:2]
        _judge(first, second)
        size = second & 127
        start = {126: 4, 127: 10}.get(size, 2)
        if len(self._data) < start:
            return None
        if start > 2:
            size = int.from_bytes(self._data[2:start], "big")
        if first & 15 < _CLOSE and len(self._joined) + size > LARGEST:
            raise _ViolationError(_TOO_LARGE, f"sent a message longer than {LARGEST >> 20} MiB")
        end = start + size
        if len(self._data) < end:
            return None
        content = bytes(self._data[start:end])
        del self._data[:end]
        return first, content


def _judge(first: int, second: int) -> None:
    """What a frame's first two bytes tell."""
    problem = ""
    if first & _RESERVED:
        problem = "reserved bits"
    elif first & 15 not in _KINDS:
        problem = f"a frame of kind {first & 15}"
    elif second & _MASKED:
        problem = "a masked frame"
    elif first & 15 >= _CLOSE and not (first & _FINAL and second <= _SHORT):
        problem = "a control frame that is too long, or in fragments"
    if problem:
        raise _ViolationError(_PROTOCOL, f"broke the protocol: {problem}")


def _frame(kind: int, data: bytes) -> bytes:
    """One frame, masked, as clients have to."""
    size, mask = len(data), os.urandom(4)
    if size <= _SHORT:
        head = struct.pack("!BB", _FINAL | kind, _MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FINAL | kind, _MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", _FINAL | kind, _MASKED | 127, size)
    # As one large number: a loop over bytes would take the event loop's time.
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")


# -- the opening handshake ------------------------------------------------------------------------------------------------


class _Address(NamedTuple):
    host: str
    port: int
    is_secure: bool
    authority: str
    target: str


def _address(url: str) -> _Address:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise CheckError(f"has no usable address: {exc}") from exc
    if parts.scheme not in {"ws", "wss", "http", "https"} or not host:
        raise CheckError(f"has no usable address: {url}")
    is_secure = parts.scheme in {"wss", "https"}
    target = quote(parts.path or "/", safe=_UNQUOTED) + (f"?{quote(parts.query, safe=_UNQUOTED)}" if parts.query else "")
    return _Address(host, port or (443 if is_secure else 80), is_secure, parts.netloc.rpartition("@")[2], target)


async def _open(address: _Address, headers: Mapping[str, str]) -> tuple[ByteStream, bytes]:
    """A connection that speaks WebSocket now, and what has come already."""
    key = base64.b64encode(os.urandom(16)).decode()
    request = _request(address, headers, key)
    try:
        stream = await _connected(address)
    except _GONE as exc:
        raise CheckError(why(exc)) from exc
    except UnicodeError as exc:
        raise CheckError(f"has no usable address: {address.host}") from exc
    try:
        await stream.send(request)
        head, rest = await _answer(stream)
        _check(head, key, headers)
    except BaseException as exc:
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        if isinstance(exc, _GONE):
            raise CheckError(_CUT) from exc
        raise
    return stream, rest


async def _connected(address: _Address) -> ByteStream:
    if not address.is_secure:
        return await anyio.connect_tcp(address.host, address.port)
    return await anyio.connect_tcp(address.host, address.port, ssl_context=tls(), tls_standard_compatible=False)


def _request(address: _Address, headers: Mapping[str, str], key: str) -> bytes:
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise CheckError(f"has a header that cannot be sent: {name}")
    ours = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
    fields = {"Host": address.authority, "User-Agent": "devsup"}
    lines = {name.lower(): f"{name}: {value}" for group in (fields, headers, ours) for name, value in group.items()}
    lines.pop("sec-websocket-extensions", None)
    return "\r\n".join([f"GET {address.target} HTTP/1.1", *lines.values(), "", ""]).encode("utf-8", "surrogateescape")


async def _answer(stream: ByteStream) -> tuple[bytes, bytes]:
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > _HEAD or not data.startswith(b"HTTP/1."[: len(data)]):
            raise CheckError(_OTHER)
        data += await stream.receive()
    return bytes(data[:end]), bytes(data[end + 4 :])


def _check(head: bytes, key: str, headers: Mapping[str, str]) -> None:
    """Whether the server has understood, and agreed to what was asked for."""
    first, *lines = head.decode("latin-1").split("\r\n")
    status = next(iter(re.findall(r"^HTTP/1\.\d (\d{3})\b", first)), "")
    if status != "101":
        page = f"answered no WebSocket, but {status}" if status.startswith("2") else f"was refused with {status}"
        raise CheckError(page if status else _OTHER)
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        fields[name] = ", ".join(filter(None, (fields.get(name), value.strip())))
    asked = next((value for name, value in headers.items() if name.lower() == "sec-websocket-protocol"), "")
    expected = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
    problem = ""
    if fields.get("upgrade", "").lower() != "websocket" or "upgrade" not in fields.get("connection", "").lower():
        problem = "it upgrades to something else"
    elif fields.get("sec-websocket-accept") != expected:
        problem = "its Sec-WebSocket-Accept is wrong"
    elif fields.get("sec-websocket-extensions"):
        problem = "it uses an extension that was not offered"
    elif fields.get("sec-websocket-protocol", "") not in {"", *map(str.strip, asked.split(","))}:
        problem = "it speaks a subprotocol that was not offered"
    if problem:
        raise CheckError(f"answered no WebSocket: {problem}")
