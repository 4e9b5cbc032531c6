"""What the banner lists of an ASGI app."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.routing import Mount

asgi: Any = importlib.import_module("devsup_agent.active.asgi")
agent: Any = importlib.import_module("devsup_agent.agent")
common: Any = importlib.import_module("devsup_agent.servers.common")


def test_routes_of_routers_in_routers() -> None:
    """FastAPI keeps an included router as one route."""
    app, outer, inner = FastAPI(openapi_url=None), APIRouter(prefix="/outer"), APIRouter(prefix="/inner")

    @outer.get("/items/{key}")
    def item(key: str) -> str:
        return key

    @inner.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()

    outer.include_router(inner)
    app.include_router(outer, prefix="/api")
    app.router.routes.append(Mount("/files", app=FastAPI()))
    assert asgi.routes(app) == ["GET /api/outer/items/{key}", "WS /api/outer/inner/ws", "/files"]


def test_an_app_that_tells_none() -> None:
    assert asgi.routes(object()) == []


@pytest.mark.parametrize(
    ("closed", "version", "sent", "expected"),
    [
        (True, "1.1", [], [(b"connection", b"close")]),
        (True, "1.1", [(b"Connection", b"keep-alive")], [(b"Connection", b"keep-alive")]),
        (True, "2", [], []),
        (False, "1.1", [], []),
    ],
)
def test_behind_a_closed_gate_an_answer_is_its_connections_last(
    closed: bool, version: str, sent: list[tuple[bytes, bytes]], expected: list[tuple[bytes, bytes]]
) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": sent})
        await send({"type": "http.response.body", "body": b"hello"})

    async def answer() -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        drain = common.Drain(lambda: None)
        drain.is_closed = closed
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": version}
        await asgi.Recorder(agent.agent, drain).wrap(app)(scope, receive, send)
        return messages

    start, body = asyncio.run(answer())
    assert start["headers"] == expected
    assert body["body"] == b"hello"
