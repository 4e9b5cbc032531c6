"""An ASGI app that uses all that the protocol allows, and some that it does not; it is copied into a project and served."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import os
import signal
import threading
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import part  # type: ignore[import-not-found] # it stands beside this file once that is copied
import parts  # type: ignore[import-not-found] # likewise
from starlette.applications import Starlette

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = dict[str, Any]

SEEN = Path(os.environ["SEEN"])
TEXT = [(b"content-type", b"text/plain"), (b"x-version", part.NAME.encode())]
WORD: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="unset")
made: list[str] = []  # the tasks that went through the app's own task factory
caught: list[int] = []  # signals that the app's own handler has got


def saw(name: str, what: object) -> None:
    """Tell the test what only the app can see: appended to a file beside the project."""
    with (SEEN / name).open("a") as file:
        file.write(json.dumps(what) + "\n")


def plain(value: object) -> Any:
    """The value as JSON has it: bytes as text, the rest by its type's name."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, (str, int, float, type(None))) else type(value).__name__


async def answer(send: Send, body: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    head = [*(TEXT if headers is None else headers), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def whole_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def released() -> None:
    """Wait until the test lets go: what this request does takes as long as a reload beside it."""
    saw("held", os.getpid())
    while not (SEEN / "release").exists():
        await asyncio.sleep(0.005)


# -- one function a path ----------------------------------------------------------------------------------------------


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await whole_body(receive)
    shown = {key: plain(scope[key]) for key in ("method", "path", "raw_path", "query_string", "http_version", "headers")}
    await answer(send, json.dumps({**shown, "body": body.decode("latin-1")[:200], "length": len(body)}).encode())


async def whole_scope(scope: Scope, receive: Receive, send: Send) -> None:
    """The scope, key by key in its order, and the types of what the app was given."""
    given = {"receive": callable(receive), "send": callable(send), "order": list(scope)}
    await answer(send, json.dumps({**given, "scope": plain(scope)}).encode())


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Five pieces, one of them empty, without a length."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    for piece in (b"one", b"", b"two" * 1000, b"three", b"4"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body"})


async def lines(scope: Scope, receive: Receive, send: Send) -> None:
    """An event stream that ends by itself."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(4):
        await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
        await asyncio.sleep(0.005)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def big(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"0123456789abcdef" * 150_000)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The status of the query string, without a body."""
    await send({"type": "http.response.start", "status": int(scope["query_string"]), "headers": [(b"x-empty", b"yes")]})
    await send({"type": "http.response.body"})


async def headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Repeated names, an order, capitals, and values that are not ASCII."""
    head = [
        (b"Set-Cookie", b"a=1"),
        (b"x-b", "é".encode("latin-1")),
        (b"set-cookie", b"b=2"),
        (b"server", b"mine"),
        (b"x-a", b""),
    ]
    await answer(send, b"headers", headers=head)


async def early_hint(scope: Scope, receive: Receive, send: Send) -> None:
    if "http.response.early_hint" in scope.get("extensions", {}):
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    await answer(send, json.dumps(plain(scope.get("extensions", {}))).encode())


async def trailers(scope: Scope, receive: Receive, send: Send) -> None:
    able = "http.response.trailers" in scope.get("extensions", {})
    head = [*TEXT, (b"trailer", b"x-sum")]
    await send({"type": "http.response.start", "status": 200, "headers": head, "trailers": able})
    await send({"type": "http.response.body", "body": b"before the trailers"})
    if able:
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"42")], "more_trailers": False})


async def informational(scope: Scope, receive: Receive, send: Send) -> None:
    """A 103 as a plain start message, which a server may refuse."""
    try:
        await send({"type": "http.response.start", "status": 103, "headers": [(b"link", b"</a>")]})
    except Exception as exc:
        saw("informational", repr(exc)[:200])
        raise
    await answer(send, b"after 103")


async def unread(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers without reading the request's body."""
    await answer(send, b"not read", status=413)


