"""sanic: its own server and handlers, on asyncio or uvloop."""

import asyncio
import functools
import multiprocessing

from devsup_agent import guard
from devsup_agent.active import handled, websocket
from devsup_agent.agent import agent
from devsup_agent.servers import common


def patch(module):
    """Plant the hooks; `module` is sanic.app or sanic.server.websockets.impl."""
    if module.__name__ == "sanic.app":
        _patch_app(module.Sanic)
    else:
        websocket.hear(module.WebsocketImplProtocol, "recv")
        websocket.say(module.WebsocketImplProtocol, "send")


def _patch_app(app_class):
    server_event = app_class._server_event

    @functools.wraps(server_event)
    async def _server_event(self, concern, action, *args, **kwargs):
        if (concern, action) == ("init", "before"):
            with guard("a hook of sanic"):
                _wrap(type(self))
        await server_event(self, concern, action, *args, **kwargs)
        if (concern, action) == ("init", "after"):
            with guard("a hook of sanic"):
                _serve(self)

    app_class._server_event = _server_event
    app_class._websocket_handler = _told(app_class._websocket_handler)


def _serve(app):
    parent = multiprocessing.parent_process()
    agent.manager = parent.pid if parent is not None else None
    app.ctx.devsup = common.Drain(functools.partial(common.leave, asyncio.get_running_loop()))
    agent.serve(app.ctx.devsup, "sanic", [f"{','.join(sorted(each.methods))} /{each.path}" for each in app.router.routes])


def _wrap(app_class):
    """Now, and not at import: sanic writes this method anew from its source when it starts."""
    handle_request = app_class.handle_request

    async def handle(self, request, *args, **kwargs):
        drain = getattr(self.ctx, "devsup", None)
        if drain is None or hasattr(request.ctx, "devsup"):  # another app of this process has planted it too
            return await handle_request(self, request, *args, **kwargs)
        if drain.is_closed:  # else a client that asks again at once would hold the gate for ever
            request.stream.keep_alive = False
        request.ctx.devsup = record = _record(request, drain)
        return await handled.run(drain, record, handle_request(self, request, *args, **kwargs))

    app_class.handle_request = handle


def _told(handshake):
    """Sanic's WebSocket handler, whose socket knows its record."""

    @functools.wraps(handshake)
    async def _websocket_handler(self, handler, request, *args, **kwargs):
        async def told(request, ws, *args, **kwargs):
            with guard("a hook of sanic"):
                ws.devsup = request.ctx.devsup
                ws.devsup.close = lambda: ws.close(code=1012)
            return await handler(request, ws, *args, **kwargs)

        return await handshake(self, told, request, *args, **kwargs)

    return _websocket_handler


def _record(request, drain):
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if request.headers.get("upgrade", "").lower() == "websocket":
        return websocket.Told(drain.changed, request.path, peer and peer[:2])

    def head():
        response = request.stream.response
        return list(response.headers.items()) if response is not None else None

    return handled.Request(request.method, request.path, peer, head, lambda: request.stream.response.eof())  # noqa: PLW0108 - there is none yet
