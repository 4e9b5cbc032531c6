"""tornado: handlers are recorded from their call to their finish, WebSockets by their messages."""

import asyncio
import functools

from devsup_agent import guard
from devsup_agent.active import failures, handled, websocket
from devsup_agent.agent import agent
from devsup_agent.servers import common

_drains: dict = {}  # by loop


def patch(module):
    """Plant the hooks; `module` is tornado.tcpserver, web or websocket."""
    name = module.__name__.rpartition(".")[2]
    {"tcpserver": _patch_server, "web": _patch_handler, "websocket": _patch_websocket}[name](module)


def _drain():
    loop = asyncio.get_running_loop()
    if loop not in _drains:
        _drains[loop] = common.Drain(functools.partial(common.leave, loop))
    return _drains[loop]


def _patch_server(module):
    add_sockets = module.TCPServer.add_sockets

    @functools.wraps(add_sockets)
    def added(self, sockets):
        add_sockets(self, sockets)
        with guard("a hook of tornado"):
            routes = []
            with guard("the routes"):
                routes = _routes(getattr(self, "request_callback", None))
            module.IOLoop.current().add_callback(_serve, routes)

    module.TCPServer.add_sockets = added


def _serve(routes):
    with guard("a hook of tornado"):
        if _drain() not in agent.servers:
            agent.serve(_drain(), "tornado", routes)


def _routes(app):
    rules = getattr(getattr(app, "wildcard_router", None), "rules", ())
    return [str(getattr(rule.matcher, "_path", None) or rule.matcher.regex.pattern) for rule in rules]


def _patch_handler(module):
    execute, log_exception = module.RequestHandler._execute, module.RequestHandler.log_exception

    @functools.wraps(log_exception)
    def failed(self, kind, exc, trace):
        if hasattr(self, "devsup") and not isinstance(exc, (module.HTTPError, module.Finish)):
            failures.of_record(self.devsup, exc)
        return log_exception(self, kind, exc, trace)

    module.RequestHandler.log_exception = failed

    @functools.wraps(execute)
    async def _execute(self, *args, **kwargs):
        with guard("a hook of tornado"):
            self.devsup = _record(self)
        if not hasattr(self, "devsup"):
            return await execute(self, *args, **kwargs)
        return await handled.run(_drain(), self.devsup, execute(self, *args, **kwargs))

    module.RequestHandler._execute = _execute


def _record(handler):
    request = handler.request
    peer = getattr(getattr(request.connection, "context", None), "address", None)
    peer = peer if isinstance(peer, tuple) else None
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return websocket.Told(_drain().changed, request.path, peer and peer[:2], lambda: handler.close(1012))

    def head():
        return list(handler._headers.get_all()) if handler._headers_written else None

    return handled.Request(request.method, request.path, peer, head, handler.finish)


def _patch_websocket(module):
    protocol_class = module.WebSocketProtocol13
    handle = protocol_class._handle_message

    @functools.wraps(handle)
    def _handle_message(self, opcode, data):
        record = getattr(self.handler, "devsup", None)
        if record is None or opcode not in (1, 2):
            return handle(self, opcode, data)
        record.took()
        running = handle(self, opcode, data)
        if running is None:
            record.asks()
        else:
            running.add_done_callback(lambda _: record.asks())
        return running

    protocol_class._handle_message = _handle_message
    websocket.say(module.WebSocketHandler, "write_message")
