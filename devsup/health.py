"""The health of a service while one worker of it runs: its probes are asked, and what changes is told.

Who looks (`system.checks`) knows nothing of who judges (`decide.health`); here they meet. What the service prints comes from
another thread, as fast as it prints: it is searched there, and only what was found passes into the loop.
"""

from __future__ import annotations

import asyncio
import math
import shlex
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from devsup.decide.health import Answer, Events, Failing, Judge, Pace, Printed, Reached, Size, Unprinted, Verdict, Well
from devsup.decide.patterns import Key, Patterns
from devsup.errors import DevsupError
from devsup.system import checks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from devsup.config import Probe

READY = "ready"  # the name of the probe that says when the service is

_FIRST, _SLOWER, _SLOWEST = 0.2, 1.3, 1.0  # seconds between questions whether it is ready: the first, times this, the last
_REOPEN = 1.0  # seconds after which a stream that has ended is opened again
_NAME = 60  # characters of a command


@dataclass
class _Asked:
    """A probe while it is asked. `say` looks at the verdict; `rest` is for how many seconds nothing is asked after a question."""

    name: str
    probe: Probe
    say: Callable[[Judge], None]
    rest: Callable[[Judge], float]
    began: float
    news: anyio.Event = field(default_factory=anyio.Event)


class Health:
    """One worker's; the next worker has one of its own. A verdict goes by its probe's name, which leads to `on_stall`.

    `url()` is where the service answers ("" while that is not known), `environment()` what commands run in. `tell` hears of a
    verdict that is of another kind than the one before, and why it is not ready yet; `verdicts` has them as they are now.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        cwd: str,
        environment: Callable[[], Mapping[str, str]],
        url: Callable[[], str],
        tell: Callable[[str, Verdict], None],
    ) -> None:
        self._probes, self._cwd, self._environment, self._url, self._tell = probes, cwd, environment, url, tell
        self.reason = "it has not been asked yet" if READY in probes else ""  # why it is not ready
        self.verdicts: dict[str, Verdict] = {name: Well() for name in probes if name != READY}
        self.unproved = set(self.verdicts)  # those that have not seen yet what they are there to see
        self._clock, self._ears = _Clock(), _Ears(probes)
        self._going = anyio.Event()
        self._going.set()
        self._scopes: set[anyio.CancelScope] = set()

    async def until_ready(self) -> None:
        """Until the probe `ready` says so; meanwhile `reason` says why not."""
        probe = self._probes.get(READY)
        if probe is None:
            return
        pauses = _pauses()
        with anyio.CancelScope() as scope:

            def say(judge: Judge) -> None:
                before, self.reason = self.reason, judge.not_yet(self._clock.now())
                if not self.reason:
                    scope.cancel()
                elif self.reason != before:
                    self._tell(READY, Failing(self.reason))

            await self._ask(READY, probe, say, lambda _: next(pauses))
        self._ears.forget(READY)

    async def watch(self) -> None:
        """Ask all other probes, until cancelled."""
        async with anyio.create_task_group() as tasks:
            for name in self.verdicts:
                probe = self._probes[name]
                tasks.start_soon(self._ask, name, probe, partial(self._say, name), partial(self._rest, probe))
            await anyio.sleep_forever()

    def pause(self) -> None:
        """Ask nothing, keep nothing open, and let no time pass, until `resume`."""
        if self._going.is_set():
            self._going = anyio.Event()
            self._clock.stop()
            for scope in self._scopes:
                scope.cancel()

    def resume(self) -> None:
        """Go on."""
        self._clock.go()
        self._going.set()

    def feed(self, data: bytes) -> None:
        """Whole lines that the service has printed. From any thread."""
        self._ears.feed(data)

    # -- verdicts -------------------------------------------------------------------------------------------------------

    def _say(self, name: str, judge: Judge) -> None:
        before, verdict = self.verdicts[name], judge.verdict(self._clock.now())
        self.verdicts[name] = verdict
        if name in self.unproved and not judge.not_yet(self._clock.now()):
            self.unproved.discard(name)
        if type(before) is not type(verdict):
            self._tell(name, verdict)

    def _rest(self, probe: Probe, judge: Judge) -> float:
        now = self._clock.now()
        return min(probe.every, judge.due(now) - now)

    # -- questions ------------------------------------------------------------------------------------------------------

    async def _ask(self, name: str, probe: Probe, say: Callable[[Judge], None], rest: Callable[[Judge], float]) -> None:
        """For ever; a pause ends all that is under way, and after it the questions begin again, not the judge."""
        ask = self._way(_Asked(name, probe, say, rest, self._clock.now()))
        while True:
            while not self._going.is_set():  # there may be another pause by the time that the end of one is heard of
                await self._going.wait()
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    await ask()
                finally:
                    self._scopes.discard(scope)

    def _way(self, asked: _Asked) -> Callable[[], Awaitable[None]]:
        """How a probe is asked, with its judge."""
        probe, began = asked.probe, asked.began
        grows = Pace(began, probe.grows_within, 1) if probe.grows_within is not None else None
        match probe.kind:
            case "http":
                answer = Answer(f"http {probe.http}", status=probe.status, field=probe.field, equals=probe.equals, pace=grows)
                return partial(self._look_often, asked, answer, partial(self._http, probe, answer))
            case "path":
                size = Size(str(probe.path), grows)
                return partial(self._look_often, asked, size, partial(self._size, probe, size))
            case "tcp":
                port = Reached("tcp {}:{}".format(*_host_and_port(probe)))
                return partial(self._look_often, asked, port, partial(self._tcp, probe, port))
            case "command":
                words = shlex.join(probe.command)
                command = Reached(f"command {words if len(words) <= _NAME else words[: _NAME - 1] + '…'}")
                return partial(self._look_often, asked, command, partial(self._command, probe, command))
            case "sse":
                return partial(self._follow, asked, Events(f"sse {probe.sse}", Pace(began, probe.within, probe.events)))
            case "log":
                return partial(self._listen, asked, Printed(str(probe.log), Pace(began, probe.within, 1)))
            case _:
                return partial(self._listen, asked, Unprinted())

    async def _look_often(self, asked: _Asked, judge: Judge, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await _attempt(judge, look)
            asked.say(judge)
            await anyio.sleep(asked.rest(judge))

    async def _http(self, probe: Probe, judge: Answer) -> None:
        status, body = await checks.http(self._address(str(probe.http)), probe.timeout)
        judge.take(self._clock.now(), status, body)

    async def _size(self, probe: Probe, judge: Size) -> None:
        size = await checks.size(str(Path(self._cwd, str(probe.path))), probe.timeout)
        judge.take(self._clock.now(), size)

    async def _tcp(self, probe: Probe, judge: Reached) -> None:
        await checks.tcp(*_host_and_port(probe), probe.timeout)
        judge.take()

    async def _command(self, probe: Probe, judge: Reached) -> None:
        try:
            environment = self._environment()
        except DevsupError as exc:  # an env file that cannot be read now
            raise checks.CheckError(exc.problem) from exc
        await checks.command(probe.command, self._cwd, environment, probe.timeout)
        judge.take()

    async def _follow(self, asked: _Asked, judge: Events) -> None:
        """A stream says by itself when there is something new; that there is nothing, the time says."""

        def take(events: int) -> None:
            judge.take(self._clock.now(), events)
            asked.news.set()

        async def stream() -> None:
            await checks.stream(self._address(str(asked.probe.sse)), asked.probe.timeout, take)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._await_news, asked, judge)
            while True:
                has_ended = await _attempt(judge, stream)
                asked.news.set()
                await anyio.sleep(_REOPEN if has_ended else asked.rest(judge))

    async def _listen(self, asked: _Asked, judge: Printed | Unprinted) -> None:
        def take(expression: str, line: str) -> None:
            judge.take(self._clock.now(), expression, line)
            asked.news.set()

        with self._ears.listen(asked.name, take):
            await self._await_news(asked, judge)

    async def _await_news(self, asked: _Asked, judge: Judge) -> None:
        while True:
            asked.news = anyio.Event()
            asked.say(judge)
            now = self._clock.now()
            with anyio.move_on_after(judge.due(now) - now):
                await asked.news.wait()

    def _address(self, text: str) -> str:
        """A whole URL, or a path of the service's own."""
        if not text.startswith("/"):
            return text
        url = self._url()
        if not url:
            raise checks.CheckError("waits for the service to listen")
        return f"{url}{text}"


