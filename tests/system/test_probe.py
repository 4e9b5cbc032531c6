from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from devsup.system.listener import Address
from devsup.system.probe import HttpProbe, NotYet, ProbeError, parse


class Server:
    """Answers every request with the next of its texts (the last again and again); counts connections that are open."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.open = list(texts), 0
        self.requests: list[str] = []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.address = Address(int(socket.AF_INET), *self.sock.getsockname())
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        self.open += 1
        with connection:
            while data := connection.recv(65536):
                self.requests.append(data.decode())
                text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
                if not text:
                    break
                connection.sendall(text.replace("OPEN", f"{self.open:4}").encode())
                if "Connection: close" in text:
                    break
        self.open -= 1

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for thread in self._threads:
            thread.join(5)


def answer(body: str, status: str = "200 OK", *fields: str) -> str:
    head = "".join(f"{field}\r\n" for field in fields)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{head}\r\n{body}"


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for each in started:
        each.close()


@pytest.fixture
def probes() -> Iterator[list[HttpProbe]]:
    made: list[HttpProbe] = []
    yield made
    for each in made:
        each.close()


def test_the_lowest_number_is_the_zero_point(servers: list[Server], probes: list[HttpProbe]) -> None:
    servers.append(Server(*(answer(f'{{"stats": [{{"active": {number}}}]}}') for number in (3, 5, 3, 2, 4.5))))
    probes.append(HttpProbe("/stats?now", "stats.0.active"))
    assert [probes[0].ask(servers[0].address) for _ in range(5)] == [0, 2, 0, 0, 3]
    assert servers[0].requests[0].startswith("GET /stats?now HTTP/1.1\r\n")


def test_every_question_comes_alone_on_one_connection(servers: list[Server], probes: list[HttpProbe]) -> None:
    servers.append(Server(answer('{"open": OPEN}')))
    probes.append(HttpProbe("/", "open"))
    assert [probes[0].ask(servers[0].address) for _ in range(3)] == [0, 0, 0]
    assert probes[0].ports
    probes[0].close()
    assert not probes[0].ports


@pytest.mark.parametrize("end", ["Connection: close", "X: y"])
def test_a_server_may_end_the_connection_between_two_questions(end: str, servers: list[Server], probes: list[HttpProbe]) -> None:
    closing = ["" if end == "X: y" else answer("1", "200 OK", end)]
    servers.append(Server(answer('{"a": 1}', "200 OK", end), *closing, answer('{"a": 2}')))
    probes.append(HttpProbe("/", "a"))
    assert probes[0].ask(servers[0].address) == 0
    if end == "X: y":
        assert probes[0].ask(servers[0].address) == 1
    else:
        with pytest.raises(ProbeError):
            probes[0].ask(servers[0].address)


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        (answer("{}", "404 Not Found"), "", "GET /x answered 404"),
        (answer("", "302 Found", "Location: http://elsewhere/"), "a", "GET /x answered 302"),
        (answer("hello"), "a", "GET /x is not JSON"),
        (answer('{"a": 1}'), "b", 'GET /x has no field "b"'),
        (answer('{"a": 1}'), "a.b", 'GET /x has no field "a.b"'),
        (answer('{"a": [1]}'), "a.1", 'GET /x has no field "a.1"'),
        (answer('{"a": true}'), "a", '"a" of GET /x is no number'),
        (answer('{"a": "3"}'), "a", '"a" of GET /x is no number'),
        (answer('{"a": NaN}'), "a", '"a" of GET /x is no number'),
        ("SSH-2.0-server\r\n", "", "GET /x failed: SSH-2.0-server"),
        ("", "", "GET /x failed: Remote end closed connection without response"),
    ],
)
def test_what_does_not_tell(text: str, field: str, problem: str, servers: list[Server], probes: list[HttpProbe]) -> None:
    servers.append(Server(text))
    probes.append(HttpProbe("/x", field))
    with pytest.raises(ProbeError) as caught:
        probes[0].ask(servers[0].address)
    assert str(caught.value).strip() == problem


def test_nobody_there(probes: list[HttpProbe]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = Address(int(socket.AF_INET), *sock.getsockname())
    probes.append(HttpProbe("/"))
    with pytest.raises(ProbeError, match="refused"):
        probes[0].ask(address)


def test_a_status_alone(servers: list[Server], probes: list[HttpProbe]) -> None:
    found = answer("", "302 Found", "Location: /login")
    servers.append(Server(answer("", "503 Service Unavailable"), answer("ok"), found))
    probes.append(HttpProbe("/health"))
    with pytest.raises(NotYet, match="GET /health answered 503"):
        probes[0].ask(servers[0].address)
    assert probes[0].ask(servers[0].address) is None
    assert probes[0].ask(servers[0].address) is None
    assert len(servers[0].requests) == 3


def test_a_server_that_does_not_answer_is_busy(probes: list[HttpProbe]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        probes.append(HttpProbe("/"))
        with pytest.raises(NotYet, match="has no answer"):
            probes[0].ask(Address(int(socket.AF_INET), *sock.getsockname()))


def test_what_a_setting_means() -> None:
    assert parse("tcp") is None
    health, stats = parse("http:/health"), parse("http:/stats?all#server.active")
    assert health is not None
    assert (health.path, health.field) == ("/health", "")
    assert stats is not None
    assert (stats.path, stats.field) == ("/stats?all", "server.active")
