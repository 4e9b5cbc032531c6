"""What the kernel tells of real connections."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from harness import wait_until

# It is called as programs call it: without types.
kernel: Any = importlib.import_module("devsup_agent.active.kernel")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """(the client's end, the server's end) of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            yield client, server


class Transport:
    """As much of one as is asked."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def get_extra_info(self, name: str) -> Any:
        """Its socket."""
        return self._sock if name == "socket" else None


def arrives(pair: Pair, data: bytes) -> None:
    """The client sends, and it has reached the server's kernel."""
    client, server = pair
    client.sendall(data)
    wait_until(lambda: server.recv(65536, socket.MSG_PEEK).endswith(data))


def answers(pair: Pair, data: bytes = b"answer") -> None:
    """The server has answered, and the client has it."""
    client, server = pair
    server.sendall(data)
    assert client.recv(65536) == data


def test_a_fresh_connection_waits_for_nothing(pair: Pair) -> None:
    assert not kernel.awaits_answer(pair[1])


def test_unread_bytes_wait(pair: Pair) -> None:
    arrives(pair, b"GET /")
    assert kernel.awaits_answer(pair[1])


def test_a_request_that_was_read_waits_until_it_is_answered(pair: Pair) -> None:
    arrives(pair, b"GET /")
    pair[1].recv(100)
    assert kernel.awaits_answer(pair[1])
    answers(pair)
    wait_until(lambda: not kernel.awaits_answer(pair[1]))


def test_the_next_request_waits_again(pair: Pair) -> None:
    arrives(pair, b"one")
    pair[1].recv(100)
    answers(pair)
    arrives(pair, b"two")
    assert kernel.awaits_answer(pair[1])


def test_an_answer_that_the_client_does_not_take_is_waited_for(pair: Pair) -> None:
    client, server = pair
    arrives(pair, b"GET /")
    server.recv(100)
    server.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += server.send(b"x" * 65536)
    assert kernel.awaits_answer(server)
    while sent:
        sent -= len(client.recv(65536))
    wait_until(lambda: not kernel.awaits_answer(server))


@pytest.mark.parametrize("asked", [False, True])
def test_a_connection_that_its_client_has_closed_waits_for_nothing(pair: Pair, asked: bool) -> None:
    client, server = pair
    if asked:
        arrives(pair, b"GET /")
        server.recv(100)
    client.close()
    assert server.recv(100) == b""
    assert not kernel.awaits_answer(server)


def test_a_client_that_says_no_more_has_still_asked(pair: Pair) -> None:
    client, server = pair
    arrives(pair, b"GET /")
    client.shutdown(socket.SHUT_WR)
    assert kernel.awaits_answer(server)


def test_a_closed_socket_waits_for_nothing(pair: Pair) -> None:
    arrives(pair, b"GET /")
    pair[1].close()
    assert not kernel.awaits_answer(pair[1])


def test_another_kind_of_socket_waits_for_nothing_but_what_is_unread() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not kernel.awaits_answer(other)
        one.sendall(b"x")
        assert kernel.awaits_answer(other)
        other.recv(10)
        assert not kernel.awaits_answer(other)


def test_heard_within(pair: Pair) -> None:
    transport = Transport(pair[1])
    arrives(pair, b"x")
    assert kernel.heard_within(transport, 0.0)  # unread
    pair[1].recv(10)
    assert kernel.heard_within(transport, 60.0)
    wait_until(lambda: not kernel.heard_within(transport, 0.02))
    pair[1].close()
    assert not kernel.heard_within(transport, 60.0)
    assert not kernel.heard_within(Transport(None), 60.0)


def test_what_was_answered_since(pair: Pair) -> None:
    client, server = pair
    wait_until(lambda: not kernel.answered_within(server, 0.02))
    answers(pair)
    arrives(pair, b"the next")
    assert kernel.answered_within(server, 60.0)
    assert kernel.awaits_answer(server)
    wait_until(lambda: not kernel.answered_within(server, 0.02))
    client.close()
    assert not kernel.answered_within(None, 60.0)


def test_nothing_is_read_of_a_connection_that_was_shut_but_it_is_still_answered(pair: Pair) -> None:
    client, server = pair
    kernel.shut(server, socket.SHUT_RD)
    assert server.recv(10) == b""
    server.sendall(b"last words")
    assert client.recv(100) == b"last words"
