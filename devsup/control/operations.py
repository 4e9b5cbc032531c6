"""What can be asked: every operation is a row of OPERATIONS, of which both the routes and the OpenAPI document are made."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import anyio

import devsup
from devsup import events
from devsup.control import answers
from devsup.decide.order import Condition

if TYPE_CHECKING:
    from starlette.requests import Request

    from devsup.team import Member, Team

_QUEUE = 10_000  # events that wait for a slow reader; then it is hung up on
_OUTPUT_MOST = 1 << 20  # bytes that wait for him
_LONGEST_WAIT, _STOPS_WITHIN = 3600.0, 20.0  # seconds


class Operation(NamedTuple):
    """One thing that can be asked for. `query` are parameters and what they mean; `returns` is the type of the answer."""

    method: str
    path: str
    summary: str
    handler: Callable[[Team, Request], Awaitable[Any]]
    returns: Any = None
    query: tuple[tuple[str, str], ...] = ()
    takes: str = ""  # the media type of the request's body
    gives: str = "application/json"


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """An answer that is none: the status, and why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def _member(team: Team, request: Request) -> Member:
    name = request.path_params["name"]
    if name not in team.members:
        raise Problem(404, f"No service is called {name}; there are: {', '.join(team.members)}.")
    return team.members[name]


def _members(team: Team, request: Request) -> list[Member]:
    """Those that are asked for, or all."""
    names = request.query_params.getlist("service") or list(team.members)
    unknown = [name for name in names if name not in team.members]
    if unknown:
        raise Problem(404, f"No service is called {unknown[0]}; there are: {', '.join(team.members)}.")
    return [team.members[name] for name in names]


def _goes_on(team: Team) -> None:
    if team.is_ending:
        raise Problem(409, "devsup is ending: nothing is started any more.")


async def _about(team: Team, _request: Request) -> answers.About:
    return answers.About(version=devsup.__version__, pid=os.getpid(), services=list(team.members))


async def _services(team: Team, request: Request) -> list[answers.Service]:
    """All of them; with `wait`, once each is so far, or one cannot be, or the time is over."""
    wanted = request.query_params.get("wait", "")
    if wanted not in {"", *get_args(Condition)}:
        raise Problem(400, f"wait is {wanted!r}, where started, ready or completed belongs.")
    members = _members(team, request)
    try:
        seconds = min(float(request.query_params.get("timeout", 60.0)), _LONGEST_WAIT)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise Problem(400, "timeout is no number of seconds.")
    if wanted:
        with anyio.move_on_after(seconds):
            await team.until(lambda: team.has_come(members, cast("Condition", wanted)))
    return await answers.services(members)


async def _service(team: Team, request: Request) -> answers.Service:
    return (await answers.services([_member(team, request)]))[0]


async def _reload(team: Team, request: Request) -> answers.Done:
    member = _member(team, request)
    _goes_on(team)
    if not member.reload():
        raise Problem(409, f"{member.name} does not run. Start it: devsup start {member.name}")
    return answers.Done(done="reload")


async def _restart(team: Team, request: Request) -> answers.Done:
    member = _member(team, request)
    _goes_on(team)
    if not member.reload(now=True):
        member.start()
    return answers.Done(done="restart")


async def _start(team: Team, request: Request) -> answers.Done:
    member = _member(team, request)
    _goes_on(team)
    member.start()
    return answers.Done(done="start")


async def _stop(team: Team, request: Request) -> answers.Done:
    member = _member(team, request)
    team.hold(member.name)
    member.stop()
    with anyio.move_on_after(_STOPS_WITHIN):
        await team.until(lambda: member.is_over)
    return answers.Done(done="stop")


async def _down(team: Team, _request: Request) -> answers.Done:
    team.tasks.start_soon(team.stop)
    return answers.Done(done="down")


