"""Who listens on a TCP port, and what becomes of its connections."""

from __future__ import annotations

import os
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devsup.system import holder, tcp
from devsup.system.holder import Holder
from devsup.system.listener import Address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psutil

_OF_RECORD = ("pid", "service", "project", "urls", "log")
_MAPPED = "::ffff:"  # an IPv4 address on an IPv6 socket


@dataclass(frozen=True)
class Listener:
    """A listening socket. `pids` have it open; `holders` are those of them that no other of them has started.

    Without any, nobody can be seen. `connections` are counted by state; `user` is the socket's, where the system tells.
    """

    address: Address
    inode: int
    pids: frozenset[int]
    holders: tuple[Holder, ...]
    user: str | None
    connections: dict[str, int]

    def describe(self) -> str:
        """Who has it, in one phrase; what cannot be seen is said, not guessed."""
        if self.holders:
            return " and ".join(map(holder.describe, self.holders))
        if self.user is None:
            return "a process that cannot be seen from here"
        if self.user == holder.user_name(os.geteuid()) or os.geteuid() == 0:
            return f"a process of user {self.user} that cannot be seen from here: it is in a container, or has just ended"
        return f"a process of user {self.user}, which only that user and root can see"


@dataclass(frozen=True)
class Port:
    """All that there is on a port. `connections`, by state, are those that no listener of it has: they take it from nobody."""

    number: int
    listeners: list[Listener]
    connections: dict[str, int]


def listeners(port: int) -> list[Listener]:
    """Every listener on this port, on any address of either family, in the order of the addresses."""
    return look(port).listeners


def look(port: int) -> Port:
    """Who listens on this port, and the states of its connections."""
    try:
        rows = [row for row in tcp.table() if row.address.port == port]
    except OSError:
        return _asked(port)
    listening = [row for row in rows if row.state == "listen"]
    counts = _connections(rows, [row.address for row in listening])
    pids = tcp.owners({row.inode for row in listening})
    found = []
    for row in sorted(listening, key=lambda row: (row.address, row.inode)):
        having = frozenset(pids.get(row.inode, []))
        connections = dict(counts.pop(row.address, {}))
        found.append(Listener(row.address, row.inode, having, tuple(_holders(having)), holder.user_name(row.uid), connections))
    return Port(port, found, dict(sum(counts.values(), Counter())))


def next_free(port: int) -> int | None:
    """The first port above this one on which nobody listens, and which could be bound."""
    try:
        taken = {address.port for address in tcp.listening().values()}
    except OSError:
        taken = set()
    for number in range(port + 1, min(port + 100, 65536)):
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if number not in taken:
                sock.bind(("127.0.0.1", number))
                return number
    return None


def _connections(rows: Iterable[tcp.Row], addresses: Iterable[Address]) -> dict[Address | None, Counter[str]]:
    """The states of connections by the listener that they came to, the nearest; None for those of none."""
    counts: dict[Address | None, Counter[str]] = {}
    order = list(addresses)
    for row in rows:
        if row.state == "listen":
            continue
        mine = [each for each in order if each.host == row.address.host] or [each for each in order if each.is_any]
        counts.setdefault(mine[0] if mine else None, Counter())[row.state] += 1
    return counts


def _holders(pids: Iterable[int]) -> Iterator[Holder]:
    """Those of these processes that none of the others has started: a supervisor would start its workers again."""
    import psutil  # noqa: PLC0415 - 20 ms, and needed only where somebody is in the way

    pids = set(pids)
    for pid in sorted(pids):
        with suppress(psutil.NoSuchProcess):
            process, above = psutil.Process(pid), set[int]()
            with suppress(psutil.AccessDenied):
                above = {each.pid for each in process.parents()}
            if pids.isdisjoint(above):
                found = holder.known(process)
                if found.devsup is None or found.is_supervisor or found.devsup.pid not in pids:
                    yield found


def _asked(port: int) -> Port:
    """From each process that this user may see: where the kernel has no table for everybody."""
    import psutil  # noqa: PLC0415 - as above

    pids: dict[Address, list[int]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            for address, pid in _listening_of(process):
                if address.port == port:
                    pids.setdefault(address, []).append(pid)
    found = [
        Listener(address, 0, frozenset(having), tuple(_holders(having)), None, {}) for address, having in sorted(pids.items())
    ]
    return Port(port, found, {})


def _listening_of(process: psutil.Process) -> Iterator[tuple[Address, int]]:
    import psutil  # noqa: PLC0415 - as above

    for each in process.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr:
            yield Address(int(each.family), each.laddr.ip.removeprefix(_MAPPED), each.laddr.port), process.pid


def as_record(port: Port) -> dict[str, Any]:
    """A port in plain values: `devsup port --json`."""
    return {"port": port.number, "listeners": list(map(_listener, port.listeners)), "connections": port.connections}


def _listener(listener: Listener) -> dict[str, Any]:
    return {
        "address": listener.address.where,
        "url": listener.address.url,
        "user": listener.user,
        "says": listener.describe(),
        "holders": list(map(_holder, listener.holders)),
        "connections": listener.connections,
    }


def _plain(value: Any) -> Any:
    """Safe for a terminal: a record is a file, and may say anything."""
    if isinstance(value, list):
        return [holder.one_line(each) for each in value]
    return holder.one_line(value) if isinstance(value, str) else value


def _holder(found: Holder) -> dict[str, Any]:
    record = found.devsup
    return {
        "pid": found.pid,
        "command": found.command,
        "cwd": found.cwd,
        "user": found.user,
        "since": holder.duration(found.age) if found.age is not None else "",
        "age": found.age,
        "parent": found.parent,
        "devsup": None if record is None else {name: _plain(getattr(record, name)) for name in _OF_RECORD},
    }
