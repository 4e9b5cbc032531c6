"""The standard library's socketserver, and all that stands on it: http.server, wsgiref, Django's runserver, werkzeug.

The gate is in `accept` (see `sockets`). A stop sets the flag that `serve_forever` looks at and wakes its selector, so the half
second of its poll is no part of a reload. A connection is active from a request's first byte until the next request's line is
waited for.
"""

import contextlib
import functools
import io
import os
import selectors
import socket
import socketserver
import threading
import time
import typing

from devsup_agent import guard, sockets
from devsup_agent.active import owners, work, wsgi
from devsup_agent.agent import agent
from devsup_agent.servers import common

_LINE = 65537  # what http.server and its children ask for when they wait for a line


def patch(module):
    """Plant the hooks; `module` is socketserver or http.server."""
    if module.__name__ == "http.server":
        _patch_handler(module.BaseHTTPRequestHandler)
    else:
        module._ServerSelector = Selector
        _patch_server(module.BaseServer)


def _patch_server(server_class):
    real_serve, real_shutdown = server_class.serve_forever, server_class.shutdown

    @functools.wraps(real_serve)
    def serve_forever(self, *args, **kwargs):
        drain = None
        with guard("a hook of socketserver"):
            if threading.current_thread() is threading.main_thread() and agent.connect():
                sockets.report([self.socket])
            if sockets.is_kept(self.socket):
                drain = self.devsup = Drain(self)
                drain.secure = [self.socket] if hasattr(self.socket, "context") else []
                _wrap_app(self)
                agent.serve(drain, *_describe(self))
        try:
            real_serve(self, *args, **kwargs)
        finally:
            agent.served(drain)

    @functools.wraps(real_shutdown)
    def shutdown(self):
        # The base sets a flag and waits for the next tick, of which there are none.
        setattr(self, "_BaseServer__shutdown_request", True)  # noqa: B010 - a private name of socketserver's
        getattr(self, "devsup_wake", int)()
        real_shutdown(self)

    server_class.serve_forever, server_class.shutdown = serve_forever, shutdown


def _wrap_app(server):
    for name in ("app", "application"):
        if callable(getattr(server, name, None)):
            setattr(server, name, wsgi.wrap(getattr(server, name), server.devsup))


def _describe(server):
    """(the server's name, the app's routes)."""
    app = getattr(server, "app", None) or getattr(server, "application", None)
    name = type(server).__module__.partition(".")[0]
    found = []
    with guard("the routes"):
        found = wsgi.routes(app)
    return {"socketserver": "http.server", "http": "http.server", "__main__": "http.server"}.get(name, name), found


def _patch_handler(handler_class):
    real_setup, real_parse, real_finish = handler_class.setup, handler_class.parse_request, handler_class.finish
    real_send_header = handler_class.send_header

    def setup(self):
        real_setup(self)
        with guard("a hook of http.server"):
            drain = getattr(self.server, "devsup", None)
            if drain is not None and type(self.rfile) is io.BufferedReader:
                self.devsup = drain.connection(self.request)
                self.rfile = _Requests(_FirstByte(self.rfile.detach(), self.devsup), self.devsup)

    def parse_request(self):
        connection = getattr(self, "devsup", None)
        if connection is None:
            return real_parse(self)
        connection.in_head = True
        try:
            parsed = real_parse(self)
        finally:
            connection.in_head = False
        with guard("a hook of http.server"):
            if parsed:
                connection.takes(self.command, self.path, self.headers)
        return parsed

    def send_header(self, keyword, value):
        record = getattr(self, "devsup", None)
        with guard("the headers of an answer"):
            if record is not None and record.head is None and keyword.lower() == "content-type":
                record.answers([(keyword, value)])
        real_send_header(self, keyword, value)

    def finish(self):
        try:
            real_finish(self)
        finally:
            with guard("a hook of http.server"):
                if getattr(self, "devsup", None) is not None:
                    self.devsup.over()

    handler_class.setup, handler_class.parse_request, handler_class.finish = setup, parse_request, finish
    handler_class.send_header = send_header


