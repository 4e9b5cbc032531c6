"""One small app in the dialect of each server, and the command that serves it. All have the same routes.

`/` tells the version; `/held?until=NAME` works until the test makes that file; `/echo` gives a body back; `/big` is larger than
all buffers; `/stream` is an endless event stream; `/boom` fails; `/ws` answers `hold NAME` once that file is there, answers
other messages at once, keeps quiet on `hush`, and from `push` on tells the time for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

BIG = 20_000_000  # bytes

_TOP = """
import atexit
import asyncio
import os
import sys
import time

VERSION = "@VERSION@"
print(f"imported {VERSION}\\n", end="", flush=True)  # one write: processes print at the same time
atexit.register(lambda: print(f"atexit {VERSION}\\n", end="", flush=True))


def wait_for(name):
    print("begins", name, flush=True)
    while not os.path.exists(name):
        time.sleep(0.01)


async def sleep(seconds):
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        import trio
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def until(name):
    print("begins", name, flush=True)
    while not os.path.exists(name):
        await sleep(0.01)


async def reply(text, send):
    if text.startswith("hold "):
        await until(text[5:])
        await send("held " + VERSION)
    elif text == "push":
        while True:
            await send(str(time.time()))
            await sleep(0.05)
    elif text != "hush":
        await send(VERSION + " " + text)
"""

ASGI = (
    _TOP
    + """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await websocket(receive, send)
        return
    path, query = scope["path"], scope["query_string"].decode()
    kind, body = b"text/plain", VERSION.encode()
    if path == "/held":
        await until(query.partition("=")[2])
        body = b"held " + body
    elif path == "/echo":
        body += b" "
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    elif path == "/big":
        body = b"x" * 20_000_000
    elif path == "/boom":
        raise RuntimeError("boom")
    elif path == "/stream":
        await stream(send)
        return
    head = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def stream(send):
    head = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"data: " + VERSION.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"\\n\\n", "more_body": True})
            await sleep(0.05)
    finally:
        print("stream closed", VERSION, flush=True)


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})

    async def say(text):
        await send({"type": "websocket.send", "text": text})

    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("disconnected", message.get("code"), flush=True)
            return
        await reply(message["text"], say)
"""
)

WSGI = (
    _TOP
    + """
def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = VERSION.encode()
    if path == "/held":
        wait_for(query.partition("=")[2])
        body = b"held " + body
    elif path == "/echo":
        body += b" " + environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    elif path == "/big":
        body = b"x" * 20_000_000
    elif path == "/boom":
        raise RuntimeError("boom")
    elif path == "/stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def events():
    try:
        while True:
            yield b"data: " + VERSION.encode() + b"\\n\\n"
            time.sleep(0.05)
    finally:
        print("stream closed", VERSION, flush=True)
"""
)

WSGIREF = (
    WSGI
    + """
from wsgiref.simple_server import make_server

try:
    make_server("127.0.0.1", int(os.environ["APP_PORT"]), app).serve_forever()
finally:
    print("finally", VERSION, flush=True)
"""
)

DJANGO = (
    _TOP
    + """
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(DEBUG=True, ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"], USE_TZ=True)


def home(request):
    return HttpResponse(VERSION)


def held(request):
    wait_for(request.GET["until"])
    return HttpResponse("held " + VERSION)


def echo(request):
    return HttpResponse(VERSION.encode() + b" " + request.body)


def big(request):
    return HttpResponse(b"x" * 20_000_000)


def boom(request):
    raise RuntimeError("boom")


def stream(request):
    def events():
        try:
            while True:
                yield "data: " + VERSION + "\\n\\n"
                time.sleep(0.05)
        finally:
            print("stream closed", VERSION, flush=True)

    return StreamingHttpResponse(events(), content_type="text/event-stream")


urlpatterns = [path("", home), *(path(each.__name__, each) for each in (held, echo, big, boom, stream))]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""
)

HTTP_SERVER = (
    _TOP
    + """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        body = VERSION.encode()
        if path == "/held":
            wait_for(query.partition("=")[2])
            body = b"held " + body
        elif path == "/big":
            body = b"x" * 20_000_000
        elif path == "/boom":
            raise RuntimeError("boom")
        elif path == "/echo":
            body += b" " + self.rfile.read(int(self.headers["Content-Length"]))
        elif path == "/stream":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            while True:
                self.wfile.write(b"data: " + body + b"\\n\\n")
                time.sleep(0.05)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        pass


try:
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler).serve_forever()
finally:
    print("finally", VERSION, flush=True)
"""
)

