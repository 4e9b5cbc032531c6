"""The control page of the simulator, and its switches for faults."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from simulator.feed import FAULTS, Feed

PAGE = Path(__file__).parent / "index.html"
log = logging.getLogger("uvicorn.error")
feed = Feed()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    feed.start()
    yield
    feed.stop()


async def page(request: Request) -> Response:
    return FileResponse(PAGE, headers={"Cache-Control": "no-store"})


async def status(request: Request) -> Response:
    return JSONResponse(feed.status())


# No coroutine: it waits for the thread to end, and must not keep the event loop waiting as well.
def switch(request: Request) -> Response:
    fault, state = request.path_params["fault"], request.path_params["state"]
    if fault not in FAULTS or state not in {"on", "off"}:
        return JSONResponse({"error": f"POST /faults/NAME/on or .../off; NAME is one of {', '.join(FAULTS)}."}, 404)
    if state == "on":
        feed.switch_on(fault)
    else:
        feed.switch_off(fault)
    log.info("fault %s is %s", fault, state)
    return JSONResponse(feed.status())


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", page),
        Route("/status.json", status),
        Route("/faults/{fault}/{state}", switch, methods=["POST"]),
    ],
)
