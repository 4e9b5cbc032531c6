"""The link's wire format: four bytes of length, then a JSON object; descriptors travel with the first byte of a message.

Both ends use this file (the supervisor through `system/link.py`), so it stays on the standard library and on Python 3.9.
"""

import json
import struct

MAX_FDS = 64
_LENGTH = struct.Struct("!I")


def encode(message):
    """One message as bytes."""
    body = json.dumps(message).encode("utf-8")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Bytes in, messages out; keeps what is not whole yet."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        """The messages that `data` completes, in order."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            messages.append(json.loads(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return messages
