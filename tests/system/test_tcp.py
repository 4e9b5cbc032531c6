from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from devsup.system import tcp
from devsup.system.listener import Address
from harness import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what happened on a connection")
ME = (os.getpid(),)


@pytest.fixture(params=["127.0.0.1", "::1", "::"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A listener of this process; the last also takes IPv4, as Node's does."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        sock = socket.create_server((request.param, 0), family=family, dualstack_ipv6=request.param == "::")
    except (OSError, ValueError) as exc:
        pytest.skip(f"no {request.param} here: {exc}")
    with sock:
        yield sock


@pytest.fixture
def address(listener: socket.socket) -> Address:
    return Address(int(listener.family), *listener.getsockname()[:2])


@pytest.fixture
def ends(listener: socket.socket, address: Address) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and the server's end of its connection."""
    host = "127.0.0.1" if address.host == "::" else address.host
    with socket.create_connection((host, address.port)) as client, listener.accept()[0] as server:
        yield client, server


def busy(address: Address) -> list[int]:
    return [each.peer[1] for each in tcp.awaiting([address], ME)]


def test_a_listener_is_found_by_its_process(listener: socket.socket, address: Address) -> None:
    assert address in tcp.listeners(ME)
    assert address in tcp.listening().values()
    assert address not in tcp.listeners([1])
    listener.close()
    assert address not in tcp.listeners(ME)


def test_a_connection_opened_ahead_of_need_is_at_rest(ends: tuple[socket.socket, socket.socket], address: Address) -> None:
    assert busy(address) == []


def test_a_request_awaits_its_answer_however_long(ends: tuple[socket.socket, socket.socket], address: Address) -> None:
    client, server = ends
    port = client.getsockname()[1]
    client.sendall(b"question")
    wait_until(lambda: busy(address) == [port])
    server.recv(100)
    began = time.monotonic()
    while time.monotonic() - began < tcp.MOVED_AT_ONCE + 0.3:
        assert busy(address) == [port]
    assert tcp.awaiting([address], ME)[0].age >= tcp.MOVED_AT_ONCE
    assert tcp.awaiting([address], ME, but=[port]) == []
    server.sendall(b"answer")
    client.recv(100)
    wait_until(lambda: busy(address) == [], limit=tcp.MOVED + 2)


def test_an_answer_counts_until_the_client_has_it_all(ends: tuple[socket.socket, socket.socket], address: Address) -> None:
    client, server = ends
    client.sendall(b"question")
    server.recv(100)
    server.setblocking(False)
    sent = 0
    try:
        while True:
            sent += server.send(bytes(65536))
    except BlockingIOError:
        pass
    began = time.monotonic()
    while time.monotonic() - began < tcp.MOVED_AT_ONCE + 0.3:
        assert busy(address)
    client.settimeout(1)
    while sent:
        sent -= len(client.recv(1 << 20))
    wait_until(lambda: busy(address) == [], limit=tcp.MOVED_AT_ONCE + 2)


def test_a_second_request_on_the_connection_counts_again(ends: tuple[socket.socket, socket.socket], address: Address) -> None:
    client, server = ends
    client.sendall(b"question")
    server.recv(100)
    server.sendall(b"answer")
    client.recv(100)
    wait_until(lambda: busy(address) == [], limit=tcp.MOVED_AT_ONCE + 2)
    client.sendall(b"question")
    wait_until(lambda: busy(address) == [client.getsockname()[1]], limit=2)


def test_connections_of_other_ports_do_not_count(ends: tuple[socket.socket, socket.socket], address: Address) -> None:
    client, _ = ends
    client.sendall(b"question")
    wait_until(lambda: busy(address))
    with socket.socket(address.family) as kept:  # so that no other test has the port
        kept.bind((address.host, 0))
        assert busy(address._replace(port=kept.getsockname()[1])) == []
    assert busy(Address(int(socket.AF_INET), "127.0.0.9", address.port)) == []


def test_a_knock_is_taken_by_whoever_accepts_it(listener: socket.socket, address: Address) -> None:
    knock = tcp.Knock(address)
    try:
        assert not knock.is_taken(ME)
        with listener.accept()[0]:
            assert knock.is_taken(ME)
            assert not knock.is_taken([1])
        assert knock.is_taken([])  # it was hung up on
    finally:
        knock.close()
    listener.close()
    refused = tcp.Knock(address)
    assert not refused.is_taken(ME)
    refused.close()


def test_without_netlink_every_connection_counts(
    ends: tuple[socket.socket, socket.socket], address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    assert address in tcp.listeners(ME)
    assert busy(address) == [ends[0].getsockname()[1]]
    with pytest.raises(OSError, match="netlink"):
        tcp.listening()
