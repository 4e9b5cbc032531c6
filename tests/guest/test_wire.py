from __future__ import annotations

from devsup.guest.devsup_agent.wire import Decoder, encode


def test_messages_come_out_whole_however_the_bytes_arrive() -> None:
    messages = [{"op": "hello", "pid": 1}, {"op": "files", "paths": ["ä" * 3000, "\n"]}, {"op": "x"}]
    data = b"".join(map(encode, messages))
    for size in (1, 3, 4, 5, 1000, len(data)):
        decoder = Decoder()
        found = [message for at in range(0, len(data), size) for message in decoder.feed(data[at : at + size])]
        assert found == messages