async def _stacks(team: Team, request: Request) -> list[events.Stack]:
    supervisor = _member(team, request).supervisor
    found = await supervisor.hangs.stacks(supervisor.current) if supervisor is not None else []
    return [supervisor.bus.masked(each) for each in found] if supervisor is not None else []


async def _requests(team: Team, request: Request) -> list[answers.Active]:
    return await answers.active(_members(team, request))


async def _input(team: Team, request: Request) -> answers.Done:
    member = _member(team, request)
    if not member.berth.terminal.type(await request.body()):
        raise Problem(409, f"{member.name} has no terminal to type on.")
    return answers.Done(done="input")


async def _output(team: Team, request: Request) -> AsyncIterator[bytes]:
    """What the service prints, from its last lines on, as it comes; who is too slow loses the rest."""
    terminal, loop = _member(team, request).berth.terminal, asyncio.get_running_loop()
    send, receive = anyio.create_memory_object_stream[bytes](_QUEUE)

    waiting = 0

    def put(data: bytes) -> None:
        nonlocal waiting
        with suppress(anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
            if waiting < _OUTPUT_MOST:
                send.send_nowait(data)
                waiting += len(data)

    def tap(data: bytes) -> None:
        loop.call_soon_threadsafe(put, data)

    async def stream() -> AsyncIterator[bytes]:
        with terminal.tapped(tap) as last:
            yield last
            async for each in receive:
                nonlocal waiting
                waiting -= len(each)
                yield each

    return stream()


async def _events(team: Team, request: Request) -> AsyncIterator[bytes]:
    """Events as they come, and what services print, where that is asked for."""
    names = set(request.query_params.getlist("service"))
    send, receive = anyio.create_memory_object_stream[bytes](_QUEUE)

    def put(at: float, service: str, event: events.Event) -> None:
        if not names or service in names:
            line = events.to_json(at, service, event)
            try:
                send.send_nowait(b"event: " + type(event).__name__.encode() + b"\ndata: " + line + b"\n\n")
            except anyio.WouldBlock:
                send.close()

    async def stream() -> AsyncIterator[bytes]:
        with team.listening(put):
            yield b": devsup\n\n"
            async for each in receive:
                yield each

    return stream()


_SERVICE = ("service", "Only of this service; may be given again.")
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/v1", "What runs here.", _about, answers.About),
    Operation(
        "GET",
        "/v1/services",
        "How every service stands.",
        _services,
        list[answers.Service],
        (
            _SERVICE,
            ("wait", "Answer once each is started, ready or completed, or one of them cannot be."),
            ("timeout", "Seconds to wait at most; 60 without it."),
        ),
    ),
    Operation("GET", "/v1/services/{name}", "How one service stands.", _service, answers.Service),
    Operation("POST", "/v1/services/{name}/reload", "New code, after the active requests.", _reload, answers.Done),
    Operation("POST", "/v1/services/{name}/restart", "A new worker at once, whatever is active.", _restart, answers.Done),
    Operation("POST", "/v1/services/{name}/start", "Run it, once what it depends on is so far.", _start, answers.Done),
    Operation("POST", "/v1/services/{name}/stop", "End it; asked again, at once.", _stop, answers.Done),
    Operation("GET", "/v1/services/{name}/stacks", "Where every thread and task stands.", _stacks, list[events.Stack]),
    Operation(
        "POST",
        "/v1/services/{name}/input",
        "Type on its terminal.",
        _input,
        answers.Done,
        takes="application/octet-stream",
    ),
    Operation(
        "GET",
        "/v1/services/{name}/output",
        "What it prints, as it prints it.",
        _output,
        gives="application/octet-stream",
    ),
    Operation("GET", "/v1/requests", "What is active now.", _requests, list[answers.Active], (_SERVICE,)),
    Operation("GET", "/v1/events", "What happens, as it happens.", _events, query=(_SERVICE,), gives="text/event-stream"),
    Operation("POST", "/v1/down", "End all services, and devsup.", _down, answers.Done),
)
