"""The apps that the start styles serve: each as small as its framework allows, all with the same few routes.

`/` answers the version, `/slow` answers it once the file `release` lies in the folder, `/stream` never ends. Each import prints
a line. `"v1"` is what a test replaces, `@PORT@` the port.
"""

from __future__ import annotations

HEAD = """
import asyncio, os, sys, time
from pathlib import Path

print(f"imported {__name__} {os.getpid()}\\n", end="", flush=True)  # one write: processes print at the same time
VERSION = "v1"
RELEASE = Path.cwd() / "release"
EVENTS = "text/event-stream"

def hold():
    print("slow begins", flush=True)
    while not RELEASE.exists():
        time.sleep(0.01)
    return VERSION

async def ahold():
    print("slow begins", flush=True)
    while not RELEASE.exists():
        await asyncio.sleep(0.01)
    return VERSION

def ticks():
    while True:
        yield b"data: tick\\n\\n"
        time.sleep(0.05)

async def aticks():
    while True:
        yield b"data: tick\\n\\n"
        await asyncio.sleep(0.05)
"""

MAIN = '\nif __name__ == "__main__":\n    '

ASGI = (
    HEAD
    + """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    stream = scope["path"] == "/stream"
    headers = [(b"content-type", EVENTS.encode() if stream else b"text/plain")]
    body = (await ahold() if scope["path"] == "/slow" else VERSION).encode()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if stream:
        async for tick in aticks():
            await send({"type": "http.response.body", "body": tick, "more_body": True})
    await send({"type": "http.response.body", "body": body})
"""
)

# hypercorn's trio worker runs the app on trio's loop
TRIO = ASGI.replace("import asyncio,", "import trio as asyncio,")

WSGI = (
    HEAD
    + """
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", EVENTS)])
        return ticks()
    body = (hold() if path == "/slow" else VERSION).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
)

STARLETTE_ROUTES = """
from starlette.responses import PlainTextResponse, StreamingResponse

async def home(request):
    return PlainTextResponse(VERSION)

async def slow(request):
    return PlainTextResponse(await ahold())

async def stream(request):
    return StreamingResponse(aticks(), media_type=EVENTS)

PATHS = {"/": home, "/slow": slow, "/stream": stream}
"""

STARLETTE = (
    HEAD
    + STARLETTE_ROUTES
    + """
from starlette.applications import Starlette
from starlette.routing import Route

app = Starlette(routes=[Route(path, handler) for path, handler in PATHS.items()])
"""
)

FASTAPI = (
    HEAD
    + """
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse

app = FastAPI()

@app.get("/", response_class=PlainTextResponse)
async def home():
    return VERSION

@app.get("/slow", response_class=PlainTextResponse)
async def slow():
    return await ahold()

@app.get("/stream")
async def stream():
    return StreamingResponse(aticks(), media_type=EVENTS)
"""
)

FLASK = (
    HEAD
    + """
from flask import Flask, Response

app = Flask(__name__)

@app.get("/")
def home():
    return VERSION

@app.get("/slow")
def slow():
    return hold()

@app.get("/stream")
def stream():
    return Response(ticks(), mimetype=EVENTS)
"""
)

QUART = (
    HEAD
    + """
from quart import Quart

app = Quart(__name__)

@app.get("/")
async def home():
    return VERSION

@app.get("/slow")
async def slow():
    return await ahold()

@app.get("/stream")
async def stream():
    return aticks(), 200, {"Content-Type": EVENTS}
"""
)

SOCKETSERVER = (
    HEAD
    + """
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer

class Http(SimpleHTTPRequestHandler):
    def do_GET(self):
        body = (hold() if self.path == "/slow" else VERSION).encode()
        self.send_response(200)
        self.send_header("Content-Type", EVENTS if self.path == "/stream" else "text/plain")
        self.end_headers()
        for piece in ticks() if self.path == "/stream" else [body]:
            self.wfile.write(piece)

class Tcp(StreamRequestHandler):
    def handle(self):
        path = self.rfile.readline().decode().split()[1]
        while self.rfile.readline().strip():
            pass
        body = (hold() if path == "/slow" else VERSION).encode()
        self.wfile.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body)

ThreadingTCPServer.allow_reuse_address = ThreadingTCPServer.daemon_threads = True
"""
)

AIOHTTP = (
    HEAD
    + """
from aiohttp import web

async def home(request):
    return web.Response(text=VERSION)

async def slow(request):
    return web.Response(text=await ahold())