AIOHTTP = (
    _TOP
    + """
from aiohttp import WSMsgType, web


async def home(request):
    return web.Response(text=VERSION)


async def held(request):
    await until(request.query["until"])
    return web.Response(text="held " + VERSION)


async def echo(request):
    return web.Response(body=VERSION.encode() + b" " + await request.read())


async def big(request):
    return web.Response(body=b"x" * 20_000_000)


async def boom(request):
    raise RuntimeError("boom")


async def stream(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        while True:
            await response.write(b"data: " + VERSION.encode() + b"\\n\\n")
            await asyncio.sleep(0.05)
    finally:
        print("stream closed", VERSION, flush=True)


async def websocket(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type == WSMsgType.TEXT:
            await reply(message.data, ws.send_str)
    print("disconnected", ws.close_code, flush=True)
    return ws


async def cleaned(app):
    print("cleanup", VERSION, flush=True)


app = web.Application(client_max_size=2**30)
app.on_cleanup.append(cleaned)
app.router.add_get("/", home)
app.router.add_post("/echo", echo)
app.router.add_get("/ws", websocket)
for each in (held, big, boom, stream):
    app.router.add_get("/" + each.__name__, each)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ["APP_PORT"]), print=None)
"""
)

TORNADO = (
    _TOP
    + """
import tornado.web
import tornado.websocket


class Home(tornado.web.RequestHandler):
    def get(self):
        self.write(VERSION)


class Held(tornado.web.RequestHandler):
    async def get(self):
        await until(self.get_argument("until"))
        self.write("held " + VERSION)


class Echo(tornado.web.RequestHandler):
    def post(self):
        self.write(VERSION.encode() + b" " + self.request.body)


class Big(tornado.web.RequestHandler):
    def get(self):
        self.write(b"x" * 20_000_000)


class Boom(tornado.web.RequestHandler):
    def get(self):
        raise RuntimeError("boom")


class Stream(tornado.web.RequestHandler):
    async def get(self):
        self.set_header("Content-Type", "text/event-stream")
        try:
            while True:
                self.write("data: " + VERSION + "\\n\\n")
                await self.flush()
                await asyncio.sleep(0.05)
        finally:
            print("stream closed", VERSION, flush=True)


class Socket(tornado.websocket.WebSocketHandler):
    async def on_message(self, message):
        await reply(message, self.write_message)

    def on_close(self):
        print("disconnected", self.close_code, flush=True)


async def main():
    handlers = [("/held", Held), ("/echo", Echo), ("/big", Big), ("/boom", Boom), ("/stream", Stream), ("/ws", Socket)]
    app = tornado.web.Application([("/", Home), *handlers], debug=True)
    app.listen(int(os.environ["APP_PORT"]), "127.0.0.1", max_buffer_size=2**30)
    try:
        await asyncio.Event().wait()
    finally:
        print("finally", VERSION, flush=True)


asyncio.run(main())
"""
)

SANIC = (
    _TOP
    + """
from sanic import Sanic, response

app = Sanic("devsuptest")


@app.get("/")
async def home(request):
    return response.text(VERSION)


@app.get("/held")
async def held(request):
    await until(request.args.get("until"))
    return response.text("held " + VERSION)


@app.post("/echo")
async def echo(request):
    return response.raw(VERSION.encode() + b" " + request.body)


@app.get("/big")
async def big(request):
    return response.raw(b"x" * 20_000_000)


@app.get("/boom")
async def boom(request):
    raise RuntimeError("boom")


@app.get("/stream")
async def stream(request):
    answer = await request.respond(content_type="text/event-stream")
    try:
        while True:
            await answer.send("data: " + VERSION + "\\n\\n")
            await asyncio.sleep(0.05)
    finally:
        print("stream closed", VERSION, flush=True)


@app.websocket("/ws")
async def websocket(request, ws):
    async for message in ws:
        await reply(message, ws.send)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["APP_PORT"]), single_process=True, motd=False)
"""
)

