"""When the next worker is forked, and when it is better started cold (DESIGN 7)."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.errors import UsageError
from devsup.system.forkserver import ForkServer
from devsup.system.spawn import Spawned, spawn
from devsup.system.worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from anyio.abc import TaskGroup

    from devsup.bus import Bus
    from devsup.current import Current
    from devsup.launch import Plan
    from devsup.system.link import Link, Message
    from devsup.system.meeting import Meeting
    from devsup.system.terminal import Terminal

_PAUSE = 0.3  # seconds after the worker is ready: its first requests come first
_LONGEST_ANSWER = 10.0  # seconds that a busy worker has to tell what it has imported
_LONGEST_START = 10.0  # seconds from its spawn to its hello
_SOON = 5.0  # seconds of service after which nobody doubts that a worker runs
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
_FRAME = re.compile(r'^  File "([^"]+)", line', re.MULTILINE)
_VOLATILE = 4  # times in a row
_TRIES = 4  # each without what the ones before could not import


class Forks:
    """The fork server of one service, built in the background from what its worker has imported."""

    def __init__(
        self,
        plan: Plan,
        bus: Bus,
        terminal: Terminal,
        meeting: Meeting,
        tasks: TaskGroup,
        environment: Callable[[], dict[str, str]],
    ) -> None:
        self._plan, self._bus, self._terminal, self._meeting, self._tasks = plan, bus, terminal, meeting, tasks
        self._environment = environment
        self._server: ForkServer | None = None
        self._hello: anyio.Event | None = None
        self._arriving: Link | None = None
        self._servers: dict[Link, ForkServer] = {}
        self._started, self._name = 0, ""
        self._skip: set[str] = set()
        self._moves: dict[str, int] = {}  # variables that the program has set otherwise, and how many times in a row
        self._distrusted = not plan.fork
        self._doubt = ""  # what a forked worker died of
        self._building = anyio.Lock()

    # -- what its link tells ----------------------------------------------------------------------------------------

    def hello(self, link: Link) -> None:
        """A fork server is there."""
        if self._hello is not None and link.whose == self._name:
            self._arriving = link
            self._hello.set()

    def end(self, link: Link) -> None:
        """It is gone."""
        server = self._servers.pop(link, None)
        if server is not None and server is self._server:
            self._server = None

    def message(self, link: Link, message: Message) -> None:
        """It says something."""
        if message["op"] == "exited" and link in self._servers:
            self._servers[link].exited(message)
        if message["op"] == "forked":  # too late: another was started in its place
            with suppress(OSError):
                os.kill(message["pid"], signal.SIGKILL)

    # -- building ---------------------------------------------------------------------------------------------------

    def prepare(self, link: Link) -> None:
        """A worker serves: see to it that the next can be forked."""
        if not self._distrusted:
            self._tasks.start_soon(self._prepare, link)

    async def _prepare(self, link: Link) -> None:
        await anyio.sleep(_PAUSE)
        async with self._building:
            with suppress(UsageError):  # an env file that cannot be read: the next start will tell
                await self._see_to(link)

    async def _see_to(self, link: Link) -> None:
        wanted = None if self._distrusted else await link.ask("imports", limit=_LONGEST_ANSWER)
        if wanted is None:  # a newer worker has taken its place
            return
        if wanted["hostile"]:
            self._off(f"the app uses {wanted['hostile']}")
        elif self._server is None or not await self._fits(self._server, wanted):
            await self._build(wanted)
        if self._server is not None:
            await self._server.make_spare()

    async def _fits(self, server: ForkServer, wanted: Message) -> bool:
        """Whether it would become the same worker once more."""
        return (
            server.modules >= {name for name, _ in wanted["modules"]}
            and not self._moved(server.changed_environ, wanted["environ"])
            and server.environ == _without_ours(self._environment())
            and not await server.is_stale()
        )

    def _moved(self, before: Mapping[str, str | None], now: Mapping[str, str | None]) -> bool:
        """Whether the program sets its environment otherwise; what is another at each start says nothing."""
        different = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        self._moves = {name: self._moves.get(name, 0) + 1 for name in different}
        return any(times < _VOLATILE for times in self._moves.values())

    async def _build(self, wanted: Message) -> None:
        left: list[list[str]] = []
        for _ in range(_TRIES):
            server = await self._start()
            answer = await server.preload(wanted, self._skip) if server is not None else None
            if server is None or answer is None:
                if server is not None:
                    server.scope.cancel()
                self._off("it ended while it imported")
                return
            if not answer["left"]:
                await self._leave()
                self._server, count = server, len(server.modules - self._skip)
                self._tasks.start_soon(server.watch)
                self._bus.publish(events.ForkServerReady(modules=count, memory=answer["memory"], left=left))
                return
            self._skip.update(name for name, _ in answer["left"])
            left += answer["left"]
            await server.leave()
        self._off("modules that it leaves out lead to more of them, again and again")

    async def _start(self) -> ForkServer | None:
        self._hello, environ, scope = anyio.Event(), self._environment(), anyio.CancelScope()
        self._started += 1
        self._name = f"f{self._started:07d}"
        self._tasks.start_soon(self._live, environ, self._name, self._hello, scope)
        with anyio.move_on_after(_LONGEST_START):
            await self._hello.wait()
        link, self._arriving = self._arriving, None
        if link is None:
            scope.cancel()
            return None
        self._servers[link] = server = ForkServer(link, _without_ours(environ), scope)
        return server

    async def _live(self, environ: Mapping[str, str], name: str, hello: anyio.Event, scope: anyio.CancelScope) -> None:
        """One fork server's process, to its end, and that of what importing has started."""
        environ, token = {**environ, **self._meeting.environment(name), "DEVSUP_FORK": "1"}, self._meeting.token(name)
        with scope, suppress(UsageError):  # the program is gone
            spawned = spawn(self._plan.command, self._plan.cwd, environ, self._terminal, shown=False)
            async with worker(spawned, 0, token, self._terminal) as handle:
                await handle.wait()
                hello.set()
                await handle.end_leftovers()
        hello.set()

    async def _leave(self) -> None:
        """The one before ends once its workers have."""
        server, self._server = self._server, None
        if server is not None:
            await server.leave()

    def _off(self, reason: str, *, shown: bool = False) -> None:
        self._distrusted = True
        self._bus.publish(events.ForkServerOff(reason=reason, shown=shown))

    # -- forking ----------------------------------------------------------------------------------------------------

    async def spawn(self, environ: Mapping[str, str], changed: Iterable[str], name: str) -> Spawned | None:
        """A forked worker; None when it must be a cold start. `changed` are the files that the worker is to load anew."""
        server = self._server
        if server is None or self._doubt or any(os.path.basename(path).startswith(".env") for path in changed):  # noqa: PTH119
            return None
        ours = {key: value for key, value in environ.items() if key.startswith("DEVSUP_")}
        if server.environ != _without_ours(environ) or await server.is_stale():
            return None
        streams = self._terminal.streams(name)
        try:
            child = await server.fork(ours, streams)
        finally:
            streams.started()
        if child is None:
            await self._terminal.finished(streams)
            return None
        return Spawned(child, streams)

    def doubts(self, worker: Current, ended: events.Exit, served: float | None, tail: str) -> bool:
        """Whether the fork may be to blame for a worker's end: it came soon, and not of what has just been saved.

        Whether it is, a cold start will tell.
        """
        if served is not None and served > _SOON:
            return False
        if not worker.forked:
            self._doubt = ""  # a cold start fares no better
            return False
        frames = _FRAME.findall(tail)
        of_the_save = bool(frames) and frames[-1] in worker.changed
        if of_the_save or not ((ended.code or 0) > 0 or ended.signal in _CRASHES):
            return False
        self._doubt = ended.text
        self._bus.publish(events.ForkDoubted(how=ended.text))
        return True

    async def watch(self, lives: Callable[[], bool]) -> None:
        """A worker that was started cold serves: if it goes on to, who was forked before it had died of that."""
        await anyio.sleep(_SOON)
        if self._doubt and lives():
            reason = f"a forked worker ended with {self._doubt}, one that was started cold did not"
            self._doubt = ""
            await self._leave()
            self._off(reason, shown=True)


def _without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environ.items() if not key.startswith("DEVSUP_")}
