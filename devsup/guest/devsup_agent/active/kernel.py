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
    """Whether data came last on a connection, its end being none, or its client takes too slowly what was sent."""
    if _is_unread(sock):
        return True
    info = _info(sock)
    if info is None:
        return False
    (unacked,), (sent,), (received,), (unsent,) = (struct.unpack_from("I", info, at) for at in (24, 44, 52, 144))
    acked, total = struct.unpack_from("QQ", info, 120)
    if unsent:  # not "not acknowledged": a client that is about to ask again delays that
        return True
    return info[0] == _ESTABLISHED and total > 0 and ((not acked and not unacked) or received < sent)


def answered_within(sock, seconds):
    """Whether data was sent on a connection this lately, and none of it waits for its client."""
    info = _info(sock)
    if info is None:
        return False
    (sent,), (unsent,) = (struct.unpack_from("I", info, at) for at in (44, 144))
    return sent < seconds * 1000 and not unsent


def heard_within(transport, seconds):
    """Whether bytes have come on a connection this lately, or wait to be read; of a transport that tells its socket."""
    try:
        fd = os.dup(transport.get_extra_info("socket").fileno())
    except (OSError, AttributeError):
        return False
    with contextlib.closing(socket.socket(fileno=fd)) as sock:
        info = _info(sock)
        return _is_unread(sock) or (info is not None and struct.unpack_from("I", info, 52)[0] < seconds * 1000)


def shut(sock, how):
    """Let nothing more be read of a connection (SHUT_RD), as if its client had left, or written either (SHUT_RDWR)."""
    with contextlib.suppress(OSError, ValueError), contextlib.closing(socket.socket(fileno=os.dup(sock.fileno()))) as same:
        same.shutdown(how)


def _is_unread(sock):
    """Whether bytes have come that the program has not read."""
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
    return info if len(info) >= 148 else None