async def stream(request):
    response = web.StreamResponse(headers={"Content-Type": EVENTS})
    await response.prepare(request)
    async for tick in aticks():
        await response.write(tick)

def make(argv=None):
    app = web.Application()
    app.add_routes([web.get("/", home), web.get("/slow", slow), web.get("/stream", stream)])
    return app
"""
)

TORNADO = (
    HEAD
    + """
import tornado.web

class Home(tornado.web.RequestHandler):
    def get(self):
        self.write(VERSION)

class Slow(tornado.web.RequestHandler):
    async def get(self):
        self.write(await ahold())

class Stream(tornado.web.RequestHandler):
    async def get(self):
        self.set_header("Content-Type", EVENTS)
        async for tick in aticks():
            self.write(tick)
            await self.flush()

def make(**settings):
    return tornado.web.Application([("/", Home), ("/slow", Slow), ("/stream", Stream)], **settings)

async def main(**settings):
    make(**settings).listen(@PORT@, "127.0.0.1")
    await asyncio.Event().wait()
"""
)

DJANGO = {
    "manage.py": """
import os, sys
from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
""",
    "settings.py": """
DEBUG = True
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "main"
INSTALLED_APPS = [@APPS@]
ASGI_APPLICATION = "asgi.application"
WSGI_APPLICATION = "wsgi.application"
""",
    "asgi.py": """
import os
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
application = get_asgi_application()
""",
    "wsgi.py": """
import os
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
application = get_wsgi_application()
""",
    "main.py": HEAD
    + """
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

def home(request):
    return HttpResponse(VERSION)

def slow(request):
    return HttpResponse(hold())

def stream(request):
    return StreamingHttpResponse(aticks() if isinstance(request, ASGIRequest) else ticks(), content_type=EVENTS)

urlpatterns = [path("", home), path("slow", slow), path("stream", stream)]
""",
}

SANIC = (
    HEAD
    + """
from sanic import Sanic, text

app = Sanic("tiny")

@app.get("/")
async def home(request):
    return text(VERSION)

@app.get("/slow")
async def slow(request):
    return text(await ahold())

@app.get("/stream")
async def stream(request):
    response = await request.respond(content_type=EVENTS)
    async for tick in aticks():
        await response.send(tick)
"""
)

LITESTAR = (
    HEAD
    + """
from litestar import Litestar, MediaType, get
from litestar.response import Stream

@get("/", media_type=MediaType.TEXT)
async def home() -> str:
    return VERSION

@get("/slow", media_type=MediaType.TEXT)
async def slow() -> str:
    return await ahold()

@get("/stream")
async def stream() -> Stream:
    return Stream(aticks(), media_type=EVENTS)

app = Litestar([home, slow, stream])
"""
)

BOTTLE = (
    HEAD
    + """
from bottle import Bottle, response

app = Bottle()

@app.get("/")
def home():
    return VERSION

@app.get("/slow")
def slow():
    return hold()

@app.get("/stream")
def stream():
    response.content_type = EVENTS
    return ticks()
"""
)

CHERRYPY = (
    HEAD
    + """
import cherrypy

class App:
    @cherrypy.expose
    def index(self):
        return VERSION

    @cherrypy.expose
    def slow(self):
        return hold()

    @cherrypy.expose
    def stream(self):
        cherrypy.response.headers["Content-Type"] = EVENTS
        return ticks()

    stream._cp_config = {"response.stream": True}
"""
)

PYRAMID = {
    "main.py": HEAD
    + """
from pyramid.config import Configurator
from pyramid.response import Response

def view(request):
    if request.path == "/stream":
        return Response(app_iter=ticks(), content_type=EVENTS)
    return Response(hold() if request.path == "/slow" else VERSION)

def make(global_config, **settings):
    config = Configurator(settings=settings)
    for name in ("", "slow", "stream"):
        config.add_route(name or "home", "/" + name)
        config.add_view(view, route_name=name or "home")
    return config.make_wsgi_app()
""",
    "development.ini": """
[app:main]
use = call:main:make

[server:main]
use = egg:waitress#main
listen = 127.0.0.1:@PORT@
""",
}

# -- apps of frameworks with a server of their own: their routes are put in where the framework lets them ----------------

NICEGUI = (
    HEAD
    + STARLETTE_ROUTES
    + """
from nicegui import app, ui

for path, handler in PATHS.items():
    app.add_route(path if path != "/" else "/version", handler)

@ui.page("/")
def index():
    ui.label(VERSION)

