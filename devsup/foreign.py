"""A worker in which no agent serves (Node, Rust, Go, `python -I`): recognised by what happens, watched and asked from outside.

Its listener belongs to its own processes alone: the port is watched, not kept, and clients are refused between two workers. It
has no gate either: a reload waits for a moment in which nothing is active, and new work goes on being let in until then.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.system import ports, probe, tcp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devsup.current import Current
    from devsup.supervisor import Supervisor
    from devsup.system.listener import Address
    from devsup.system.tree import Tree
    from devsup.system.worker import WorkerHandle

_LOOK, _LATER_LOOK = 0.1, 1.0  # seconds between two looks, in the first _LONG and after
_STEADY = 0.2  # seconds without a change in what it listens on; a server with an agent says `ready` well before
_SLOW = 1.0  # as _STEADY, where there is an agent which may still say so, or where not all listen that did before
_ACCEPT = 0.02  # seconds that a server at rest takes to accept
_LONG = 10.0  # seconds after which a program that listens nowhere is taken for one that never will
_RUNS = 2.0  # as _LONG, of a service whose config and command name no port
_POLL = 0.1  # seconds between two questions while a reload waits
_PATIENCE = 2.0  # seconds that a reload waits for connections: only the server itself could tell what they are about
_NO_SOURCE = {"", ".json", ".lock", ".log", ".md", ".toml", ".txt", ".yaml", ".yml"}


class Foreign:
    """What is done for the workers of a service that has no agent to speak for it."""

    def __init__(self, supervisor: Supervisor, asked: str) -> None:
        self._supervisor, self._asked = supervisor, asked
        self._probe = probe.parse(asked)
        self.watched: frozenset[Address] = frozenset()  # what the last foreign worker listened on
        self._served: Sequence[Address] = ()  # what the current worker is asked on
        self._tree: Tree | None = None
        self._knock: tcp.Knock | None = None
        self._lock = anyio.Lock()
        self._waits_since: float | None = None  # monotonic
        self._told: set[str] = set()

    # -- ready ----------------------------------------------------------------------------------------------------------

    async def recognise(self, current: Current) -> None:
        """See that a worker serves, where no agent says so. Looks until then, and never again."""
        if current.handle is None:
            return
        self._served, self._tree = (), current.handle.tree
        try:
            await self._look_out(current, current.handle)
        finally:
            self._stop_knocking()

    async def _look_out(self, current: Current, handle: WorkerHandle) -> None:
        look, began = _Lookout(handle.tree), time.monotonic()
        while current.ready is None and not handle.serving():
            passed = time.monotonic() - began
            await anyio.sleep(_LOOK if passed < _LONG else _LATER_LOOK)
            found, steady = await look.take()
            told = self._supervisor.listeners.kept.keys() | current.private
            own = sorted(found - told) or (sorted(found & current.private) if passed > _LONG else [])
            slow = handle.links or not self.watched <= set(own)
            if steady < (_SLOW if slow else _STEADY) or (not own and not self._needs_no_port(passed)):
                continue
            not_yet = await self._not_yet(own[0]) if own and own[0] not in current.private else ""
            if not not_yet:
                self._serves(current, own)
            elif passed > _LONG:
                self._tell_once(f"It listens on {own[0].url}, but {not_yet}: it is not ready.")

    def _needs_no_port(self, passed: float) -> bool:
        """Whether a program that listens nowhere so many seconds after its start is meant to."""
        if self._supervisor.plan.is_portless:
            return passed >= _RUNS
        return passed >= _LONG and not self._supervisor.has_agent()

    async def _not_yet(self, address: Address) -> str:
        """Why it is not ready; empty when it is. An endpoint's first number is the one at rest: nobody has been answered yet."""
        if self._probe is None:
            if self._knock is None or self._knock.address != address:
                self._stop_knocking()
                self._knock = tcp.Knock(address)
                await anyio.sleep(_ACCEPT)
            taken = await anyio.to_thread.run_sync(self._is_taken, self._knock)
            return "" if taken else "does not accept connections"
        try:
            await anyio.to_thread.run_sync(self._probe.ask, address, abandon_on_cancel=True)
        except probe.NotYet as exc:
            return str(exc)
        except probe.ProbeError as exc:
            self._give_up(exc)
        finally:
            self._probe.close()
        return ""

    def _is_taken(self, knock: tcp.Knock) -> bool:
        return self._tree is not None and knock.is_taken(self._tree.members())

    def _stop_knocking(self) -> None:
        if self._knock is not None:
            self._knock.close()
            self._knock = None

    def _serves(self, current: Current, addresses: Sequence[Address]) -> None:
        """It is ready."""
        self._stop_knocking()
        self._served = addresses
        gone, self.watched = self.watched - set(addresses), frozenset(addresses)
        self._supervisor.changes.foreign()
        self._supervisor.ready(current, "foreign", "", [address.url for address in addresses], [])
        for address in sorted(gone):
            self._supervisor.bus.publish(events.ListenerClosed(url=address.url))
        if addresses and "foreign" not in self._told:
            self._told.add("foreign")
            self._supervisor.bus.publish(events.ForeignServer(command=self._command()))

    def _command(self) -> str:
        """The command line that reloads it on saves; empty where that is settled already."""
        plan = self._supervisor.plan
        if plan.rules.watch or plan.limits.reload == "off" or sys.argv[1:2] != ["run"]:
            return ""
        return shlex.join(["devsup", "run", "--watch", _glob(plan.command, Path(plan.cwd)), *sys.argv[2:]])

    # -- the wait of a reload -------------------------------------------------------------------------------------------

    async def settle(self, wanted: Callable[[], bool]) -> None:
        """Wait until nothing is active, or nobody wants to know any more."""
        self._waits_since = began = time.monotonic()
        try:
            while wanted():
                active, exact = await self._ask()
                if not active:
                    return
                if not exact and time.monotonic() - began > _PATIENCE:
                    self._tell_once(
                        f"Connections are waited for no longer than {_PATIENCE:.0f} s ({len(active)} left). If the server "
                        "can tell how many requests are active, name where: devsup run --probe http:/PATH#FIELD"
                    )
                    return
                await anyio.sleep(_POLL)
        finally:
            self._waits_since = None
            self._close_probe()

    async def active(self) -> list[events.Active]:
        """What is active now, as far as can be seen from outside."""
        if not self._served:
            return []
        active, _ = await self._ask()
        if self._waits_since is None:
            self._close_probe()
        return active

    async def _ask(self) -> tuple[list[events.Active], bool]:
        """What is active, and whether the server itself says so: then it is waited for as long as for an agent's."""
        async with self._lock:
            if self._probe is not None and self._served:
                waited = time.monotonic() - (self._waits_since or time.monotonic())
                try:
                    count = await anyio.to_thread.run_sync(self._probe.ask, self._served[0], abandon_on_cancel=True)
                except probe.NotYet as exc:
                    return [events.Active(name=str(exc), age=waited)], True
                except probe.ProbeError as exc:
                    self._give_up(exc)
                else:
                    if count is not None:
                        name = f"counted by {self._asked.removeprefix('http:')}"
                        return [events.Active(name=name, age=waited, count=count)] if count else [], True
            return await anyio.to_thread.run_sync(self._connections), False

    def _connections(self) -> list[events.Active]:
        tree, own = self._tree, self._probe.ports if self._probe is not None else set()
        found = tcp.awaiting(self._served, tree.members() if tree is not None else (), own) if self._served else []
        return [events.Active(name=f"connection from {host}:{port}", age=age) for (host, port), age in found]

    def _give_up(self, exc: probe.ProbeError) -> None:
        """The current worker is asked no more than its connections are; the next one may have the endpoint mended."""
        self._tell_once(f"The probe {self._asked} does not tell what is active: {exc}. Its connections are watched instead.")

    def _close_probe(self) -> None:
        if self._probe is not None:
            self._probe.close()

    # -- the end --------------------------------------------------------------------------------------------------------

    async def freed(self) -> None:
        """After a worker's end: its ports are free for the next one, or it is said who has them."""
        if not self._served:
            return
        with suppress(OSError):
            kept = self._supervisor.listeners.kept.keys()  # an agent may have spoken late
            for address in self.watched.intersection(tcp.listening().values()) - kept:
                for each in await anyio.to_thread.run_sync(ports.listeners, address.port):
                    if each.address == address:
                        remedy = f'End it with "devsup port {address.port} --free".' if each.holders else ""
                        self._tell_once(f"Port {address.port} is held by {each.describe()} now. {remedy}".rstrip())

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._supervisor.bus.publish(events.Trouble(text=text))