async def one_message(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a body message by message, each answered; so an upload and its answer overlap."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    total, more = 0, True
    while more:
        message = await receive()
        total, more = total + len(message["body"]), message["more_body"]
    await send({"type": "http.response.body", "body": str(total).encode()})
    saw("one_message", plain(dict(await receive())))


async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
    """What an app sees of a client that leaves: the message, and what `send` does from then on."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    messages: list[Any] = []
    while not messages or messages[-1]["type"] != "http.disconnect":
        messages.append(plain(dict(await receive())))
    ends: list[object] = []
    for _ in range(2):
        try:
            await send({"type": "http.response.body", "body": b"late", "more_body": True})
            ends.append(None)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is told
            ends.append(f"{type(exc).__mro__[:-3]}: {exc}")
    saw("leaves", [messages, ends, plain(dict(await receive()))])


async def after_end(scope: Scope, receive: Receive, send: Send) -> None:
    """`receive` and `send` once the answer is complete; works on for a moment, as a background task does."""
    await answer(send, b"complete")
    seen = [plain(dict(await receive())), plain(dict(await receive()))]
    try:
        await send({"type": "http.response.body", "body": b"too late"})
        seen.append("sent")
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is told
        seen.append(f"{type(exc).__name__}: {exc}")
    await asyncio.sleep(0.01)
    saw("after_end", seen)


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["query_string"] == b"mid":
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
    if scope["query_string"] == b"started":
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    if scope["query_string"] == b"cancelled":
        raise asyncio.CancelledError
    if scope["query_string"] != b"returns":
        raise ValueError("on purpose")


async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
    """Messages that the server has to refuse; the exception is told, then raised on."""
    kind = scope["query_string"].decode()
    bad: dict[str, list[Message]] = {
        "order": [{"type": "http.response.body", "body": b"first"}],
        "twice": [{"type": "http.response.start", "status": 200, "headers": TEXT}] * 2,
        "unknown": [{"type": "http.response.nonsense"}],
        "long": [
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]},
            {"type": "http.response.body", "body": b"too long"},
        ],
        "short": [
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"30")]},
            {"type": "http.response.body", "body": b"too short"},
        ],
    }
    try:
        for message in bad[kind]:
            await send(message)
    except BaseException as exc:
        saw(f"wrong-{kind}", f"{type(exc).__name__}: {exc}")
        raise


async def variable(scope: Scope, receive: Receive, send: Send) -> None:
    """A context variable set before a task, a thread and a callback: each sees it, and the next request does not."""
    before = WORD.get()
    WORD.set("set")
    loop = asyncio.get_running_loop()
    called: asyncio.Future[str] = loop.create_future()
    loop.call_soon(lambda: called.set_result(WORD.get()))

    async def seen() -> str:
        return WORD.get()

    found = [before, await asyncio.create_task(seen()), await asyncio.to_thread(WORD.get), await called]
    await answer(send, json.dumps(found).encode())


async def runtime(scope: Scope, receive: Receive, send: Send) -> None:
    """What the process looks like from inside a request."""
    await answer(send, json.dumps(await asyncio.to_thread(outside) | inside()).encode())


def inside() -> dict[str, object]:
    loop = asyncio.get_running_loop()
    return {
        "tasks": sorted(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks()),
        "current": getattr(asyncio.current_task().get_coro(), "__qualname__", "?"),  # type: ignore[union-attr] # in a request
        "name": asyncio.current_task().get_name().rpartition("-")[0],  # type: ignore[union-attr] # in a request
        "factory": getattr(loop.get_task_factory(), "__qualname__", None),
        "loop": type(loop).__module__,
        "debug": loop.get_debug(),
        "handler": repr(loop.get_exception_handler()),
    }


def outside() -> dict[str, object]:
    found = {}
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        found[str(number)] = getattr(handler, "__qualname__", str(handler))
    return {
        "threads": sorted(thread.name.rpartition("_")[0] or thread.name for thread in threading.enumerate()),
        "signals": found,
        "garbage": [len(gc.garbage), len(gc.callbacks), gc.get_threshold(), gc.isenabled()],
        "warnings": [str(each[:3]) for each in warnings.filters],
        "caught": caught,
    }


async def signalled(scope: Scope, receive: Receive, send: Send) -> None:
    """A signal that the app handles itself."""
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.01)
    await answer(send, str(len(caught) > 0).encode())


async def factory(scope: Scope, receive: Receive, send: Send) -> None:
    """The task factory that the app has set in its lifespan is asked for every task, by name."""
    made.clear()

    async def child() -> str:
        return "done"

    results = [await asyncio.create_task(child(), name="a name"), await asyncio.ensure_future(child())]
    task = asyncio.create_task(child(), name="its name")
    name = task.get_name()
    await task
    await answer(send, json.dumps([results, name, made]).encode())


# -- WebSockets -------------------------------------------------------------------------------------------------------


async def ws_echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes; `close:CODE:REASON` closes, `raise` and `return` end the app; what ended it is told."""
    await receive()
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[-1] if offered else None, "headers": [(b"x-ws", b"1")]})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            saw("ws" + scope["query_string"].decode(), plain(dict(message)))
            return
        text = message.get("text") or ""
        if text.startswith("close:"):
            _, code, reason = text.split(":")
            await send({"type": "websocket.close", "code": int(code), "reason": reason})
            return
        if text == "hold":
            await released()
        if text == "return":
            return
        if text == "raise":
            raise ValueError("on purpose")
        if text == "many":
            for number in range(20):
                await send({"type": "websocket.send", "text": f"{number}"})
        kept = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send", **kept})


