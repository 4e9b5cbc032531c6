"""The wrapper around a WSGI app is not to be seen by its server, nor by the app."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# It is called as programs call it: without types.
wsgi: Any = importlib.import_module("devsup_agent.active.wsgi")


class Drain:
    """Counts the requests."""

    def __init__(self) -> None:
        self.running = 0

    def begin(self, record: Any) -> Any:
        """One begins."""
        self.running += 1
        return record

    def end(self, _record: Any) -> None:
        """One ends."""
        self.running -= 1


def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
    """The server's."""
    return SENT.append


SENT: list[bytes] = []
Made = tuple[Any, Drain]


def called(app: Callable[..., Any], **environ: Any) -> Made:
    """What the wrapped app returns to its server."""
    drain = Drain()
    return wsgi.wrap(app, drain)({"REQUEST_METHOD": "GET", "PATH_INFO": "/", **environ}, start), drain


class Closing:
    """Pieces that want to be closed."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces, self.closed = pieces, 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def close(self) -> None:
        """Once."""
        self.closed += 1


class Sized(Closing):
    """Pieces that can be counted."""

    def __len__(self) -> int:
        return len(self.pieces)


class ClosingList(list[bytes]):
    """A list that wants to be closed."""

    closed = 0

    def close(self) -> None:
        """Once."""
        self.closed += 1


@pytest.mark.parametrize("pieces", [[b"a"], (b"a", b"b"), []])
def test_a_list_keeps_its_length(pieces: Any) -> None:
    answer, drain = called(lambda _environ, _start: pieces)
    assert (len(answer), list(answer)) == (len(pieces), list(pieces))
    assert drain.running == 1
    answer.close()
    assert drain.running == 0


@pytest.mark.parametrize("pieces", [Closing([b"a", b"b"]), Sized([b"a"]), ClosingList([b"a"])], ids=["pieces", "sized", "list"])
def test_pieces_are_closed_once_and_keep_their_length(pieces: Any) -> None:
    answer, drain = called(lambda _environ, _start: pieces)
    assert hasattr(answer, "__len__") == hasattr(pieces, "__len__")
    if hasattr(pieces, "__len__"):
        assert len(answer) == len(pieces)
    assert list(answer) == list(pieces)
    assert drain.running == 1
    answer.close()
    assert (pieces.closed, drain.running) == (1, 0)


def test_a_generator_is_closed_where_it_stands() -> None:
    left = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            left.append(True)

    answer, drain = called(lambda _environ, _start: pieces())
    assert next(iter(answer)) == b"a"
    answer.close()
    assert (left, drain.running) == ([True], 0)


def test_an_error_passes_through() -> None:
    def app(_environ: Any, _start: Any) -> Any:
        raise LookupError

    drain = Drain()
    with pytest.raises(LookupError):
        wsgi.wrap(app, drain)({}, start)
    assert drain.running == 0


def test_an_app_that_returns_nothing_leaves_nothing() -> None:
    drain = Drain()
    with pytest.raises(TypeError, match="iterable"):
        wsgi.wrap(lambda _environ, _start: None, drain)({}, start)
    assert drain.running == 0


def test_headers_that_are_none_are_the_server_s_business() -> None:
    sent, drain = [], Drain()

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", None)])
        return [b"x"]

    assert list(wsgi.wrap(app, drain)({}, lambda *words: sent.append(words))) == [b"x"]
    assert sent == [("200 OK", [("Content-Type", None)])]


def test_an_error_on_the_way_ends_the_request_with_close() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise LookupError

    answer, drain = called(lambda _environ, _start: pieces())
    assert next(answer) == b"a"
    with pytest.raises(LookupError):
        next(answer)
    answer.close()
    assert drain.running == 0


def test_the_server_s_file_wrapper_reaches_it_as_it_is() -> None:
    class FileWrapper(Closing):
        filelike = object()

    wrapper = FileWrapper([b"a"])
    answer, drain = called(lambda _environ, _start: wrapper)
    assert answer is wrapper
    assert drain.running == 0


def test_write_and_exc_info_are_the_server_s() -> None:
    given: list[Any] = []

    def server(*args: Any) -> Callable[[bytes], None]:
        given.append(args)
        return SENT.append

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        assert write == SENT.append
        start_response("500 Oh", [], ("kind", "value", "trace"))
        return []

    wsgi.wrap(app, Drain())({}, server)
    assert given == [("200 OK", []), ("500 Oh", [], ("kind", "value", "trace"))]


def test_a_stream_whose_app_is_a_generator_stops_between_two_events() -> None:
    records = []

    class Kept(Drain):
        def begin(self, record: Any) -> Any:
            records.append(record)
            return super().begin(record)

    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        while True:
            yield b"data: x"
            yield b"\n\n"

    answer = wsgi.wrap(app, Kept())({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, start)
    assert next(answer) == b"data: x"
    records[0].cut = True
    assert list(answer) == [b"\n\n"]