class _Lookout:
    """What a worker's processes listen on. They are walked only when the machine's listeners are not those of the last look."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._inodes: frozenset[int] | None = None
        self._found: frozenset[Address] = frozenset()
        self._changed = time.monotonic()

    async def take(self) -> tuple[frozenset[Address], float]:
        """The addresses, and for how many seconds they have been the same."""
        before = self._found
        self._found = await anyio.to_thread.run_sync(self._look)
        if self._found != before:
            self._changed = time.monotonic()
        return self._found, time.monotonic() - self._changed

    def _look(self) -> frozenset[Address]:
        with suppress(OSError):
            inodes = frozenset(tcp.listening())
            if inodes == self._inodes:
                return self._found
            self._inodes = inodes
        return tcp.listeners(self._tree.members())


def _glob(words: Sequence[str], folder: Path) -> str:
    """The files that a command is likely made of: those like the one that it names, else what most of the folder is."""
    for word in words:
        path = folder / word
        if os.path.isfile(path) and path.resolve().is_relative_to(folder.resolve()):  # noqa: PTH113 - a word may be a whole script
            return f"**/*{path.suffix}" if path.suffix else word
    files = [path for top in (folder, folder / "src") for path in _files_in(top)]
    suffixes = Counter(path.suffix for path in files)
    likely = [suffix for suffix, _ in suffixes.most_common() if suffix not in _NO_SOURCE]
    return f"**/*{likely[0]}" if likely else "**/*"


def _files_in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if os.path.isfile(path)]  # noqa: PTH113 - never raises
    except OSError:
        return []
