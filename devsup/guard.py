"""One listener per port: who is in the way before the start, and who comes to listen beside us later."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.decide import addresses
from devsup.errors import DevsupError
from devsup.system import ports, tcp

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from devsup.supervisor import Supervisor
    from devsup.system.holder import Holder
    from devsup.system.listener import Address
    from devsup.system.ports import Listener

INTERVAL = 1.5  # seconds between two looks at the kernel's table, each a tenth of a millisecond


class TakenError(DevsupError):
    """Somebody listens where the service is going to. `is_copy`: it is all an older copy of this very command."""

    def __init__(self, address: tuple[str, int], found: Sequence[Listener], command: Sequence[str], cwd: str) -> None:
        self.address, self.listeners = address, found
        self.holders = list({holder.pid: holder for each in found for holder in each.holders}.values())
        self.is_copy = bool(found) and all(
            each.holders and all(is_copy(holder, command, cwd) for holder in each.holders) for each in found
        )
        super().__init__(_told(address[1], found, copy=self.is_copy), _remedy(address[1], found))


def check(command: Sequence[str], environ: Mapping[str, str], cwd: str, also: Sequence[int] = (), patience: float = 0.0) -> None:
    """Raises TakenError where somebody listens on an address that this command is sure to serve, or beside it.

    `also` are ports that the config names. Who has just been ended has `patience` seconds.
    """
    ends = time.monotonic() + patience
    known = addresses.intended(command, environ)
    named = [("127.0.0.1", port) for port in also if port not in {each for _, each in known}]
    for host, port in [*known, *named]:
        with suppress(OSError):
            while (beside := _beside(host, port, tcp.listening())) and time.monotonic() < ends:
                time.sleep(0.01)  # noqa: TID251 - nothing else runs yet
            if not beside:
                continue
        found = [each for each in ports.listeners(port) if addresses.meet(host, each.address.host)]
        if found:
            raise TakenError((host, port), found, command, cwd)


def is_copy(holder: Holder, command: Sequence[str], cwd: str) -> bool:
    """Whether a process runs this very command, in this folder: itself, or under a devsup."""
    if holder.devsup is not None:
        return addresses.same_command(holder.devsup.command, command, cwd) and holder.devsup.cwd == cwd
    return addresses.same_command(holder.words, command, cwd) and holder.cwd == cwd


def _beside(host: str, port: int, table: Mapping[int, Address], own: Collection[int] = ()) -> set[int]:
    """The listeners that a client of this address could reach, but for `own`, by inode."""
    return {inode for inode, each in table.items() if each.port == port and inode not in own and addresses.meet(host, each.host)}


def _told(number: int, found: Sequence[Listener], *, copy: bool) -> str:
    if not found:
        return f"Port {number} is taken by a socket that does not listen, or cannot be seen from here."
    parts = [f"{each.address.where} by {each.describe()}" for each in found]
    return f"Port {number} is taken: {'; '.join(parts)}.{' It is an older copy of this very command.' if copy else ''}"


def _remedy(number: int, found: Sequence[Listener]) -> str:
    free = ports.next_free(number)
    another = f"take the next free port, {free}" if free is not None else "choose another port"
    if not any(each.holders for each in found):
        return f"Stop it where it runs, or {another}."
    return f'Use what runs there ({found[0].address.url}), end it with "devsup port {number} --free", or {another}.'


class Guard:
    """Knows, while the service runs, who listens where its clients could come instead."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._seen: dict[int, events.SecondListener | None] = {}  # by inode; None: one of ours

    async def run(self) -> None:
        """Look now and then, for as long as the service runs."""
        while True:
            await anyio.sleep(INTERVAL)
            try:
                await self._look()
            except OSError:
                continue  # the kernel does not tell
            except Exception as exc:  # noqa: BLE001 - the guard is no reason to end what it guards
                self._supervisor.bus.publish(events.Trouble(text=f"the guard does not see who listens: {exc!r}"))
                return

    async def strangers(self, address: Address) -> list[Listener]:
        """Who listens there who is no process of ours: such that a client of this address could reach him."""
        own = self._supervisor.listeners.inodes()
        with suppress(OSError):
            if not _beside(address.host, address.port, tcp.listening(), own):
                return []
        trees = [worker.handle.tree for worker in self._supervisor.workers.values() if worker.handle is not None]

        def identify() -> list[Listener]:
            ours = {os.getpid(), *(pid for tree in trees for pid in tree.members())}
            found = [each for each in ports.listeners(address.port) if addresses.meet(address.host, each.address.host)]
            return [each for each in found if each.inode not in own and not ours & each.pids]

        return await anyio.to_thread.run_sync(identify)

    async def taken(self, address: Address) -> TakenError | None:
        """Why a bind of this address has failed, or what a client of it could reach instead; None when it is ours."""
        found = await self.strangers(address)
        if not found and any(each.port == address.port for each in self._supervisor.listeners.kept):
            return None
        plan = self._supervisor.plan
        return await anyio.to_thread.run_sync(lambda: TakenError((address.host, address.port), found, plan.command, plan.cwd))

    async def _look(self) -> None:
        listeners = self._supervisor.listeners
        served, table = [*listeners.kept, *self._supervisor.foreign.watched], tcp.listening()
        beside = {each: _beside(each.host, each.port, table, listeners.inodes()) for each in served}
        for gone in self._seen.keys() - set().union(*beside.values()):
            event = self._seen.pop(gone)
            if event is not None:
                self._supervisor.bus.publish(events.SecondListenerGone(url=event.url, where=event.where, pid=event.pid))
        for address, inodes in beside.items():
            new = inodes - self._seen.keys()
            if new:
                strangers = {each.inode: each for each in await self.strangers(address)}
                self._seen.update(dict.fromkeys(new & table.keys()))
                for inode in new & strangers.keys():
                    self._seen[inode] = self._report(address, strangers[inode])

    def _report(self, served: Address, found: Listener) -> events.SecondListener:
        pid = found.holders[0].pid if found.holders else None
        event = events.SecondListener(url=served.url, where=found.address.where, pid=pid, holder=found.describe())
        self._supervisor.bus.publish(event)
        return event