class _Ears:
    """Finds what probes ask for in what is printed: searched in the printing thread, taken in the loop's.

    Of each expression one line is kept until it is taken.
    """

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._keys = [(name, text) for name, probe in probes.items() for text in ([probe.log] if probe.log else probe.never)]
        self._patterns = Patterns(self._keys)
        self._lock, self._found = threading.Lock(), dict[Key, str]()
        self._waiting: dict[Key, str] = {}  # found, and nobody listens yet
        self._takers: dict[str, Callable[[str, str], None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def feed(self, data: bytes) -> None:
        """Of any thread."""
        found = self._patterns.find(data)
        if not found:
            return
        with self._lock:
            is_first, self._found = not self._found, {**self._found, **found}
        if is_first and self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._pass_on)

    @contextmanager
    def listen(self, name: str, take: Callable[[str, str], None]) -> Iterator[None]:
        """`take` gets the expressions of this probe and the lines, of those too that were printed before."""
        self._takers[name], self._loop = take, asyncio.get_running_loop()
        self._pass_on()
        try:
            yield
        finally:
            del self._takers[name]

    def forget(self, name: str) -> None:
        """Nobody asks for this any more."""
        self._keys = [key for key in self._keys if key[0] != name]
        self._patterns = Patterns(self._keys)

    def _pass_on(self) -> None:
        with self._lock:
            found, self._found = self._found, {}
        self._waiting |= found
        for name, text in [key for key in self._waiting if key[0] in self._takers]:
            self._takers[name](text, self._waiting.pop((name, text)))


class _Clock:
    """Of the seconds that count."""

    def __init__(self) -> None:
        self._stood, self._stopped = 0.0, math.inf

    def now(self) -> float:
        return min(time.monotonic(), self._stopped) - self._stood

    def stop(self) -> None:
        self._stopped = time.monotonic()

    def go(self) -> None:
        self._stood += max(0.0, time.monotonic() - self._stopped)
        self._stopped = math.inf


async def _attempt(judge: Judge, question: Callable[[], Awaitable[None]]) -> bool:
    """Whether it had an answer."""
    try:
        await question()
    except checks.CheckError as exc:
        judge.fail(str(exc))
        return False
    return True


def _pauses() -> Iterator[float]:
    """Between questions whether it is ready: it is asked often at first."""
    pause = _FIRST
    while True:
        yield pause
        pause = min(pause * _SLOWER, _SLOWEST)


def _host_and_port(probe: Probe) -> tuple[str, int]:
    host, _, port = str(probe.tcp).rpartition(":")
    return host.strip("[]") or "localhost", int(port)
