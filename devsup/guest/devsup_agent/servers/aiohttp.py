"""aiohttp's server: its handlers are recorded, and what it hears and says on WebSockets."""

import asyncio
import functools

from devsup_agent import guard
from devsup_agent.active import failures, handled, websocket
from devsup_agent.agent import agent
from devsup_agent.servers import common

_drains: dict = {}  # by loop


def patch(module):
    """Plant the hooks; `module` is aiohttp.web_protocol, web_response, web_runner or web_ws."""
    name = module.__name__.rpartition(".")[2]
    {"web_protocol": _patch_handler, "web_response": _patch_response, "web_runner": _patch_runner, "web_ws": _patch_websocket}[
        name
    ](module)


def _drain():
    loop = asyncio.get_running_loop()
    if loop not in _drains:
        _drains[loop] = common.Drain(functools.partial(common.leave, loop))
    return _drains[loop]


def _patch_runner(module):
    for site_class in (module.TCPSite, module.SockSite):
        _patch_site(site_class)
    set_up = module.AppRunner.setup

    @functools.wraps(set_up)
    async def setup(self):
        await set_up(self)
        with guard("the routes"):
            _drain().routes = [f"{route.method} {route.resource.canonical}" for route in self.app.router.routes()]

    module.AppRunner.setup = setup


def _patch_site(site_class):
    start = site_class.start

    @functools.wraps(start)
    async def started(self):
        await start(self)
        with guard("a hook of aiohttp"):
            drain = _drain()
            if drain not in agent.servers:
                agent.serve(drain, "aiohttp", getattr(drain, "routes", []))

    site_class.start = started


def _patch_handler(module):
    handle = module.RequestHandler._handle_request

    @functools.wraps(handle)
    async def _handle_request(self, request, *args, **kwargs):
        with guard("a hook of aiohttp"):
            request.devsup = _record(request)
        if not hasattr(request, "devsup"):
            return await handle(self, request, *args, **kwargs)
        answer = await handled.run(_drain(), request.devsup, handle(self, request, *args, **kwargs), request.transport)
        return answer if answer is not None else (None, True)

    handle_error = module.RequestHandler.handle_error

    @functools.wraps(handle_error)
    def failed(self, request, status=500, exc=None, message=None):
        if exc is not None and hasattr(request, "devsup"):
            failures.of_record(request.devsup, exc)
        return handle_error(self, request, status, exc, message)

    module.RequestHandler._handle_request, module.RequestHandler.handle_error = _handle_request, failed


def _record(request):
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return websocket.Told(_drain().changed, request.path, peer and peer[:2])
    prepared: list = []  # the answer, once its head is sent
    request.devsup_prepared = prepared.append
    return handled.Request(
        request.method,
        request.path,
        peer,
        lambda: list(prepared[0].headers.items()) if prepared else None,
        lambda: prepared[0].write_eof(),  # noqa: PLW0108 - there is none yet
    )


def _patch_response(module):
    prepare = module.StreamResponse.prepare

    @functools.wraps(prepare)
    async def prepared(self, request):
        writer = await prepare(self, request)
        getattr(request, "devsup_prepared", id)(self)
        return writer

    module.StreamResponse.prepare = prepared


def _patch_websocket(module):
    socket_class = module.WebSocketResponse
    prepare = socket_class.prepare

    @functools.wraps(prepare)
    async def prepared(self, request):
        payload = await prepare(self, request)
        with guard("a hook of aiohttp"):
            self.devsup = request.devsup
            self.devsup.close = lambda: self.close(code=1012)
        return payload

    socket_class.prepare = prepared
    kinds = (module.WSMsgType.TEXT, module.WSMsgType.BINARY)
    websocket.hear(socket_class, "receive", lambda message: message.type in kinds)
    websocket.say(socket_class, "send_str", "send_bytes", "send_frame")
