"""The kernel's table of TCP sockets: who listens, and which connections await an answer.

Linux is asked over netlink (sock_diag), which takes a tenth of a millisecond and no rights; what it tells of a connection is
enough to know a browser's idle keep-alive connection from a request that is being worked on, whatever the server. Elsewhere,
and where netlink is forbidden, psutil is asked about each process; then every established connection counts.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from devsup.system.listener import Address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

MOVED = 0.5  # seconds; a pause between two pieces of an answer is mostly shorter
MOVED_AT_ONCE = 2.0  # seconds; for a connection of which it is not known who spoke last

_ESTABLISHED, _CLOSE_WAIT, _LISTEN, _ALL = 1, 8, 10, 0xFFF
_STATES = (
    "",
    *"established syn_sent syn_recv fin_wait1 fin_wait2 time_wait close close_wait last_ack listen closing new_syn_recv".split(),
)
_BY_FAMILY, _DONE, _ERROR, _DUMP = 20, 3, 2, 0x301  # SOCK_DIAG_BY_FAMILY, NLMSG_DONE, NLMSG_ERROR, NLM_F_REQUEST | NLM_F_DUMP
_NETLINK_SOCK_DIAG, _INFO = 4, 2  # INET_DIAG_INFO: the attribute with a tcp_info
_HEADER = struct.Struct("=IHHII")
_MAPPED = "::ffff:"
_ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, never bound


class Connection(NamedTuple):
    """A connection of a server that is not at rest: the client's address, and seconds since the client's last byte."""

    peer: tuple[str, int]
    age: float


class Row(NamedTuple):
    """One row of the table; `queued` are bytes not read by the program or not acknowledged by the peer."""

    address: Address
    peer: tuple[str, int]
    state: str
    queued: int
    uid: int
    inode: int
    info: bytes


def listeners(pids: Iterable[int]) -> frozenset[Address]:
    """The addresses on which these processes listen."""
    try:
        table = listening()
    except OSError:
        return frozenset(Address(family, *laddr) for family, laddr, _, state in _asked(pids) if state == "LISTEN")
    return frozenset(table[inode] for pid in pids for inode in _sockets(pid) if inode in table)


def listening() -> dict[int, Address]:
    """Every listener of this machine by its inode. Raises OSError where the kernel cannot be asked at once."""
    return {each.inode: each.address for each in _dump(1 << _LISTEN)}


def table() -> list[Row]:
    """Every TCP socket of this machine. Raises OSError where the kernel cannot be asked at once."""
    return list(_dump(_ALL << 1))


def owners(inodes: Collection[int]) -> dict[int, list[int]]:
    """The processes that have these sockets open, as far as this user may see them; Linux only."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir() if inodes else ():
        for inode in _sockets(int(entry.name)) if entry.name.isdigit() else ():
            if inode in inodes:
                found.setdefault(inode, []).append(int(entry.name))
    return found


def awaiting(addresses: Collection[Address], pids: Iterable[int], but: Collection[int] = ()) -> list[Connection]:
    """The connections to these listeners of these processes that are not at rest, but for those from our own ports `but`.

    At rest: the last that happened is that the server sent something, over half a second ago, and the client has it.
    """
    try:
        table = list(_dump(1 << _ESTABLISHED | 1 << _CLOSE_WAIT))
    except OSError:
        ports = {address.port for address in addresses}
        found = [(raddr, 0.0) for _, laddr, raddr, state in _asked(pids) if state == "ESTABLISHED" and laddr[1] in ports]
    else:
        served = [each for each in table if _is_to(each.address, addresses)]
        found = [(each.peer, _info(each).received) for each in served if not _at_rest(each)]
    return [Connection(peer, age) for peer, age in found if peer[1] not in but]


