"""sanic: its own server and handlers, on asyncio or uvloop."""

import asyncio
import functools
import multiprocessing

from devsup_agent import guard, websocket, work, wsgi
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
    server_event, handle_request, handshake = app_class._server_event, app_class.handle_request, app_class._websocket_handler

    @functools.wraps(server_event)
    async def _server_event(self, concern, action, *args, **kwargs):
        await server_event(self, concern, action, *args, **kwargs)
        with guard("a hook of sanic"):
            if (concern, action) == ("init", "after"):
                parent = multiprocessing.parent_process()
                agent.manager = parent.pid if parent is not None else None
                self.ctx.devsup = common.Drain(functools.partial(common.leave, asyncio.get_running_loop()))
                agent.serve(
                    self.ctx.devsup, "sanic", [f"{','.join(sorted(each.methods))} /{each.path}" for each in self.router.routes]
                )

    @functools.wraps(handle_request)
    async def handled(self, request, *args, **kwargs):
        drain = getattr(self.ctx, "devsup", None)
        if drain is None:
            return await handle_request(self, request, *args, **kwargs)
        record = request.ctx.devsup = drain.begin(_record(request, drain))
        try:
            return await handle_request(self, request, *args, **kwargs)
        finally:
            drain.end(record)

    app_class._server_event, app_class.handle_request = _server_event, handled
    app_class._websocket_handler = _told(handshake)


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
    record = work.Request(request.method, request.path, wsgi.streams)
    record.task, record.peer = asyncio.current_task(), peer and tuple(peer[:2])
    return record
