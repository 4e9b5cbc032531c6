"""werkzeug under the agent, by way of the standard library's socketserver: gate, drain and stop of a threaded WSGI server.

The gate is in `accept` (see `sockets`). A stop sets the flag that `serve_forever` looks at and wakes its selector, so the half
second of its poll is no part of a reload. A connection is active from its first byte until it is closed; werkzeug answers one
request on each.
"""

import functools
import io
import sys
import threading
import time

from devsup_agent import guard, work
from devsup_agent.agent import agent
from devsup_agent.servers.threaded import ThreadedDrain

_here = threading.local()  # .request: the record that this thread works on


def patch(module):
    """Plant the hooks; `module` is werkzeug.serving or flask.cli."""
    {"werkzeug.serving": _patch_werkzeug, "flask.cli": _patch_flask}[module.__name__](module)


def _patch_werkzeug(module):
    agent.connect()
    _patch_run_simple(module)
    _patch_server(module.BaseWSGIServer)
    _patch_handler(module.WSGIRequestHandler)


def _patch_run_simple(module):
    run_simple = module.run_simple

    def is_running_from_reloader():
        # For the app we are the reloader's child; werkzeug and flask themselves would then expect a socket by number.
        return sys._getframe(1).f_globals.get("__name__") not in ("werkzeug.serving", "flask.cli")

    @functools.wraps(run_simple)
    def run(hostname, port, application, use_reloader=False, *args, **kwargs):
        if use_reloader:
            extra = [str(path) for path in kwargs.get("extra_files") or ()]
            excludes = list(kwargs.get("exclude_patterns") or ())
            agent.send("reloader", name="werkzeug", dirs=[], includes=extra, excludes=excludes)
        return run_simple(hostname, port, application, False, *args, **kwargs)

    module.is_running_from_reloader, module.run_simple = is_running_from_reloader, run


def _patch_server(server_class):
    real_serve, real_shutdown, real_close = server_class.serve_forever, server_class.shutdown, server_class.shutdown_request

    def serve_forever(self, *args, **kwargs):
        drain = None
        with guard("a hook of werkzeug"):
            drain = self.devsup = ThreadedDrain(self, agent, Connection)
            routes = []
            with guard("the routes"):
                routes = _routes(self.app)
            self.app = _wrap(self.app)
            agent.serve(drain, "werkzeug", routes)
        try:
            real_serve(self, *args, **kwargs)
        finally:
            agent.served(drain)

    def shutdown(self):
        # The base sets a flag and waits for the next tick, of which there are none.
        setattr(self, "_BaseServer__shutdown_request", True)  # noqa: B010 - a private name of socketserver's
        getattr(self, "devsup_wake", int)()
        real_shutdown(self)

    def shutdown_request(self, request):
        real_close(self, request)
        with guard("a hook of werkzeug"):
            self.devsup.end(request)

    server_class.serve_forever, server_class.shutdown, server_class.shutdown_request = serve_forever, shutdown, shutdown_request


def _patch_handler(handler_class):
    real_setup, real_run = handler_class.setup, handler_class.run_wsgi

    def setup(self):
        real_setup(self)
        drain = getattr(self.server, "devsup", None)
        if drain is None:
            return
        with guard("a hook of werkzeug"):
            self.devsup = drain.connection(self.request)
            self.rfile = io.BufferedReader(_FirstByte(self.rfile.detach(), self.devsup))

    def run_wsgi(self):
        with guard("a hook of werkzeug"):
            self.devsup.method, self.devsup.path = self.command, self.path.partition("?")[0]
            self.devsup.upgraded = "websocket" in self.headers.get("Upgrade", "").lower()
            _here.request = self.devsup
        real_run(self)

    handler_class.setup, handler_class.run_wsgi = setup, run_wsgi


def _patch_flask(module):
    callback = module.run_command.callback

    @functools.wraps(callback)
    def run(*args, **kwargs):
        agent.send("intends", host=kwargs.get("host") or "", port=kwargs.get("port") or 0)
        return callback(*args, **kwargs)

    module.run_command.callback = run


class Connection(work.Request):
    """One connection of werkzeug, which is one request: nothing until its first byte."""

    __slots__ = ("connected", "got_bytes", "sock", "upgraded")

    def __init__(self, sock):
        super().__init__("", "a half-sent request", lambda: agent.settings.get("streams", {}))
        self.sock = sock
        self.connected = time.monotonic()
        self.got_bytes = self.upgraded = False

    def first_byte(self):
        """The request begins."""
        if not self.got_bytes:
            self.got_bytes, self.started = True, time.monotonic()

    @property
    def name(self):
        """As the reports show it."""
        return (f"{self.method} {self.path}").strip()

    def busy(self, now):
        """As a request's; a WebSocket over WSGI tells nothing of itself and gets the stream grace."""
        return self.got_bytes and not self.upgraded and super().busy(now)


class _FirstByte(io.RawIOBase):
    """The raw stream of a connection: notes when the first byte arrives."""

    def __init__(self, raw, connection):
        super().__init__()
        self._raw, self._connection = raw, connection

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


def _wrap(app):
    """The WSGI app with its event streams recorded, and ended between two events when they are cut."""

    def devsup(environ, start_response):
        request = getattr(_here, "request", None)
        if request is None:
            return app(environ, start_response)

        def begin(status, headers, exc_info=None):
            request.head = [(key, value) for key, value in headers]
            return start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)

        pieces = app(environ, begin)
        return _Pieces(pieces, request) if request.is_event_stream() else pieces

    return devsup


class _Pieces:
    """A streamed answer that stops at the end of an event once it is cut."""

    def __init__(self, pieces, request):
        self._pieces, self._iterator, self._request = pieces, iter(pieces), request

    def __iter__(self):
        return self

    def __next__(self):
        if self._request.cut and self._request.at_event_end():
            raise StopIteration
        self._request.last = next(self._iterator)
        return self._request.last

    def close(self):
        """PEP 3333: whoever closes us closes the app's."""
        if hasattr(self._pieces, "close"):
            self._pieces.close()


def _routes(app):
    """['GET /path', …] of a Flask app, however it is wrapped; [] for others."""
    for _ in range(10):
        url_map = getattr(app, "url_map", None)
        if url_map is not None:
            return [
                ",".join(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})) + " " + rule.rule for rule in url_map.iter_rules()
            ]
        app = getattr(app, "wsgi_app", None) or getattr(app, "app", None)
    return []
