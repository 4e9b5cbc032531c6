"""The checks that ask a service something: requests, scenarios, WebSockets, streams, commands, lines that must be printed."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import anyio
import msgspec

from devsup import events
from devsup.control import answers
from devsup.decide import replies
from devsup.decide.fields import cut, shown
from devsup.decide.replies import Expected, Reply
from devsup.errors import DevsupError
from devsup.smoke.subject import uncaught
from devsup.system import checks, websocket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devsup.config import Check
    from devsup.smoke.subject import Subject
    from devsup.smoke.wishes import Named
    from devsup.system.requests import Answer, Session

_LENIENT = Expected(least=100, most=499)  # of what nobody has said anything about
_HEALTH = ("/health", "/healthz", "/api/health", "/openapi.json")
_NOT_THERE = frozenset({404, 405, 501})
_TIMEOUT = 10.0  # seconds
_TOLD = 0.1  # seconds until what a failed request has brought about is known
_SHOWN = 80


class Asking:
    """Asks one service."""

    def __init__(self, subject: Subject, session: Session, url: str) -> None:
        self._subject, self._session, self._url = subject, session, url
        self._well: list[str] = []  # paths that were answered, and are to be as long as it is up

    def way(self, named: Named) -> Callable[[], Awaitable[None]] | None:
        """How a check is made while the service runs; None for one that is judged at the end, or has nothing to ask here."""
        check = named.check
        match named.name, check.kind if check is not None else "":
            case (("root" | "health"), "") if not self._url.startswith("http"):
                return None
            case "root", "":
                return partial(self._lenient, "root", ("/",))
            case "health", "":
                return partial(self._lenient, "health", self._health())
            case _:
                pass
        kinds: dict[str, Callable[[str, Check], Awaitable[None]]] = {
            "http": self._scenario if check is not None and check.runs else self._http,
            "ws": self._ws,
            "sse": self._sse,
            "command": self._command,
            "log": self._log,
        }
        return partial(kinds[check.kind], named.name, check) if check is not None and check.kind in kinds else None

    async def _cannot(self, name: str) -> None:
        self._subject.skipped(name, "it serves no HTTP address that could be asked")

    async def is_well(self) -> str:
        """What is wrong now with an address that was answered well before; empty where all are."""
        for path in self._well:
            try:
                answer = await self._session.send("GET", f"{self._url}{path}", _TIMEOUT, glance=True)
            except checks.CheckError as exc:
                return f"GET {path} {exc}"
            if problem := replies.wrong(_LENIENT, self._reply(answer, path)):
                return f"GET {path} {problem}"
        return ""

    # -- requests -------------------------------------------------------------------------------------------------------

    async def _lenient(self, name: str, paths: tuple[str, ...]) -> None:
        """The first of these paths that is there must not fail."""
        for path in paths:
            began, request = time.monotonic(), f"GET {path}"
            try:
                answer = await self._session.send("GET", f"{self._url}{path}", _TIMEOUT, glance=True)
            except checks.CheckError as exc:
                if self._is_foreign():  # it may well speak something else
                    self._subject.skipped(name, f"{request} {exc}: it may not be a server of HTTP")
                else:
                    await self._failed(name, request, str(exc), began)
                return
            self._note(answer, began)
            problem = replies.wrong(_LENIENT, self._reply(answer, path))
            if problem:
                await self._failed(name, request, problem, began)
                return
            if answer.status not in _NOT_THERE or paths == ("/",):
                self._well.append(path)
                self._subject.passed(name, _told(request, answer), began, request=request)
                return
        self._subject.skipped(name, f"it has none of {', '.join(_HEALTH)}")

    def _health(self) -> tuple[str, ...]:
        """The paths to try: where the routes are known, one of them."""
        ready = self._subject.last(events.WorkerReady)
        routes = [route.partition(" ")[2] for route in ready.routes] if ready is not None else []
        return tuple(path for path in _HEALTH if path in routes) if routes else _HEALTH

    def _is_foreign(self) -> bool:
        ready = self._subject.last(events.WorkerReady)
        return ready is None or ready.server == "foreign"

    async def _http(self, name: str, check: Check) -> None:
        began, request = time.monotonic(), f"{check.method} {check.http}"
        try:
            answer = await self._send(check)
        except checks.CheckError as exc:
            await self._failed(name, request, str(exc), began)
            return
        self._note(answer, began)
        problem = replies.wrong(self._expected(check), self._reply(answer, str(check.http)))
        if problem:
            await self._failed(name, request, problem, began)
        else:
            self._subject.passed(name, _told(request, answer), began, request=request)

    def _note(self, answer: Answer, began: float) -> None:
        """What is printed of a request that is answered with 500 or more is told with that, whether it was wanted or not."""
        if answer.status >= 500:
            self._subject.spells.append((began, time.monotonic() + _TOLD))

    async def problem(self, check: Check) -> str:
        """What is wrong with the answer to this request; empty where all is right."""
        try:
            return replies.wrong(self._expected(check), self._reply(await self._send(check), str(check.http)))
        except checks.CheckError as exc:
            return str(exc)

    async def _send(self, check: Check, *, keep: bool = False) -> Answer:
        content, headers = check.body.encode() if check.body is not None else None, dict(check.headers)
        if check.json is not None:
            content, headers = msgspec.json.encode(check.json), {"Content-Type": "application/json", **headers}
        address = self._address(str(check.http))
        return await self._session.send(check.method, address, check.timeout, headers, content, keep=keep)

    async def _scenario(self, name: str, check: Check) -> None:
        """The same request again and again; what is measured are the answers, right or wrong."""
        began, request, expected = time.monotonic(), f"{check.method} {check.http}", self._expected(check)
        times, problems, most = list[float](), list[str](), check.error_rate * check.runs
        for number in range(check.warm_up + check.runs):
            sent = time.monotonic()
            try:
                answer = await self._send(check, keep=True)
                self._note(answer, sent)
                problem, seconds = replies.wrong(expected, self._reply(answer, str(check.http))), answer.seconds
            except checks.CheckError as exc:
                problem, seconds = str(exc), time.monotonic() - sent
            if number >= check.warm_up:
                times.append(seconds)
                problems += [problem] if problem else []
            if len(problems) > most:  # it is sure, and each of the others may take as long as its timeout
                break
        latency = replies.measured(times, len(problems), check.budgets)
        told = f"{request} {check.runs} times: median {replies.milliseconds(latency.median)}"
        over = replies.over_budget(latency)
        if len(problems) > most:
            wrong = f"{len(problems)} of {len(times)} runs went wrong; the last {problems[-1]}"
            await self._failed(name, request, wrong, began, latency=latency)
        elif over:
            await self._failed(name, request, "; ".join(over), began, latency=latency, verdict="slow")
        else:
            self._subject.passed(name, told, began, request=request, latency=latency)

    def _expected(self, check: Check) -> Expected:
        status = {"least": check.status, "most": check.status} if check.status is not None else {}
        redirect = urljoin(self._address(str(check.http)), check.redirect) if check.redirect is not None else None
        return Expected(fields=check.fields, headers=check.has_headers, pattern=check.pattern, redirect=redirect, **status)

    def _reply(self, answer: Answer, path: str) -> Reply:
        where = answer.headers.get("location", "")
        location = urljoin(self._address(path), where) if where else ""
        return Reply(status=answer.status, headers=answer.headers, body=answer.body, location=location)

    def _address(self, text: str) -> str:
        if text.startswith("/") and not self._url:
            raise checks.CheckError("cannot be sent: the service listens on no port")
        return f"{self._url}{text}" if text.startswith("/") else text

    # -- everything else ------------------------------------------------------------------------------------------------

    async def _ws(self, name: str, check: Check) -> None:
        began, request, open_for = time.monotonic(), f"WS {check.ws}", list(check.receive)
        try:
            with anyio.fail_after(check.timeout):
                async with websocket.connect(self._address(str(check.ws)), check.headers, check.timeout) as socket:
                    for message in check.send:
                        await socket.send(message)
                    while open_for:
                        said = await socket.receive()
                        text = said if isinstance(said, str) else said.decode("utf-8", "replace")
                        open_for = open_for[1:] if replies.matches(open_for[0], text) else open_for
        except TimeoutError:
            problem = f"has given nothing like {shown(open_for[0])} in {check.timeout:g} s" if open_for else "does not close"
            await self._failed(name, request, problem, began)
        except checks.CheckError as exc:
            await self._failed(name, request, str(exc), began)
        else:
            many = f"{len(check.receive)} message{'' if len(check.receive) == 1 else 's'} came as expected"
            self._subject.passed(name, f"{request} opened{f', {many}' if check.receive else ''}", began, request=request)

    async def _sse(self, name: str, check: Check) -> None:
        began, request, came = time.monotonic(), f"GET {check.sse}", 0
        with anyio.move_on_after(check.timeout) as limit:

            def take(events_more: int) -> None:
                nonlocal came
                came += events_more
                if came >= check.events:
                    limit.cancel()

            try:
                await checks.stream(self._address(str(check.sse)), check.timeout, take)
            except checks.CheckError as exc:
                await self._failed(name, request, str(exc), began)
                return
        many, ended = f"{came} event{'' if came == 1 else 's'}", not limit.cancelled_caught
        if came >= check.events:
            self._subject.passed(name, f"{request} gave {many}", began, request=request)
        else:
            until = "until its end" if ended else f"in {check.timeout:g} s"
            await self._failed(name, request, f"gave {many} {until}, {check.events} expected", began)

    async def _command(self, name: str, check: Check) -> None:
        began, plan = time.monotonic(), self._subject.member.berth.plan
        words = cut(" ".join(check.command), _SHOWN)
        try:
            token = self._subject.member.berth.meeting.token("command")  # by which the keeper knows it, if devsup is killed
            environment = {**plan.environment(), "DEVSUP_URL": self._url, "DEVSUP_TOKEN": token}
            await checks.command(check.command, plan.cwd, environment, check.timeout)
        except (checks.CheckError, DevsupError) as exc:
            self._subject.failed(name, f"{words} {exc}", began)
        else:
            self._subject.passed(name, f"{words} succeeded", began)

    async def _log(self, name: str, check: Check) -> None:
        began, what = time.monotonic(), shown(check.log)
        if await self._subject.recorder.until_found(name, check.timeout):
            line = self._subject.recorder.found(name)[0][1]
            self._subject.passed(name, f"it has printed: {cut(line.strip(), _SHOWN)}", began)
        else:
            self._subject.failed(name, f"it has printed nothing like {what} in {check.timeout:g} s", began)

    # -- why not --------------------------------------------------------------------------------------------------------

    async def _failed(self, name: str, request: str, problem: str, began: float, **more: Any) -> None:
        """With what the service itself knows of that request."""
        await anyio.sleep(_TOLD)
        if self._subject.member.is_down:  # that is why; `hold` tells
            return
        diagnosis = self._raised(request, began) or self._blocked(began)
        stands = "" if diagnosis is not None else await self._stands(request)
        text = f"{request} {problem}{f'; {stands}' if stands else ''}"
        self._subject.failed(name, text, began, request=request, diagnosis=diagnosis, **more)

    def _raised(self, request: str, since: float) -> events.Diagnosis | None:
        """The exception behind it."""
        path = urlsplit(request.partition(" ")[2]).path
        raised = [each for each in self._subject.said(events.Unhandled, since) if each.where == "request" and path in each.name]
        return uncaught(raised[-1] if raised else None)

    def _blocked(self, since: float) -> events.Diagnosis | None:
        """What blocks the event loop."""
        found = next(reversed(self._subject.said(events.LoopBlocked, since)), None)
        if found is None:
            return None
        place = next((each for each in found.frames if each.own), None)
        cause = f"the event loop was blocked for {found.seconds:.1f} s {found.doing}"
        return events.Diagnosis(rule="blocked", cause=cause, remedy="", place=place, frames=list(reversed(found.frames)))

    async def _stands(self, request: str) -> str:
        """Where the code that still works on it stands."""
        path = urlsplit(request.partition(" ")[2]).path
        found = [each for each in await answers.active([self._subject.member]) if each.path == path and each.waits_in]
        return f"its code is in {found[0].waits_in}" if found else ""


def _told(request: str, answer: Answer) -> str:
    return f"{request} answered {answer.status} in {replies.milliseconds(answer.seconds)}"
