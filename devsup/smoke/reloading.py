"""The reload test: a file of a copy of the project is saved while a request is under way; both the answer and the new code come.

The request is the check called `reload`, where the config has one; else a head of which one half is sent before the save and the
other after it: a request is active from its first byte on. That the new code runs is shown by a line that is put into the file
and printed when it is loaded.
"""

from __future__ import annotations

import ast
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from devsup import events
from devsup.decide.addresses import module_files
from devsup.decide.fields import shown
from devsup.errors import UsageError
from devsup.smoke.asking import Asking
from devsup.smoke.beginning import Beginning
from devsup.smoke.phases import Phases
from devsup.system import checks, requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devsup.smoke.subject import Subject
    from devsup.team import Team

_LEFT_OUT = frozenset({".git", ".hg", ".svn", ".devsup", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox"})
_LINKED = frozenset({"node_modules", "site-packages"})  # large, and nobody's own code; and virtual environments
_LARGEST = 500 << 20  # bytes of a copy
_SEEN, _UNDER_WAY = 10.0, 5.0  # seconds until a save is seen, until a request is
_KEPT = 0.3  # seconds that a request goes on for after a reload has begun
NAME = "reload"


class ReloadTest:
    """Of one service, in a copy of its project."""

    def __init__(self, subject: Subject, timeout: float, progress: Callable[[str, float], None]) -> None:
        self._subject, self._timeout, self._phases = subject, timeout, Phases(progress)
        self.is_interrupted = False

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
        self.is_interrupted = team.is_ending
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
        began, plan = time.monotonic(), self._subject.member.berth.plan
        path = next((path for name in module_files(plan.command) if (path := Path(plan.cwd, name)).is_file()), None)
        if path is None:
            self._subject.failed(NAME, "It cannot be told from the command which file to save: name the app as MODULE:APP", began)
            return
        marker = f"devsup reload test {os.urandom(4).hex()}"
        problem = await self._save_during_a_request(path, marker) or await self._new_code(marker, began)
        if problem:
            self._subject.failed(NAME, problem, began)
        else:
            reloaded = self._subject.last(events.Reloaded)
            took = f", which served {reloaded.total:.2f} s after the save" if reloaded is not None else ""
            self._subject.passed(NAME, f"{path.name} was saved during a request: answered, and by new code after it{took}", began)

    async def _save_during_a_request(self, path: Path, marker: str) -> str:
        """What went wrong with it; empty where it was answered."""
        member, problem = self._subject.member, ""
        url = member.working.url(member.supervisor.current) if member.working and member.supervisor else ""
        check = self._subject.service.checks.get(NAME)
        async with requests.session() as session:
            if check is None or check.kind != "http":
                return await self._save_amid_a_head(url, path, marker)
            asking = Asking(self._subject, session, url.rstrip("/"))

            async def ask() -> None:
                nonlocal problem
                problem = await asking.problem(check)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                with anyio.move_on_after(_UNDER_WAY):
                    while member.supervisor and not await member.supervisor.ask.active():  # noqa: ASYNC110 - nobody tells
                        await anyio.sleep(0.01)
                _save(path, marker)
        return f"{check.method} {check.http}, under way at a save, {problem}" if problem else ""

    async def _save_amid_a_head(self, url: str, path: Path, marker: str) -> str:
        where = urlsplit(url)
        request = f"GET / HTTP/1.1\r\nHost: {where.netloc}\r\nUser-Agent: devsup\r\n"
        try:
            async with await anyio.connect_tcp(where.hostname or "127.0.0.1", where.port or 80) as stream:
                await stream.send(request.encode())
                await anyio.sleep(_KEPT)
                _save(path, marker)
                problem = await self._until_reload_begins(path)
                if problem:
                    return problem
                await anyio.sleep(_KEPT)
                await stream.send(b"Connection: close\r\n\r\n")
                answer = b""
                with suppress(anyio.EndOfStream), anyio.fail_after(self._timeout):
                    while True:
                        answer += await stream.receive()
        except (OSError, TimeoutError, anyio.BrokenResourceError) as exc:
            return f"GET /, under way at a save, was cut: {checks.why(exc)}"
        status = answer.split(b" ", 2)[1:2]
        if not answer.startswith(b"HTTP/1.") or not status or status[0] >= b"500":
            return f"GET /, under way at a save, was answered {shown(answer[:60].decode('latin-1'))}"
        return ""

    async def _until_reload_begins(self, path: Path) -> str:
        """Why it does not; empty where it does."""
        with anyio.move_on_after(_SEEN):
            while not self._subject.said(events.ReloadStarted):
                ignored = self._subject.last(events.ChangeIgnored)
                if ignored is not None and ignored.path == os.path.realpath(path):
                    return f"A save of {path.name} brings no reload: {ignored.reason}. Is another copy of it installed?"
                await anyio.sleep(0.02)  # events of one service, which nobody else waits for
            return ""
        return f"A save of {path.name} brought no reload in {_SEEN:g} s"

    async def _new_code(self, marker: str, began: float) -> str:
        """What is missing; empty where the new code answers."""
        with anyio.move_on_after(self._timeout):
            while not self._subject.said(events.Reloaded):
                failed = self._subject.last(events.WorkerFailed)
                if failed is not None:
                    return f"The new code did not start: {failed.exit.text}"
                await anyio.sleep(0.02)  # as above
        if not self._subject.said(events.Reloaded):
            return f"No new code served {time.monotonic() - began:.1f} s after the save"
        if not any(marker in line for line in self._subject.recorder.lines(began, time.monotonic())):
            return "The worker was started anew, but did not load the file that was saved"
        return ""


def copied(project: Path, to: Path) -> Path:
    """A copy of the project; what is large and no code of its own is linked. Raises UsageError where it is too large."""
    size, linked = 0, list[Path]()

    def ignored(folder: str, names: list[str]) -> Sequence[str]:
        nonlocal size
        inside = Path(folder)
        libraries = [name for name in names if name in _LINKED or (inside / name / "pyvenv.cfg").is_file()]
        linked.extend(inside / name for name in libraries)
        for name in names:
            with suppress(OSError):
                size += (inside / name).lstat().st_size
        if size > _LARGEST:
            problem = f"{project} has more than {_LARGEST >> 20} MiB, too much to be copied for --reload-test."
            raise UsageError(problem, "Name the folder of the code alone: --cwd FOLDER.")
        return [*libraries, *(name for name in names if name in _LEFT_OUT)]

    target = to / project.name
    shutil.copytree(project, target, symlinks=True, ignore=ignored, ignore_dangling_symlinks=True)
    for each in linked:
        (target / each.relative_to(project)).symlink_to(each, target_is_directory=True)
    return target


def _save(path: Path, marker: str) -> None:
    """As an editor does: the whole file, beside it, then renamed over it."""
    beside = path.with_name(f".{path.name}.saving")
    beside.write_text(marked(path.read_text(encoding="utf-8"), marker), encoding="utf-8")
    shutil.copymode(path, beside)
    beside.replace(path)


def marked(source: str, marker: str) -> str:
    """A module that prints the marker when it is loaded, before all else that it does."""
    statements = ast.parse(source).body
    first = 0
    for number, each in enumerate(statements):
        is_docstring = number == 0 and isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
        if is_docstring or (isinstance(each, ast.ImportFrom) and each.module == "__future__"):
            first = each.end_lineno or 0
    lines = source.splitlines(keepends=True)
    if first and not lines[first - 1].endswith("\n"):
        lines[first - 1] += "\n"
    return "".join([*lines[:first], f"print({marker!r}, flush=True)\n", *lines[first:]])
