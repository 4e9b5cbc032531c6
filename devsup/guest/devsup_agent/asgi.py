"""The wrapper around an ASGI app: keeps a record of each request and WebSocket, and can end streams cleanly."""

import asyncio

from devsup_agent import work
from devsup_agent.websocket import WebSocket

_END = {"type": "http.response.body", "body": b"", "more_body": False}
_LEAVE = 0.05  # seconds: an app that watches for the disconnect has left an ended stream by then


class Tracker:
    """All records of one server. `changed` is called on every change, but only while somebody drains."""

    def __init__(self, agent):
        self.agent = agent
        self.requests = set()
        self.websockets = set()
        self.writing = set()  # answers whose app has returned, and that a slow client still reads
        self.changed = None
        self._last_words = set()

    def records(self):
        """All that may be active."""
        self.writing = {each for each in self.writing if each.busy(0)}
        return self.requests | self.websockets | self.writing

    def streams(self):
        """The per-route settings."""
        return self.agent.settings.get("streams", {})

    def wrap(self, app):
        """The app that the server is to call instead of `app`."""

        async def devsup(scope, receive, send):
            kind = scope["type"]
            if kind == "http":
                await self._http(app, scope, receive, send)
            elif kind == "websocket":
                await self._websocket(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        devsup.app = app  # type: ignore[attr-defined] # how the routes are found
        return devsup

    async def _http(self, app, scope, receive, send):
        request = work.Request(scope["method"], scope["path"], self.streams)
        request.task = asyncio.current_task()
        request.send = send
        request.cycle = getattr(receive, "__self__", None)

        # Not a coroutine of its own: that would cost every request a frame for each message.
        def tracked(message):
            if request.cut:
                return _swallow()
            if message["type"] == "http.response.body":
                request.last = bytes(message.get("body", b"")[-4:])
                if self.changed is not None and request.at_event_end():
                    self.changed()
            elif request.head is None:
                request.head = message.get("headers", ())
            return send(message)

        self.requests.add(request)
        if self.changed is not None:
            self.changed()
        try:
            await app(scope, receive, tracked)
        except asyncio.CancelledError:
            if not request.cut:
                raise
        finally:
            self.requests.discard(request)
            self._note_unwritten(request)
            if self.changed is not None:
                self.changed()

    async def _websocket(self, app, scope, receive, send):
        websocket = WebSocket(self, scope["path"], receive, send)
        self.websockets.add(websocket)
        try:
            await app(scope, websocket.receive, websocket.send)
        except asyncio.CancelledError:
            if not websocket.cut:
                raise
        finally:
            self.websockets.discard(websocket)
            websocket.finished()

    def _note_unwritten(self, request):
        transport = getattr(request.cycle, "transport", None)
        if work.unwritten(transport):
            request.transport = transport
            self.writing = {each for each in self.writing if each.busy(0)} | {request}

    def end_stream(self, request):
        """End an event stream as if its app had: the client sees a whole answer, and reconnects."""
        request.cut = True
        words = asyncio.ensure_future(self._say_end(request))
        self._last_words.add(words)
        words.add_done_callback(self._last_words.discard)

    async def _say_end(self, request):
        try:
            await request.send(_END)
        except Exception:
            return
        finally:
            asyncio.get_running_loop().call_later(_LEAVE, request.task.cancel)


async def _swallow():
    return None