class Knock:
    """One connection to a listener, opened to see whether it is accepted: some servers listen long before they serve."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._sock = socket.socket(address.family, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        self._sock.connect_ex((address.reached_by, address.port))

    def is_taken(self, pids: Iterable[int]) -> bool:
        """Whether one of these processes has it. Where the kernel cannot be asked: whether it is connected."""
        with suppress(OSError):
            with suppress(BlockingIOError):
                self._sock.recv(1, socket.MSG_PEEK)  # it speaks first, or has hung up: somebody is there
                return True
            try:
                ends = (self.address.port, self._sock.getsockname()[1])
                inodes = {row.inode for row in _dump(1 << _ESTABLISHED) if (row.address.port, row.peer[1]) == ends}
            except OSError:
                return bool(self._sock.getpeername())
            return any(inodes.intersection(_sockets(pid)) for pid in pids)
        return False

    def close(self) -> None:
        """An accepted connection on which nothing comes keeps a simple server from all others."""
        self._sock.close()


def _is_to(local: Address, addresses: Collection[Address]) -> bool:
    return any(each.port == local.port and (each.host in _ANY or each.host == local.host) for each in addresses)


class _Info(NamedTuple):
    """From a tcp_info, whose layout only ever grows: seconds since anything was sent and received; bytes that came through."""

    sent: float
    received: float
    bytes_acked: int
    bytes_received: int


def _info(row: Row) -> _Info:
    sent, _, received = struct.unpack_from("=III", row.info, 44)
    return _Info(sent / 1000, received / 1000, *struct.unpack_from("=QQ", row.info, 120))


def _at_rest(row: Row) -> bool:
    info = _info(row)
    if not info.bytes_received:
        return True  # a browser connects ahead of need
    if row.queued or not info.bytes_acked or info.received < info.sent:
        return False
    # Both within one tick of the kernel's clock: a quick answer, or the next request right after one.
    return info.sent > (MOVED if info.sent < info.received else MOVED_AT_ONCE)


def _dump(states: int) -> Iterator[Row]:
    """The table's rows in these states, of both families. Raises OSError where netlink is not to be had."""
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError("no netlink here")
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as asked:
            question = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, states)
            asked.settimeout(1.0)
            asked.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _DUMP, 1, 0) + question)
            yield from _rows(asked)


def _rows(asked: socket.socket) -> Iterator[Row]:
    while True:
        data, start = asked.recv(1 << 18), 0
        while start < len(data):
            length, kind, *_ = _HEADER.unpack_from(data, start)
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError("the kernel does not tell")
            yield _row(data[start + _HEADER.size : start + length])
            start += (length + 3) & ~3


def _row(data: bytes) -> Row:
    """From an inet_diag_msg and its attributes."""
    family = data[0]
    port, peer_port = struct.unpack_from("!HH", data, 4)
    size = 4 if family == socket.AF_INET else 16
    host, peer = (socket.inet_ntop(family, data[at : at + size]).removeprefix(_MAPPED) for at in (8, 24))
    read, written, uid, inode = struct.unpack_from("=IIII", data, 56)
    info, at = b"", 72
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if kind == _INFO:
            info = data[at + 4 : at + length]
        at += max(4, (length + 3) & ~3)
    return Row(Address(family, host, port), (peer, peer_port), _STATES[data[1]], read + written, uid, inode, info)


def _sockets(pid: int) -> Iterator[int]:
    """The inodes of the sockets that a process has open."""
    with suppress(OSError):
        for entry in Path("/proc", str(pid), "fd").iterdir():
            with suppress(OSError):
                kind, _, inode = str(entry.readlink()).partition(":")
                if kind == "socket":
                    yield int(inode.strip("[]"))


def _asked(pids: Iterable[int]) -> Iterator[tuple[int, tuple[str, int], tuple[str, int], str]]:
    """Family, both ends and state of every TCP socket of these processes, from psutil."""
    import psutil  # noqa: PLC0415 - 20 ms, and needed where the kernel cannot be asked

    for pid in pids:
        with suppress(psutil.Error):
            for each in psutil.Process(pid).net_connections("tcp"):
                host, port = each.laddr
                peer, peer_port = each.raddr or ("", 0)
                yield int(each.family), (host, port), (peer, peer_port), each.status