ASYNCIO = (
    _TOP
    + """
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            path, _, query = head.split()[1].decode().partition("?")
            body = VERSION.encode()
            if path == "/held":
                await until(query.partition("=")[2])
                body = b"held " + body
            elif path == "/big":
                body = b"x" * 20_000_000
            elif path == "/echo":
                length = head.lower().partition(b"content-length:")[2].split()[0]
                body += b" " + await reader.readexactly(int(length))
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: " + str(len(body)).encode() + b"\\r\\n\\r\\n" + body)
            await writer.drain()
            if b"connection: close" in head.lower():
                break
    except asyncio.IncompleteReadError:
        pass
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["APP_PORT"]))
    try:
        await server.serve_forever()
    finally:
        print("finally", VERSION, flush=True)


asyncio.run(main())
"""
)

THREADS = (
    _TOP
    + """
import socket
import threading


def serve(sock):
    file = sock.makefile("rb")
    with sock, file:
        while True:
            line = file.readline()
            if not line:
                return
            path, _, query = line.split()[1].decode().partition("?")
            length, close = 0, False
            while (header := file.readline().lower().strip()):
                length = int(header.split()[1]) if header.startswith(b"content-length:") else length
                close = close or header == b"connection: close"
            body = VERSION.encode()
            if path == "/held":
                wait_for(query.partition("=")[2])
                body = b"held " + body
            elif path == "/big":
                body = b"x" * 20_000_000
            elif path == "/echo":
                body += b" " + file.read(length)
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: " + str(len(body)).encode() + b"\\r\\n\\r\\n" + body)
            if close:
                return


listener = socket.create_server(("127.0.0.1", int(os.environ["APP_PORT"])))
try:
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=serve, args=(accepted,), daemon=True).start()
finally:
    print("finally", VERSION, flush=True)
"""
)


@dataclass(frozen=True)
class Server:
    """How one server is started; `{port}` in its command is the port."""

    name: str
    code: str
    command: str
    knows: bool = True  # requests by their method and path, and event streams
    websockets: bool = False
    processes: int = 1  # that import the app
    at_once: bool = True  # answers requests while another one is worked on

    def words(self, port: int) -> list[str]:
        """The command, on this port."""
        return self.command.format(port=port).split()


_HYPERCORN = "hypercorn main:app -b 127.0.0.1:{port}"
_GUNICORN = "gunicorn main:app -b 127.0.0.1:{port}"

SERVERS = [
    Server("hypercorn", ASGI, _HYPERCORN, websockets=True),
    Server("hypercorn-uvloop", ASGI, _HYPERCORN + " -k uvloop", websockets=True),
    Server("hypercorn-trio", ASGI, _HYPERCORN + " -k trio", websockets=True),
    Server("hypercorn-w0", ASGI, _HYPERCORN + " -w 0", websockets=True),
    Server("hypercorn-w2", ASGI, _HYPERCORN + " -w 2", websockets=True, processes=2),
    Server("gunicorn", WSGI, _GUNICORN, at_once=False),
    Server("gunicorn-gthread", WSGI, _GUNICORN + " --threads 4"),
    Server("gunicorn-asgi", ASGI, _GUNICORN + " -k asgi", websockets=True),
    Server("gunicorn-uvicorn", ASGI, _GUNICORN + " -k uvicorn_worker.UvicornWorker", websockets=True),
    Server("gunicorn-w2", WSGI, _GUNICORN + " -w 2", processes=2),
    Server("daphne", ASGI, "daphne -b 127.0.0.1 -p {port} main:app", websockets=True),
    Server("waitress", WSGI, "waitress-serve --listen=127.0.0.1:{port} main:app"),
    Server("aiohttp", AIOHTTP, "python main.py", websockets=True),
    Server("tornado", TORNADO, "python main.py", websockets=True),
    Server("sanic", SANIC, "python main.py", websockets=True),
    Server("wsgiref", WSGIREF, "python main.py", at_once=False),
    Server("http.server", HTTP_SERVER, "python main.py"),
    Server("django", DJANGO, "python main.py runserver 127.0.0.1:{port}"),
    Server("asyncio", ASYNCIO, "python main.py", knows=False),
    Server("threads", THREADS, "python main.py", knows=False),
]
BY_NAME = {server.name: server for server in SERVERS}
