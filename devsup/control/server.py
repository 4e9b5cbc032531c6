"""The server of the control API: starlette on uvicorn, but for uvicorn's main loop, which wakes ten times a second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
import msgspec
import uvicorn
import uvicorn.protocols.http.h11_impl  # else it would be imported on the loop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from devsup.control.openapi import document
from devsup.control.operations import OPERATIONS, Operation, Problem

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from devsup.team import Team


async def answer(sock: socket.socket, team: Team) -> None:
    """Answer on this socket until cancelled."""
    config = uvicorn.Config(
        application(team),
        log_config=None,
        access_log=False,
        lifespan="off",
        loop="none",
        http=uvicorn.protocols.http.h11_impl.H11Protocol,
        ws="none",
        date_header=False,
        server_header=False,
        proxy_headers=False,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[sock])
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            server.force_exit = True
            await server.shutdown(sockets=[sock])


def application(team: Team) -> Starlette:
    """The ASGI app."""

    async def described(_request: Request) -> Response:
        return Response(msgspec.json.encode(document()), media_type="application/json")

    routes = [Route(each.path, _endpoint(each, team), methods=[each.method]) for each in OPERATIONS]
    return Starlette(routes=[*routes, Route("/openapi.json", described)])


def _endpoint(operation: Operation, team: Team) -> Callable[[Request], Awaitable[Response]]:

    async def endpoint(request: Request) -> Response:
        try:
            with team.answering():
                found = await operation.handler(team, request)
        except Exception as exc:  # noqa: BLE001 - a question that cannot be answered ends nothing
            status, detail = (exc.status, exc.detail) if isinstance(exc, Problem) else (500, repr(exc))
            problem = {"status": status, "title": "It cannot be done.", "detail": detail}
            return Response(msgspec.json.encode(problem), status, media_type="application/problem+json")
        if isinstance(found, AsyncIterator):
            return StreamingResponse(found, media_type=operation.gives)
        return Response(msgspec.json.encode(found), media_type=operation.gives)

    return endpoint
