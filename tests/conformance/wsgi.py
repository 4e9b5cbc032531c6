"""A WSGI app that uses all that PEP 3333 allows, and a Flask app; they are copied into a project and served."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import part  # type: ignore[import-not-found] # it stands beside this file once that is copied
from flask import Flask, Response, abort, redirect, request, session, stream_with_context

SEEN = Path(os.environ["SEEN"])
TEXT = [("Content-Type", "text/plain")]
Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]

flask = Flask(__name__)
flask.secret_key = "not so secret"


def saw(name: str, what: object) -> None:
    """Tell the test what only the app can see: appended to a file beside the project."""
    with (SEEN / name).open("a") as file:
        file.write(json.dumps(what) + "\n")


def released() -> None:
    """Wait until the test lets go."""
    saw("held", os.getpid())
    while not (SEEN / "release").exists():
        time.sleep(0.005)


def body_of(environ: Environ) -> bytes:
    if environ.get("wsgi.input_terminated"):
        return bytes(environ["wsgi.input"].read())
    return bytes(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    body = body_of(environ)
    start("200 OK", [*TEXT, ("X-Version", part.NAME)])
    keys = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL")
    return [json.dumps([environ.get(key) for key in keys] + [body.decode("latin-1")[:100], len(body)]).encode()]


def environ(environ: Environ, start: Start) -> Iterable[bytes]:
    """All of it but what the process was started with: other variables, and the objects by type."""
    start("200 OK", TEXT)
    shown = {
        key: value if isinstance(value, (str, int, bool, tuple, type(None))) else kind(value)
        for key, value in environ.items()
        if key not in os.environ
    }
    return [json.dumps(shown, indent=1).encode()]


def kind(value: object) -> str:
    """What it is; a class of devsup's counts as the one that it extends."""
    return next(each.__qualname__ for each in type(value).__mro__ if not each.__module__.startswith("devsup"))


class Pieces:
    """An iterable with a close(), which servers must call."""

    def __init__(self, name: str, fails: bool) -> None:
        self._name, self._fails = name, fails

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        yield b""
        if self._fails:
            raise ValueError("on purpose")
        yield b"two" * 1000

    def close(self) -> None:
        saw(self._name, "closed")


def pieces(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return Pieces("closed", "fails" in environ["QUERY_STRING"])


def write(environ: Environ, start: Start) -> Iterable[bytes]:
    """The callable that start_response returns."""
    say = start("200 OK", TEXT)
    say(b"written, ")
    return [b"returned"]


def events(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/event-stream")])
    for number in range(4):
        time.sleep(0.002)
        yield f"data: {number}\n\n".encode()


def big(environ: Environ, start: Start) -> Iterable[bytes]:
    body = b"0123456789abcdef" * 150_000
    start("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def nothing(environ: Environ, start: Start) -> Iterable[bytes]:
    start(environ["QUERY_STRING"].split("&")[0] + " Whatever", [("X-Empty", "yes")])
    return []


def headers(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 Fine", [("Set-Cookie", "a=1"), ("X-B", "\xe9"), ("Set-Cookie", "b=2"), ("X-A", ""), ("Content-Length", "2")])
    return iter([b"ok"])


def file(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    wrapper = environ.get("wsgi.file_wrapper")
    found = io.BytesIO(b"from a file" * 1000)
    return wrapper(found) if wrapper else [found.read()]


def raises(environ: Environ, start: Start) -> Iterable[bytes]:
    kind = environ["QUERY_STRING"]
    if kind == "replaced":
        start("200 OK", TEXT)
        try:
            raise ValueError("on purpose")  # noqa: TRY301 - its traceback is handed over
        except ValueError:
            start("503 Replaced", TEXT, sys.exc_info())
            return [b"replaced"]
    if kind == "started":
        start("200 OK", TEXT)
    if kind == "twice":
        start("200 OK", TEXT)
        start("200 OK", TEXT)
    if kind == "unstarted":
        return [b"no start"]
    raise ValueError("on purpose")


PATHS = {f"/{each.__name__}": each for each in (echo, environ, pieces, write, events, big, nothing, headers, file, raises)}


inner = flask.wsgi_app


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    if "hold" in environ["QUERY_STRING"]:
        released()
    found = PATHS.get(environ["PATH_INFO"], inner)
    return found(environ, start)


flask.wsgi_app = app  # type: ignore[method-assign,assignment] # how Flask's users put a middleware in

# -- Flask's own parts ------------------------------------------------------------------------------------------------


@flask.route("/flask/echo", methods=["GET", "POST", "PUT"])
def flask_echo() -> dict[str, object]:
    return {
        "args": request.args.to_dict(),
        "form": request.form.to_dict(),
        "length": len(request.get_data()),
        "url": request.path,
    }


@flask.get("/flask/stream")
def flask_stream() -> Response:
    return Response(stream_with_context(f"{number}\n" for number in range(5)), mimetype="text/plain")


@flask.get("/flask/session")
def flask_session() -> str:
    session["count"] = session.get("count", 0) + 1
    return str(session["count"])


@flask.get("/flask/moved")
def flask_moved() -> Any:
    return redirect("/flask/echo")


@flask.get("/flask/teapot")
def flask_teapot() -> str:
    abort(418)


@flask.get("/flask/broken")
def flask_broken() -> str:
    raise RuntimeError("on purpose")


@flask.teardown_request
def torn_down(exc: BaseException | None) -> None:
    saw("torn_down", repr(exc))
