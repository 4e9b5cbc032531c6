"""The reload test: a file of a copy of the project is saved while a request is under way; both the answer and the new code come.

The request is the check called `reload`, where the config has one; else a head of which one half is sent before the save and the
other after it: a request is active from its first byte on. That the new code runs is shown by a line that is put into the file
and printed when it is loaded.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from devsup import events
from devsup.decide.fields import shown
from devsup.smoke.asking import Asking
from devsup.smoke.beginning import Beginning
from devsup.smoke.copying import save
from devsup.smoke.phases import Phases
from devsup.system import checks, requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anyio.abc import ByteStream

    from devsup.smoke.subject import Subject
    from devsup.team import Team

_SEEN, _UNDER_WAY = 10.0, 5.0  # seconds until a save is seen, until a request is
_KEPT = 0.3  # seconds that a request goes on for after a reload has begun
NAME = "reload"


class ReloadTest:
    """Of one service, in a copy of its project: `path` is saved, and prints `marker` then."""

    def __init__(self, subject: Subject, path: Path, marker: str, timeout: float, progress: Callable[[str, float], None]) -> None:
        self._subject, self._path, self._marker, self._timeout = subject, path, marker, timeout
        self._phases = Phases(progress)

    async def __call__(self, team: Team) -> int:
        """To the end of the service."""
        subject = self._subject
        subject.meet(team.members[subject.name])
        self._phases.begin("start", self._timeout)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._until_interrupted, team, scope)
                if await Beginning(team, [subject], self._timeout).is_made():
                    self._phases.begin("reload", self._timeout)
                    await self._test()
                tasks.cancel_scope.cancel()
        self._phases.begin("stop")
        await team.stop()
        code = await team.over()
        self._phases.end()
        return code

    def conclude(self) -> None:
        """Nothing is looked at any more."""

    @property
    def phases(self) -> dict[str, float]:
        """Its parts and their seconds."""
        return self._phases.taken

    async def _until_interrupted(self, team: Team, scope: anyio.CancelScope) -> None:
        await team.until(lambda: team.is_ending)
        scope.cancel()

    async def _test(self) -> None:
        began, name = time.monotonic(), self._path.name
        ready = self._subject.last(events.WorkerReady)
        if ready is None or ready.server == "foreign":
            problem = "devsup is not inside this server: only the globs of `watch` reload it, and none of them was tried"
        else:
            problem = await self._save_during_a_request() or await self._new_code(began)
        if problem:
            self._subject.failed(NAME, problem, began)
        else:
            reloaded = self._subject.last(events.Reloaded)
            took = f", which served {reloaded.total:.2f} s after the save" if reloaded is not None else ""
            self._subject.passed(NAME, f"{name} was saved during a request: answered, and by new code after it{took}", began)

    async def _save_during_a_request(self) -> str:
        """What went wrong with it; empty where it was answered."""
        member, problem = self._subject.member, ""
        url = member.working.url(member.supervisor.current) if member.working and member.supervisor else ""
        check = self._subject.service.checks.get(NAME)
        if not url.startswith("http"):
            return "It serves no address at which a request could be under way"
        if check is None or check.kind != "http":
            return await self._save_amid_a_head(url)
        async with requests.session() as session:
            asking = Asking(self._subject, session, url.rstrip("/"))

            async def ask() -> None:
                nonlocal problem
                problem = await asking.problem(check)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                with anyio.move_on_after(_UNDER_WAY):
                    while member.supervisor and not await member.supervisor.ask.active():  # noqa: ASYNC110 - nobody tells
                        await anyio.sleep(0.01)
                save(self._path, self._marker)
        return f"{check.method} {check.http}, under way at a save, {problem}" if problem else ""

    async def _save_amid_a_head(self, url: str) -> str:
        where = urlsplit(url)
        request = f"GET / HTTP/1.1\r\nHost: {where.netloc}\r\nUser-Agent: devsup\r\n"
        host, is_tls = where.hostname or "127.0.0.1", where.scheme == "https"
        port = where.port or (443 if is_tls else 80)
        try:
            async with await _connect(host, port, is_tls=is_tls) as stream:
                await stream.send(request.encode())
                await anyio.sleep(_KEPT)
                save(self._path, self._marker)
                problem = await self._until_reload_begins()
                if problem:
                    return problem
                await anyio.sleep(_KEPT)
                await stream.send(b"Connection: close\r\n\r\n")
                answer = await self._received(stream)
        except (OSError, TimeoutError, anyio.BrokenResourceError) as exc:
            return f"GET /, under way at a save, was cut: {checks.why(exc)}"
        status = answer.split(b" ", 2)[1:2]
        if not answer.startswith(b"HTTP/1.") or not status or status[0] >= b"500":
            return f"GET /, under way at a save, was answered {shown(answer[:60].decode('latin-1'))}"
        return ""

    async def _received(self, stream: ByteStream) -> bytes:
        """All that comes; of an answer without an end what comes in time."""
        answer = b""
        with suppress(anyio.EndOfStream), anyio.move_on_after(self._timeout):
            while True:
                answer += await stream.receive()
        return answer

    async def _until_reload_begins(self) -> str:
        """Why it does not; empty where it does."""
        with anyio.move_on_after(_SEEN):
            while not self._subject.said(events.ReloadStarted):
                ignored = self._subject.last(events.ChangeIgnored)
                if ignored is not None and ignored.path == os.path.realpath(self._path):
                    return f"A save of {self._path.name} brings no reload: {ignored.reason}. Is another copy of it installed?"
                await anyio.sleep(0.02)  # events of one service, which nobody else waits for
            return ""
        return f"A save of {self._path.name} brought no reload in {_SEEN:g} s"

    async def _new_code(self, began: float) -> str:
        """What is missing; empty where the new code answers."""
        with anyio.move_on_after(self._timeout):
            while not self._subject.said(events.Reloaded):
                failed = self._subject.last(events.WorkerFailed)
                if failed is not None:
                    return f"The new code did not start: {failed.exit.text}"
                await anyio.sleep(0.02)  # as above
        if not self._subject.said(events.Reloaded):
            return f"No new code served {time.monotonic() - began:.1f} s after the save"
        if not await self._subject.recorder.until_found(self._marker, _KEPT):
            return "The worker was started anew, but did not load the file that was saved"
        return ""


async def _connect(host: str, port: int, *, is_tls: bool) -> ByteStream:
    """Whose certificate it is does not matter."""
    if not is_tls:
        return await anyio.connect_tcp(host, port)
    return await anyio.connect_tcp(host, port, ssl_context=checks.tls(), tls_standard_compatible=False)
