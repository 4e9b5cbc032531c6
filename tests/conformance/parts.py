"""Starlette's own parts, each in a route: what apps are really made of."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

SEEN = Path(os.environ["SEEN"])


class Echo(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return JSONResponse({"url": str(request.url.path), "query": dict(request.query_params), "cookies": request.cookies})

    async def post(self, request: Request) -> Response:
        digest = hashlib.sha256()
        async for piece in request.stream():
            digest.update(piece)
        return PlainTextResponse(digest.hexdigest())


async def counting(request: Request) -> Response:
    async def count() -> AsyncIterator[str]:
        for number in range(5):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(count(), media_type="text/plain")


async def background(request: Request) -> Response:
    """Works on for a moment once it has answered."""

    async def work() -> None:
        await asyncio.sleep(0.01)
        (SEEN / "background").write_text('"done"\n')

    return PlainTextResponse("answered", background=BackgroundTask(work))


def in_thread(request: Request) -> Response:
    return PlainTextResponse("from a thread")


async def file(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("data.txt"), stat_result=None)


async def moved(request: Request) -> Response:
    return RedirectResponse("/starlette/echo")


async def teapot(request: Request) -> Response:
    raise HTTPException(418, "short and stout", headers={"x-pot": "tea"})


async def broken(request: Request) -> Response:
    raise RuntimeError("on purpose")


class Socket(WebSocketEndpoint):
    encoding = "json"

    async def on_receive(self, websocket: WebSocket, data: object) -> None:
        await websocket.send_json({"got": data})


async def greet(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="chat")
    await websocket.send_text(f"hello {websocket.query_params['name']}")
    await websocket.close(4242, "bye")


class Stamped(BaseHTTPMiddleware):
    """Runs the rest of the app in a task of its own, as many apps' middleware does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-stamped"] = request.method
        return response


middleware = [Middleware(GZipMiddleware, minimum_size=10_000), Middleware(Stamped)]
routes = [
    Mount(
        "/starlette",
        routes=[
            Route("/echo", Echo),
            Route("/counting", counting),
            Route("/background", background),
            Route("/in_thread", in_thread),
            Route("/file", file),
            Route("/moved", moved),
            Route("/teapot", teapot),
            Route("/broken", broken),
            WebSocketRoute("/socket", Socket),
            WebSocketRoute("/greet", greet),
        ],
    )
]
