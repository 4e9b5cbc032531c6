"""The wrapper around a WSGI app: a record of each request, event streams that can be ended between two events."""

import threading

from devsup_agent import guard
from devsup_agent.active import failures, work

here = threading.local()  # .request: the record that this thread works on, where the server keeps it


class Request(work.Request):
    """One request to a WSGI app, from the call of the app until its answer is closed."""

    __slots__ = ()

    def __init__(self, environ):
        super().__init__(environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", ""))
        port = environ.get("REMOTE_PORT", "")
        self.peer = (environ.get("REMOTE_ADDR"), int(port)) if str(port).isdigit() else None

    def may_end(self, now, grace_over):
        """Whether a closed gate may end it: it ends by itself, at the next event's end."""
        return self.is_endless(now)


def wrap(app, drain):
    """The app that the server is to call instead of `app`."""

    def devsup(environ, start_response):
        request = getattr(here, "request", None)
        over = None
        if request is None:
            request = drain.begin(Request(environ))

            def over():
                drain.end(request)

        def begin(status, headers, exc_info=None):
            with guard("the headers of an answer"):
                params = getattr(environ.get("werkzeug.request"), "view_args", None)
                request.answers([(key, value) for key, value in headers], params)
            return start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)

        try:
            return _watched(app(environ, begin), request, over)
        except BaseException as exc:
            if isinstance(exc, Exception):
                failures.of_record(request, exc)
            if over is not None:
                over()
            raise

    devsup.app = app  # type: ignore[attr-defined] # how the routes are found
    return devsup


def _watched(pieces, request, over):
    if isinstance(pieces, (list, tuple)) and not hasattr(pieces, "close"):
        return _Whole(pieces, over) if over is not None else pieces
    if hasattr(pieces, "filelike"):  # the server's own file wrapper, which it sends in its own way
        if over is not None:
            over()
        return pieces
    return (_Sized if hasattr(pieces, "__len__") else _Pieces)(pieces, request, over)


class _Whole(list):
    """An answer in a list: servers ask for its length."""

    def __init__(self, pieces, over):
        super().__init__(pieces)
        self.close = over


class _Pieces:
    """An answer in pieces; a stream stops between two events once it is cut."""

    def __init__(self, pieces, request, over):
        self._pieces, self._iterator, self._request, self._over = pieces, iter(pieces), request, over

    def __iter__(self):
        return self

    def __next__(self):
        if self._request.cut and self._request.is_whole():
            raise StopIteration
        try:
            piece = next(self._iterator)
        except StopIteration:
            self._request.ended()
            raise
        self._request.wrote(piece)
        return piece

    def close(self):
        """PEP 3333: whoever closes us closes the app's."""
        try:
            if hasattr(self._pieces, "close"):
                self._pieces.close()
        finally:
            if self._over is not None:
                self._over()


class _Sized(_Pieces):
    """An answer of which the app tells the number of pieces: of one piece servers know the length."""

    def __len__(self):
        return len(self._pieces)


def routes(app):
    """['GET /path', …] of a Flask app, however it is wrapped; [] for others."""
    for _ in range(10):
        url_map = getattr(app, "url_map", None)
        if url_map is not None:
            return [
                ",".join(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})) + " " + rule.rule for rule in url_map.iter_rules()
            ]
        app = getattr(app, "wsgi_app", None) or getattr(app, "app", None)
    return []