async def ws_scope(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps({"order": list(scope), "scope": plain(scope)})})
    first = plain(dict(await receive()))
    await send({"type": "websocket.send", "text": json.dumps(first)})
    await send({"type": "websocket.close"})


async def ws_reject(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 3000, "reason": "no"})


async def ws_denial(scope: Scope, receive: Receive, send: Send) -> None:
    """The denial response extension, where the server has it."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]})
    await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"are you?"})


async def ws_ends(scope: Scope, receive: Receive, send: Send) -> None:
    """Ends before it has answered the handshake."""
    if scope["query_string"] == b"raise":
        raise ValueError("on purpose")


async def ws_late(scope: Scope, receive: Receive, send: Send) -> None:
    """What `send` and `receive` do once the client has left."""
    await send({"type": "websocket.accept"})
    seen: list[object] = [await receive()]
    while seen[-1]["type"] != "websocket.disconnect":  # type: ignore[index] # a message
        seen.append(await receive())
    for call in (lambda: send({"type": "websocket.send", "text": "late"}), lambda: send({"type": "websocket.close"}), receive):
        try:
            seen.append(await call())
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is told
            seen.append(f"{type(exc).__name__}: {exc}")
    saw("ws_late", plain(seen))


async def ws_tasks(scope: Scope, receive: Receive, send: Send) -> None:
    """A reader and a writer in tasks of their own, made by the app's task factory."""
    made.clear()
    await receive()
    await send({"type": "websocket.accept"})
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def read() -> None:
        while (message := await receive())["type"] == "websocket.receive":
            await queue.put(message["text"])
        await queue.put("")

    async def write() -> None:
        while text := await queue.get():
            await send({"type": "websocket.send", "text": text.upper()})
            if text == "end":
                await send({"type": "websocket.send", "text": json.dumps(made)})
                await send({"type": "websocket.close", "code": 4001})

    with suppress(asyncio.CancelledError):
        await asyncio.gather(asyncio.create_task(read(), name="reader"), asyncio.create_task(write(), name="writer"))


HTTP = {
    f"/{each.__name__}": each
    for each in (
        *(echo, whole_scope, stream, lines, big, nothing, headers, early_hint, trailers, informational, unread, one_message),
        *(leaves, after_end, raises, wrong, variable, runtime, signalled, factory),
    )
}
WS = {f"/{each.__name__}": each for each in (ws_echo, ws_scope, ws_reject, ws_denial, ws_ends, ws_late, ws_tasks)}


# -- the app ----------------------------------------------------------------------------------------------------------


def own_factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
    made.append(getattr(coro, "__qualname__", "?"))
    return asyncio.Task(coro, loop=loop, **kwargs)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    saw("lifespan", [os.getpid(), "scope", sorted(scope)])
    while True:
        message = await receive()
        saw("lifespan", [os.getpid(), message["type"], ""])
        if message["type"] == "lifespan.startup":
            scope.get("state", {}).update(number=1, text="kept", many=[1, 2])
            signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
            if os.environ.get("OWN_FACTORY"):
                asyncio.get_running_loop().set_task_factory(own_factory)
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


framework = Starlette(routes=parts.routes, middleware=parts.middleware)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    if b"hold" in scope["query_string"]:
        await released()
    if "/starlette" in scope["path"]:
        await framework(scope, receive, send)
    else:
        found = (HTTP if scope["type"] == "http" else WS).get(scope["path"].removeprefix(scope.get("root_path", "")))
        if found is not None:
            await found(scope, receive, send)
        elif scope["type"] == "http":
            await answer(send, b"not found", status=404)
        else:
            await send({"type": "websocket.close"})
