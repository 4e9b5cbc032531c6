"""What the banner lists of an ASGI app."""

from __future__ import annotations

import importlib
from typing import Any

from fastapi import APIRouter, FastAPI, WebSocket
from starlette.routing import Mount

asgi: Any = importlib.import_module("devsup_agent.active.asgi")


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
