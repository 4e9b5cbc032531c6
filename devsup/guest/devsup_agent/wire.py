"""The link's wire format: four bytes of length, then a JSON object; descriptors travel with the first byte of a message.

Both ends use this file (the supervisor through `system/link.py`), so it stays on the standard library and on Python 3.9.
"""

import array
import json
import os
import socket
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


class Channel:
    """A socket as this end of the guest's uses it: blocking, written by many, read by one."""

    def __init__(self, sock):
        self._socket = sock
        self._decoder, self._fds = Decoder(), []
        self._rest = b""  # of a message that was sent without waiting

    def fileno(self):
        """For poll."""
        return self._socket.fileno()

    def send(self, op, fds=(), **fields):
        """Send one message, with descriptors. Raises OSError when the other end is gone."""
        fields.update(op=op, fds=len(fds))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        data = encode(fields)
        if self._rest:
            rest, self._rest = self._rest, b""
            self._socket.sendall(rest)
        self._socket.sendall(data[self._socket.sendmsg([data], rights) :])

    def offer(self, op, **fields):
        """Send one message if that takes no wait, else drop it. Raises OSError when the other end is gone."""
        fields.update(op=op, fds=0)
        data = self._rest or encode(fields)
        try:
            self._rest = data[self._socket.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return

    def receive(self):
        """The messages that have come, each with its descriptors, which no child inherits; None at the end."""
        try:
            data, rights, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(4 * MAX_FDS))
        except OSError:
            return None
        for _, _, raw in rights:
            arrived = array.array("i")
            arrived.frombytes(raw[: len(raw) - len(raw) % arrived.itemsize])
            for fd in arrived:
                os.set_inheritable(fd, False)
            self._fds.extend(arrived)
        if not data:
            return None
        found = []
        for message in self._decoder.feed(data):
            count = message.get("fds", 0)
            mine, self._fds = self._fds[:count], self._fds[count:]
            found.append((message, mine))
        return found

    def close(self):
        """It is another's."""
        self._socket.close()
