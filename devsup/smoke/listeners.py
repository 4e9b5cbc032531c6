"""Exactly one listener per port: who else clients of a service could reach, and whether its ports are free after its end."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import psutil

from devsup.decide import addresses
from devsup.guard import Guard
from devsup.system import holder, ports, tcp
from devsup.system.listener import Address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devsup.supervisor import Supervisor


def served(supervisor: Supervisor) -> list[Address]:
    """Where the service listens."""
    return [*supervisor.listeners.kept, *supervisor.foreign.watched]


async def others(supervisor: Supervisor) -> str:
    """Who else listens where clients of the service could come: strangers, and other programs of the service itself."""
    found: dict[int, str] = {}
    for address in served(supervisor):
        for each in await Guard(supervisor).strangers(address):
            found[each.inode] = f"{each.address.where} by {each.describe()}"
        found |= await anyio.to_thread.run_sync(_second, supervisor, address)
    return "; ".join(found.values())


def _second(supervisor: Supervisor, address: Address) -> dict[int, str]:
    """Listeners of other programs of the service's own than the one that has `address`, by inode."""
    handle = supervisor.current.handle
    tree = set(handle.tree.members()) if handle is not None else set()
    near = [each for each in ports.listeners(address.port) if addresses.meet(address.host, each.address.host)]
    own = [(each, pids) for each in near if (pids := each.pids & tree)]  # not devsup, which keeps some of them
    there = [pids for each, pids in own if each.address == address]
    first = next((pids for pids in there if handle is not None and handle.pid in pids), None) or next(iter(there), None)
    if first is None:
        return {}
    server = _programs(first)
    return {
        each.inode: f"{each.address.where} by {_described(pids)}, which the service has started"
        for each, pids in own
        if pids.isdisjoint(first) and server.isdisjoint(_programs(pids))
    }


def _programs(pids: Iterable[int]) -> set[str]:
    """Their command lines but for numbers: a server may have several workers, with a socket each (SO_REUSEPORT)."""
    found = set[str]()
    for pid in pids:
        with suppress(psutil.Error):
            found.add(re.sub(r"\d+", "#", " ".join(psutil.Process(pid).cmdline())))
    return found


def _described(pids: Iterable[int]) -> str:
    with suppress(psutil.Error):
        return holder.describe(holder.known(psutil.Process(min(pids))))
    return "a process that has just ended"


def gone(supervisor: Supervisor | None) -> str:
    """What a server that devsup is not inside of has stopped to listen on; empty where it listens."""
    watched = supervisor.foreign.watched if supervisor is not None else frozenset[Address]()
    with suppress(OSError):  # the kernel does not tell
        missing = watched - set(tcp.listening().values()) if watched else set()
        return ", ".join(f"nobody listens on {address.where}" for address in sorted(missing))
    return ""


def inodes(addresses_served: list[Address]) -> dict[int, int]:
    """Every listener on these ports now: its inode, and the port."""
    numbers = {address.port for address in addresses_served}
    try:
        return {inode: address.port for inode, address in tcp.listening().items() if address.port in numbers}
    except OSError:  # the kernel does not tell; who comes later could not be told from who has stayed
        return {}


def still_held(before: dict[int, int]) -> str:
    """Which of these listeners are still there, and whose they are; empty where none is."""
    left = inodes_left(before)
    found = [each for port in {before[inode] for inode in left} for each in ports.listeners(port) if each.inode in left]
    return "; ".join(f"{each.address.where} is still held by {each.describe()}" for each in found)


def inodes_left(before: dict[int, int]) -> set[int]:
    """Those of these listeners that are still there."""
    try:
        return before.keys() & tcp.listening().keys()
    except OSError:
        return set()
