from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from devsup.system.listener import Address, Listeners


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    found = Listeners()
    yield found
    found.close()


def listening(host: str = "127.0.0.1", family: int = socket.AF_INET) -> socket.socket:
    """A listener on a free port."""
    sock = socket.socket(family)
    sock.bind((host, 0))
    sock.listen(8)
    return sock


def test_the_next_generation_gets_the_kept_listener(listeners: Listeners) -> None:
    sock = listening()
    address, _ = listeners.keep(sock, 8, 1)
    kept = listeners.adopt(address, 2)
    assert kept is not None
    assert kept.sock is sock
    assert not kept.sock.getblocking()
    assert listeners.adopt(Address(address.family, address.host, address.port + 1), 2) is None


def test_a_listener_that_nobody_serves_any_more_is_closed(listeners: Listeners) -> None:
    first, second = listeners.keep(listening(), 8, 1)[0], listeners.keep(listening(), 8, 1)[0]
    listeners.adopt(second, 2)
    assert listeners.close_unserved(2) == [first]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((first.host, first.port), timeout=5)
    socket.create_connection((second.host, second.port), timeout=5).close()


def test_the_other_family_of_localhost_is_claimed_and_refuses(listeners: Listeners) -> None:
    address, _ = listeners.keep(listening(), 8, 1)
    other = Address(int(socket.AF_INET6), "::1", address.port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", address.port), timeout=5)
    with socket.socket(socket.AF_INET6) as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            stranger.bind(("::1", address.port))
    assert listeners.release(other)
    assert not listeners.release(other)
    with socket.socket(socket.AF_INET6) as own:
        own.bind(("::1", address.port))


def test_all_interfaces_show_as_an_address_that_can_be_opened() -> None:
    assert Address(int(socket.AF_INET), "0.0.0.0", 80).url == "http://127.0.0.1:80"
    assert Address(int(socket.AF_INET6), "::", 80).url == "http://[::1]:80"


def test_a_failed_start_still_gets_its_address(listeners: Listeners, port: int) -> None:
    address = listeners.open("127.0.0.1", port)
    assert address is not None
    assert listeners.urls() == [f"http://127.0.0.1:{port}"]
    with listening() as taken:
        assert listeners.open("127.0.0.1", taken.getsockname()[1]) is None
