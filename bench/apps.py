"""The apps that are measured, as texts."""

RAW = '''\
"""Hello world without a framework: what is left is the server."""

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
HEAD = {"type": "http.response.start", "status": 200, "headers": HEADERS}
BODY = {"type": "http.response.body", "body": b"hello"}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send(HEAD)
    await send(BODY)
'''


def starlette(answer: str, version: int = 0) -> str:
    """A small app; every version has a length of its own.

    Python knows a compiled file's source by size and by time in whole seconds: of two saves in one second that are
    equally long it may run the first.
    """
    return f'''\
"""A small Starlette app.

{"." * (version + 1)}
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

ANSWER = "{answer}"


async def index(request: Request) -> Response:
    return PlainTextResponse(ANSWER)


async def item(request: Request) -> Response:
    return JSONResponse({{"item": request.path_params["number"]}})


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(routes=[Route("/", index), Route("/items/{{number:int}}", item), WebSocketRoute("/ws", echo)])
'''
