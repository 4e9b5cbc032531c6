"""The wrapper around an ASGI app: keeps a record of each request and WebSocket, and can end streams cleanly."""

import asyncio
import functools
import typing
from time import monotonic

from devsup_agent import guard, loops
from devsup_agent.active import failures, in_flight, work
from devsup_agent.active.owners import enter, owner
from devsup_agent.active.websocket import WebSocket

_END = {"type": "http.response.body", "body": b"", "more_body": False}
_PROBE = (b"user-agent", b"devsup")
_LEAVE = 0.05  # seconds: an app that watches for the disconnect has left an ended stream by then


_EVENT_SOURCE = (b"accept", b"text/event-stream")


class Tracker:
    """All that may be active in one server. `changed` is called on every change, but only while somebody drains.

    A plain request costs a timestamp: what runs is read off uvicorn's own tasks and connections when somebody asks. Only event
    streams and WebSockets, which a reload may have to end, are wrapped.
    """

    def __init__(self, agent):
        self.agent = agent
        self.state: typing.Any = None  # uvicorn's server_state, once it has started
        self.requests = set()
        self.websockets = set()
        self.changed = None

    def records(self):
        """All that may be active."""
        found = self.requests | self.websockets
        for task in list(self.state.tasks):
            cycle = _cycle_of(task)
            if cycle is not None:
                record = work.record_of(cycle, task)
                in_flight.look(self, record)
                found.add(record)
        for protocol in list(self.state.connections):
            cycle = getattr(protocol, "cycle", None)
            if cycle is not None and cycle.response_complete and work.unwritten(protocol.transport):
                record = work.record_of(cycle, None)
                record.transport = protocol.transport
                found.add(record)
        return found

    def look(self):
        """Something has changed, if anybody cares."""
        if self.changed is not None:
            self.changed()

    def wrap(self, app):
        """The app that the server is to call instead of `app`."""
        background = self.agent.background

        # No coroutine of its own: a frame more would cost every request more than all the rest.
        def devsup(scope, receive, send):
            kind = scope["type"]
            if kind == "http":
                cycle = receive.__self__
                cycle.devsup_since = monotonic()
                if self.changed is not None:
                    self.changed()
                if not self.agent.has_answered:
                    send = self._first(send)
                if scope["method"] == "GET" and (_EVENT_SOURCE in scope["headers"] or self.agent.settings["streams"]):
                    request = Request(self, scope)
                    request.cycle = cycle
                    cycle.devsup_record = request
                    return self._http(request, app, scope, receive, send)
                if self.agent.settings["probed"] and _PROBE in scope["headers"]:
                    cycle.access_log = False
                enter(cycle)
                if background.resting:
                    background.stir(asyncio.get_running_loop())
                return app(scope, receive, send)
            if kind == "websocket":
                return self._websocket(app, scope, receive, send)
            return app(scope, receive, send)

        devsup.app = app  # type: ignore[attr-defined] # how the routes are found
        return devsup

    def _first(self, send):
        """Tell of the first answer."""

        def sent(message):
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                asyncio.get_running_loop().call_soon(self.agent.answered)
            return send(message)

        return sent

    async def _http(self, request, app, scope, receive, send):
        request.task = loops.current_task()
        request.send = send
        gone = []

        async def heard():
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.append(True)
            return message

        # Not a coroutine of its own: that would cost every request a frame for each message.
        def tracked(message):
            if request.leaving and request.is_whole():
                self.end_stream(request)
            if request.cut:
                return _swallow()
            with guard("the messages of an answer"):
                if message["type"] == "http.response.body":
                    request.wrote(message.get("body", b""))
                    if not message.get("more_body", False) and not gone:
                        request.ended()
                    if request.is_stream() and request.is_whole():
                        self.look()
                elif request.head is None:
                    if not isinstance(message.get("headers", ()), (list, tuple)):
                        message["headers"] = list(message["headers"])  # it may be read only once
                    request.answers(message.get("headers", ()), scope.get("path_params"))
            return send(message)

        enter(request)
        self.requests.add(request)
        self.agent.heart.stir_here()
        self.look()
        try:
            await app(scope, heard, tracked)
        except asyncio.CancelledError:
            if not request.cut:
                raise
        except Exception as exc:
            failures.of_record(request, exc)
            raise
        finally:
            self.requests.discard(request)
            self.agent.background.leave(request)
            self.look()

    async def _websocket(self, app, scope, receive, send):
        websocket = WebSocket(self, scope["path"], receive, send, scope.get("client"))
        self.websockets.add(websocket)
        self.agent.heart.stir_here()
        try:
            await app(scope, websocket.receive, websocket.send)
        except asyncio.CancelledError:
            if not websocket.cut:
                raise
        except Exception as exc:
            failures.of_record(websocket, exc)
            raise
        finally:
            self.websockets.discard(websocket)
            websocket.finished()

    def end_stream(self, request):
        """End a stream as if its app had: the client sees a whole answer, and reconnects."""
        request.cut = True
        loops.running().start(self._say_end, request)

    async def _say_end(self, request):
        try:
            await (request.send or in_flight.sender(request.cycle))(_END)
        finally:
            if request.send is None:
                request.cycle.disconnected = True  # what the app still sends goes nowhere
            if request.task is not None:
                await loops.sleep(_LEAVE)
                request.task.cancel()