ui.run(port=@PORT@, host="127.0.0.1", show=False)
"""
)

FASTHTML = (
    HEAD
    + """
from fasthtml.common import StreamingResponse, fast_app, serve

app, rt = fast_app()

@rt("/")
def get():
    return VERSION

@rt("/slow")
async def slow():
    return await ahold()

@rt("/stream")
async def stream():
    return StreamingResponse(aticks(), media_type=EVENTS)

serve(port=@PORT@, host="127.0.0.1")
"""
)

GRADIO = (
    HEAD
    + """
import gradio as gr

with gr.Blocks(title=VERSION) as demo:
    text = gr.Textbox()
    gr.Button().click(ahold, None, text, api_name="slow")

if __name__ == "__main__":
    demo.launch(server_name="127.0.0.1", server_port=@PORT@)
"""
)

FASTMCP = (
    HEAD
    + STARLETTE_ROUTES
    + """
from fastmcp import FastMCP

mcp = FastMCP("tiny")
for path, handler in PATHS.items():
    mcp.custom_route(path, methods=["GET"])(handler)

@mcp.tool
def version() -> str:
    return VERSION
"""
)

SHINY = (
    HEAD
    + """
from shiny import App, ui

app = App(ui.page_fluid(VERSION), lambda input: None)
"""
)

CHAINLIT = (
    HEAD
    + STARLETTE_ROUTES
    + """
import chainlit as cl
from chainlit.server import app
from starlette.routing import Route

for path, handler in PATHS.items():  # before its catch-all
    app.router.routes.insert(0, Route(path if path != "/" else "/version", handler))

@cl.on_message
async def reply(message):
    await cl.Message(content=VERSION).send()
"""
)

STREAMLIT = 'import streamlit as st\nst.write("v1")\n'

DASH = (
    HEAD
    + """
from dash import Dash, html
from flask import Response

app = Dash(__name__)
app.layout = html.Div(VERSION)
app.server.add_url_rule("/version", "version", lambda: VERSION)
app.server.add_url_rule("/slow", "slow", hold)
app.server.add_url_rule("/stream", "stream", lambda: Response(ticks(), mimetype=EVENTS))
"""
)

PANEL = 'import panel as pn\npn.pane.Markdown("v1").servable()\n'

BOKEH = 'from bokeh.io import curdoc\ncurdoc().title = "v1"\n'

MARIMO = """
import marimo
app = marimo.App(app_title="v1")

@app.cell
def _():
    1
    return

if __name__ == "__main__":
    app.run()
"""

DATASETTE_PLUGIN = (
    HEAD
    + """
from datasette import Response, hookimpl

async def home():
    return Response.text(VERSION)

async def slow():
    return Response.text(await ahold())

async def stream(send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", EVENTS.encode())]})
    async for tick in aticks():
        await send({"type": "http.response.body", "body": tick, "more_body": True})

@hookimpl
def register_routes():
    return [("^/version$", home), ("^/slow$", slow), ("^/stream$", stream)]
"""
)

JUPYTER_EXTENSION = (
    TORNADO.partition("def make")[0]
    + """
def _jupyter_server_extension_points():
    return [{"module": "main"}]

def _load_jupyter_server_extension(server):
    server.web_app.add_handlers(".*", [("/version", Home), ("/slow", Slow), ("/stream", Stream)])
"""
)

ROBYN = (
    HEAD
    + """
from robyn import Robyn

app = Robyn(__file__)

@app.get("/")
async def home(request):
    return VERSION

@app.get("/slow")
async def slow(request):
    return await ahold()
"""
)

# -- programs that start a server in a way of their own -----------------------------------------------------------------

PROBES_PORT = """
    import socket, uvicorn
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", @PORT@))
    uvicorn.run(app, port=@PORT@)
"""

MOVES_ON = """
    import socket, uvicorn

    def is_taken(port):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return True
        return False

    port = next(port for port in range(@PORT@, @PORT@ + 100) if not is_taken(port))
    uvicorn.run(app, port=port)
"""

CONNECTS_FIRST = """
    import socket, uvicorn

    def is_taken(port):
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    port = next(port for port in range(@PORT@, @PORT@ + 100) if not is_taken(port))
    uvicorn.run(app, port=port)
"""

IN_A_PROCESS = """
    import multiprocessing, uvicorn
    multiprocessing.set_start_method("@METHOD@")
    process = multiprocessing.Process(target=uvicorn.run, args=("main:app",), kwargs={"port": @PORT@})
    process.start()
    process.join()
"""