class Connection(work.Request):
    """One connection of an HTTP handler: busy from the first byte of a request until it waits for the next one's."""

    __slots__ = ("asked", "drain", "got_bytes", "in_head", "rested", "sock", "upgraded")

    def __init__(self, sock, drain):
        super().__init__("", "a half-sent request")
        self.sock, self.drain = sock, drain
        self.asked: typing.Any = None  # the request in hand, which what it leaves behind outlives
        self.rested = time.monotonic() + work.FRESH  # since when it may be closed
        self.got_bytes = self.in_head = self.upgraded = False
        drain.begin(self)

    @property
    def name(self):
        """As the reports show it."""
        return f"{self.method} {self.path}".strip()

    def first_byte(self):
        """A request begins."""
        if not self.got_bytes:
            self.got_bytes, self.started, self.last = True, time.monotonic(), b""
            self.found(None, None, None)
            self.method, self.path = "", "a half-sent request"

    def takes(self, method, target, headers):
        """Its head has come."""
        self.first_byte()
        self.method, self.path = method, target.partition("?")[0]
        self.upgraded = "websocket" in headers.get("Upgrade", "").lower()
        wsgi.here.request = self
        self.asked = work.Request(self.method, self.path)
        owners.enter(self.asked)

    def rest(self):
        """The answer is out; the next request is waited for."""
        if self.got_bytes:
            self.got_bytes, self.rested = False, time.monotonic() + work.PAUSE
            self._leave()
            self.drain.changed()

    def over(self):
        """The connection ends."""
        wsgi.here.request = None
        self._leave()
        self.drain.end(self)

    def _leave(self):
        if self.asked is not None:
            self.asked.cut = self.cut
            agent.background.leave(self.asked)

    def busy(self, now):
        """As a request's; a WebSocket over WSGI tells nothing of itself and gets the stream grace."""
        return self.got_bytes and not self.upgraded and super().busy(now)

    def may_end(self, now, grace_over):
        """Whether the gate may end it: a stream, or a connection on which no byte has come for a while."""
        return self.upgraded or self.is_endless(now) or (not self.got_bytes and now > self.rested)

    def end(self):
        """A stream ends at an event's end; an idle connection as if its client had left."""
        self.cut = self.got_bytes
        if not self.got_bytes:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RD)


class Drain(common.Drain):
    """As the base's; each handler's connection is a record of its own."""

    def __init__(self, server):
        super().__init__(self._end_loop)
        self._server = server

    def connection(self, sock):
        """The record of an accepted connection."""
        return Connection(sock, self)

    def _end_loop(self):
        sockets.stop_accepting()
        setattr(self._server, "_BaseServer__shutdown_request", True)  # noqa: B010 - a private name of socketserver's
        getattr(self._server, "devsup_wake", int)()


class _FirstByte(io.RawIOBase):
    """The raw stream of a connection: notes when the first byte arrives."""

    def __init__(self, raw, connection):
        super().__init__()
        self._raw, self._connection = raw, connection

    def __getattr__(self, name):
        return getattr(self._raw, name)

    def fileno(self):
        """The raw stream's."""
        return self._raw.fileno()

    def readable(self):
        """It is."""
        return True

    def readinto(self, buffer):
        """As the raw stream's."""
        count = self._raw.readinto(buffer)
        if count:
            self._connection.first_byte()
        return count

    def close(self):
        """The raw stream too, which counts on it."""
        self._raw.close()
        super().close()


class _Requests(io.BufferedReader):
    """The buffered stream of a connection: notes when the next request is waited for."""

    def __init__(self, raw, connection):
        super().__init__(raw)
        self._connection = connection

    def readline(self, size=-1):
        """As the base's."""
        if size == _LINE and not self._connection.in_head:
            self._connection.rest()
        return super().readline(size)


class Selector(selectors.PollSelector):
    """A poll with a pipe of ours beside the server's listener: it can be woken, and does not tick where nothing is done then."""

    def __init__(self):
        super().__init__()
        self._wake_read, self._wake_write = os.pipe()
        self._open = threading.RLock()  # nobody wakes it while it closes: the number may be another file's by then
        self._ticks = True

    def register(self, fileobj, events, data=None):
        """As the base's, plus the pipe that wakes it."""
        key = super().register(fileobj, events, data)
        # Only a server that we wake may do without ticks, and only where nothing is done at a tick.
        idle = getattr(type(fileobj), "service_actions", None) is socketserver.BaseServer.service_actions
        self._ticks = not (idle and hasattr(fileobj, "devsup"))
        super().register(self._wake_read, selectors.EVENT_READ)
        fileobj.devsup_wake = self.wake
        return key

    def select(self, timeout=None):
        """As the base's, without our own pipe in the answer."""
        ready = super().select(timeout if self._ticks else None)
        return [(key, events) for key, events in ready if key.fd != self._wake_read]

    def wake(self):
        """Let `select` return now, and from now on."""
        with self._open, contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def close(self):
        """As the base's, and the pipe."""
        super().close()
        with self._open:
            write, self._wake_write = self._wake_write, -1
            os.close(self._wake_read)
            os.close(write)
