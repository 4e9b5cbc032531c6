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


def program(family: str, name: str, version: int) -> str:
    """An app that answers `v<version>` at /: of a family (asgi, flask, django), as light, heavy, tenfold or work.

    `work` has requests to be caught by a save, and says at /begun how many of them have begun.
    """
    answer = f"v{version}"
    template = {"asgi": STARLETTE_WORK, "flask": FLASK, "django": DJANGO}[family]
    text = starlette(answer, version) if family == "asgi" and name != "work" else template.replace("ANSWER", answer)
    imports = "".join(f"import {module}\n" for module in IMPORTS.get(name, ()))
    return f"# {'.' * version}\n{imports}{text}"  # a length of its own, as in starlette()


def files(family: str, name: str, version: int = 0) -> dict[str, str]:
    """The folder that the program is served from."""
    return {"app.py": program(family, name, version)} | ({"manage.py": MANAGE} if family == "django" else {})


HEAVY = ("fastapi", "pandas", "sqlalchemy")
IMPORTS = {"heavy": HEAVY, "tenfold": (*HEAVY, "sympy")}

STARLETTE_WORK = """\
import asyncio
import time

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

BEGUN = []


async def index(request):
    return PlainTextResponse("ANSWER")


async def begun(request):
    return PlainTextResponse(str(len(BEGUN)))


async def slow(request):
    BEGUN.append(request.url.path)
    await asyncio.sleep(3)
    return PlainTextResponse("whole")


async def blocked(request):
    BEGUN.append(request.url.path)
    await asyncio.sleep(0.3)
    time.sleep(3)
    return PlainTextResponse("whole")


async def events(count):
    for number in range(count):
        yield f"data: {number}\\n\\n"
        await asyncio.sleep(0.1)
    yield "data: whole\\n\\n"


async def tokens(request):
    BEGUN.append(request.url.path)
    return StreamingResponse(events(30), media_type="text/event-stream")


async def endless(request):
    BEGUN.append(request.url.path)
    return StreamingResponse(events(10**6), media_type="text/event-stream")


async def socket(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        BEGUN.append(text)
        await asyncio.sleep(3)
        await websocket.send_text("whole")


ROUTES = [Route("/" + each.__name__, each) for each in (begun, slow, blocked, tokens, endless)]
app = Starlette(routes=[Route("/", index), *ROUTES, WebSocketRoute("/ws", socket)])
"""

WSGI_WORK = """\
BEGUN = []


def events(count):
    for number in range(count):
        yield f"data: {number}\\n\\n"
        time.sleep(0.1)
    yield "data: whole\\n\\n"


def slow():
    BEGUN.append("slow")
    time.sleep(3)
    return "whole"


def stream(count):
    BEGUN.append("stream")
    return events(count)
"""

FLASK = f"""\
import time

from flask import Flask, Response

{WSGI_WORK}

app = Flask(__name__)
app.add_url_rule("/", "index", lambda: "ANSWER")
app.add_url_rule("/begun", "begun", lambda: str(len(BEGUN)))
app.add_url_rule("/slow", "slow", slow)
app.add_url_rule("/tokens", "tokens", lambda: Response(stream(30), mimetype="text/event-stream"))
app.add_url_rule("/endless", "endless", lambda: Response(stream(10**6), mimetype="text/event-stream"))
"""

DJANGO = f"""\
import time

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

{WSGI_WORK}

urlpatterns = [
    path("", lambda request: HttpResponse("ANSWER")),
    path("begun", lambda request: HttpResponse(len(BEGUN))),
    path("slow", lambda request: HttpResponse(slow())),
    path("tokens", lambda request: StreamingHttpResponse(stream(30), content_type="text/event-stream")),
    path("endless", lambda request: StreamingHttpResponse(stream(10**6), content_type="text/event-stream")),
]
"""

# A file of its own, for runserver ends when the file that it was started from does not compile.
MANAGE = """\
import sys

from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(DEBUG=True, ROOT_URLCONF="app", SECRET_KEY="benchmark")
execute_from_command_line(sys.argv)
"""
