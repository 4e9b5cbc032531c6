"""What the kernel tells of a TCP connection: whether bytes wait to be read, and who was the last to send (Linux alone)."""

import contextlib
import fcntl
import os
import socket
import struct
import termios

_TCP_INFO = getattr(socket, "TCP_INFO", None)
_ESTABLISHED = 1


def awaits_answer(sock):
    """Whether the last thing that happened on a connection is that data came; its end is none."""
    if _has_unread(sock):
        return True
    info = _info(sock)
    if info is None:
        return False
    (unacked,), (sent,), (received,) = (struct.unpack_from("I", info, at) for at in (24, 44, 52))
    acked, total = struct.unpack_from("QQ", info, 120)
    return info[0] == _ESTABLISHED and total > 0 and ((not acked and not unacked) or received < sent)


def heard_within(transport, seconds):
    """Whether bytes have come on a connection this lately, or wait to be read; of a transport that tells its socket."""
    try:
        fd = os.dup(transport.get_extra_info("socket").fileno())
    except (OSError, AttributeError):
        return False
    with contextlib.closing(socket.socket(fileno=fd)) as sock:
        info = _info(sock)
        return _has_unread(sock) or (info is not None and struct.unpack_from("I", info, 52)[0] < seconds * 1000)


def _has_unread(sock):
    try:
        # Not a look by recv: that would wait as long as the socket's own time-out says.
        return fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0" * 4) != b"\0" * 4
    except (OSError, ValueError, AttributeError):  # closed
        return False


def _info(sock):
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 192)
    except (OSError, TypeError, AttributeError):  # closed, or another system
        return None
    return info if len(info) >= 136 else None
