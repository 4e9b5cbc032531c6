from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from devsup.guest.devsup_agent.wire import Channel, Decoder, encode


def test_messages_come_out_whole_however_the_bytes_arrive() -> None:
    messages = [{"op": "hello", "pid": 1}, {"op": "files", "paths": ["ä" * 3000, "\n"]}, {"op": "x"}]
    data = b"".join(map(encode, messages))
    for size in (1, 3, 4, 5, 1000, len(data)):
        decoder = Decoder()
        found = [message for at in range(0, len(data), size) for message in decoder.feed(data[at : at + size])]
        assert found == messages


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, its = socket.socketpair()
    with ours, its:
        yield ours, its


def drained(sock: socket.socket, decoder: Decoder) -> list[int]:
    """The numbers of the messages that are there."""
    found = []
    sock.setblocking(False)
    try:
        while True:
            found += [message["number"] for message in decoder.feed(sock.recv(65536))]
    except BlockingIOError:
        return found


def test_what_is_offered_to_who_does_not_read_is_dropped_and_nobody_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, its = ends
    channel, decoder = Channel(ours), Decoder()
    for number in range(10_000):
        channel.offer("beat", number=number, text="x" * 1000)
    first = drained(its, decoder)
    assert 0 < len(first) < 10_000
    assert first == list(range(len(first)))
    channel.send("last", number=-1)
    rest = drained(its, decoder)
    assert rest[-1] == -1, "what was sent in part is sent whole before the next message"
    assert len(rest) <= 2


def test_what_is_offered_to_who_reads_comes(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, its = ends
    channel, decoder = Channel(ours), Decoder()
    for number in range(100):
        channel.offer("beat", number=number)
        assert drained(its, decoder) == [number]
