"""The listeners that the supervisor keeps: one per address, handed to each generation, closed when devsup exits."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Address(NamedTuple):
    """A TCP address as the kernel names it."""

    family: int
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = self.reached_by
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def where(self) -> str:
        """Host and port, as people write them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_any(self) -> bool:
        """Whether every address of the machine, of this family at least, is meant."""
        return self.host in {"0.0.0.0", "::"}  # noqa: S104 - not bound

    @property
    def reached_by(self) -> str:
        """The host that a program of this machine connects to."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - not bound


@dataclass
class Kept:
    """A listener, and the generation that serves it (0: none yet). One on any free port has the place that bound it."""

    sock: socket.socket
    backlog: int
    generation: int
    place: str = ""
    secure: bool = False  # served by TLS


@dataclass
class Listeners:
    """All kept listeners of one service, and the addresses that are claimed so that no stranger takes them."""

    kept: dict[Address, Kept] = field(default_factory=dict)
    _claimed: dict[Address, socket.socket] = field(default_factory=dict)

    def keep(self, sock: socket.socket, backlog: int, generation: int, place: str = "") -> tuple[Address, bool]:
        """Hold a listener that a worker opened: its address, and whether it is a new one.

        `place` is the code that bound it to any free port.
        """
        host, port = sock.getsockname()[:2]
        address = Address(int(sock.family), host, port)
        known = self.kept.pop(address, None)
        is_new = known is None or os.fstat(known.sock.fileno()).st_ino != os.fstat(sock.fileno()).st_ino
        if known is not None:
            known.sock.close()
        sock.setblocking(False)
        before = known or Kept(sock, backlog, generation)
        self.kept[address] = Kept(sock, backlog, generation, place or before.place, before.secure)
        self._claim_other_family(address)
        return address, is_new

    def adopt(self, address: Address, generation: int, place: str = "") -> Kept | None:
        """The listener for a worker that binds `address`, or None; of port 0 the one that was bound in this place before."""
        kept = self.kept.get(address) if address.port else self._anywhere(address, generation, place)
        if kept is not None:
            kept.generation, kept.secure = generation, False
        return kept

    def _anywhere(self, wanted: Address, generation: int, place: str) -> Kept | None:
        for address, kept in self.kept.items():
            if address[:2] == wanted[:2] and kept.place == place and kept.generation < generation:
                return kept
        return None

    def ports(self) -> set[int]:
        """The ports that a worker may find kept; 0 stands for any free one."""
        return {address.port for address in self.kept} | {0 for kept in self.kept.values() if kept.place}

    def is_unserved(self, host: str, port: int, generation: int) -> bool:
        """Whether a listener that a client of this address reaches is kept, and not yet adopted by that generation."""
        found = [kept for address, kept in self.kept.items() if address.port == port and address.host in {host, "0.0.0.0", "::"}]  # noqa: S104
        return bool(found) and all(kept.generation < generation for kept in found)

    def release(self, address: Address) -> bool:
        """Let go of an address that was only claimed; False when it was not."""
        claimed = self._claimed.pop(address, None)
        if claimed is not None:
            claimed.close()
        return claimed is not None

    def open(self, host: str, port: int) -> Address | None:
        """Listen on an address that a worker was about to serve when it failed; None where that cannot be."""
        with suppress(OSError):
            family, _, _, _, name = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(name)
                sock.listen(128)
            except OSError:
                sock.close()
                raise
            return self.keep(sock, 128, 0)[0]
        return None

    def close_unserved(self, generation: int) -> list[Address]:
        """Close what the new generation has not adopted (its port changed): its clients would hang for ever."""
        unserved = [address for address, kept in self.kept.items() if kept.generation != generation]
        for address in unserved:
            self.kept.pop(address).sock.close()
            for claim in [claim for claim in self._claimed if claim.port == address.port]:
                self._claimed.pop(claim).close()
        return unserved

    def listen_again(self) -> None:
        """After a worker's exit: undo whatever it did to the shared backlog."""
        for kept in self.kept.values():
            with suppress(OSError):
                kept.sock.listen(kept.backlog)

    def urls(self) -> list[str]:
        """One URL per listener, IPv4 first."""
        return [each.url.replace("http:", "https:") if self.kept[each].secure else each.url for each in sorted(self.kept)]

    def inodes(self) -> set[int]:
        """The kept listeners as the kernel numbers them."""
        return {os.fstat(kept.sock.fileno()).st_ino for kept in self.kept.values()}

    def secure(self, names: Iterable[Sequence[object]]) -> None:
        """On these hosts and ports TLS is spoken."""
        wanted = [tuple(name) for name in names]
        for address, kept in self.kept.items():
            kept.secure = kept.secure or address[1:] in wanted

    def close(self) -> None:
        """Let every address go."""
        for kept in self.kept.values():
            kept.sock.close()
        for sock in self._claimed.values():
            sock.close()
        self.kept.clear()
        self._claimed.clear()

    def _claim_other_family(self, address: Address) -> None:
        """`localhost` has two addresses: bind the one not served, without listening, so that clients are refused there."""
        other = {
            "127.0.0.1": Address(int(socket.AF_INET6), "::1", address.port),
            "::1": Address(int(socket.AF_INET), "127.0.0.1", address.port),
        }.get(address.host)
        if other is None or other in self.kept or other in self._claimed:
            return
        try:
            sock = socket.socket(other.family, socket.SOCK_STREAM)
        except OSError:
            return  # no IPv6 here
        try:
            sock.bind((other.host, other.port))
        except OSError as exc:
            sock.close()
            if exc.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                raise
        else:
            self._claimed[other] = sock