class Request(work.Request):
    """One request to an ASGI app."""

    __slots__ = ("_loop", "_tracker")

    def __init__(self, tracker, scope):
        super().__init__(scope["method"], scope["path"])
        self._tracker, self._loop = tracker, loops.running()
        client = scope.get("client")
        self.peer = tuple(client) if client else None

    def end(self):
        """End it, from any thread."""
        self.cut = True
        self._loop.soon(self._tracker.end_stream, self)


class Recorder(Tracker):
    """The wrapper for other servers than uvicorn: every request has a record, which `drain` keeps."""

    def __init__(self, agent, drain):
        super().__init__(agent)
        self.requests = self.websockets = _Records(drain)  # type: ignore[assignment] # as much of a set as is used
        self.changed, self._drain = drain.changed, drain

    def wrap(self, app):
        """The app that the server is to call instead of `app`; what it takes besides the three is passed on."""

        async def devsup(scope, receive, send, *rest):
            receive, send = _of_nobody(receive), _of_nobody(self._parting(scope, send))

            async def call(scope, receive, send):
                await app(scope, receive, send, *rest)

            if scope["type"] == "http":
                request = Request(self, scope)

                async def cancellable(*args):
                    with loops.cancellable(request):
                        await call(*args)

                await self._http(request, cancellable, scope, receive, send)
            elif scope["type"] == "websocket":
                await self._websocket(call, scope, receive, send)
            else:
                await app(scope, receive, send, *rest)

        devsup.app = app  # type: ignore[attr-defined] # how the routes are found
        return devsup

    def _parting(self, scope, send):
        """Behind a closed gate an answer is its connection's last: a client that asks again at once would hold it for ever."""

        def parting(message):
            with guard("the headers of an answer"):
                if self._drain.is_closed and message["type"] == "http.response.start":
                    headers = list(message.get("headers", ()))
                    if not any(name.lower() == b"connection" for name, _ in headers):
                        message = {**message, "headers": [*headers, (b"connection", b"close")]}
            return send(message)

        return parting if scope.get("http_version") == "1.1" else send


def _of_nobody(function):
    """The server's `receive` or `send`: tasks that it starts, as for a keep-alive time-out, are not left behind by a request."""

    @functools.wraps(function)
    async def call(*args):
        token = enter(None)
        try:
            return await function(*args)
        finally:
            owner.reset(token)

    return call


class _Records:
    """Looks like a tracker's set of records, and hands them to a drain."""

    def __init__(self, drain):
        self.add, self.discard = drain.begin, drain.end


def routes(app):
    """['GET /path', …] of the innermost app that tells its routes."""
    for _ in range(10):
        if app is None or hasattr(app, "routes"):
            break
        app = getattr(app, "app", None)
    return _listed(app, "")


def _listed(router, prefix):
    found: list = []
    for route in getattr(router, "routes", None) or ():
        included = getattr(route, "original_router", None)  # FastAPI's include_router
        if included is not None:
            found += _listed(included, prefix + getattr(route.include_context, "prefix", ""))
            continue
        methods = ",".join(sorted(getattr(route, "methods", None) or ())) or ("WS" if "WebSocket" in type(route).__name__ else "")
        found.append(f"{methods} {prefix}{getattr(route, 'path', type(route).__name__)}".strip())
    return found


def _cycle_of(task):
    """The request that one of uvicorn's tasks works on; None for a WebSocket's."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    cycle = frame.f_locals.get("self") if frame is not None else None
    return cycle if hasattr(cycle, "response_complete") and hasattr(cycle, "devsup_since") else None


async def _swallow():
    await loops.turn()  # a stream that only sends would hold up all others
