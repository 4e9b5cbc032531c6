"""uvicorn under the agent: the two hooks that all its five doors pass, its gate, its stop, and no idle ticks.

`Config.load` wraps the loaded app; `Server.startup` says ready. Everything else hangs on attributes that uvicorn has had since
0.20: `servers`, `server_state`, `should_exit`, and the protocols' `shutdown`. Its two polling loops become waits: `should_exit`
is a property whose setter wakes the main loop, and the sets of connections and tasks tell when they shrink.
"""

import asyncio
import contextlib
import functools
import os
import threading
import time
import weakref

from devsup_agent import guard, sockets
from devsup_agent.active import asgi, failures
from devsup_agent.agent import agent
from devsup_agent.servers.uvicorn_drain import Drain

_RULES = ("reload_dirs", "reload_includes", "reload_excludes")


class Connections(set):
    """uvicorn's connections: each with the time it came, and waking who waits for them to go."""

    __hash__ = object.__hash__  # type: ignore[assignment] # no one compares these sets

    def __init__(self):
        super().__init__()
        self.on_shrink = None

    def add(self, member):
        """As a set's, and note when."""
        super().add(member)
        member.devsup_since = time.monotonic()

    def discard(self, member):
        """As a set's, and wake."""
        super().discard(member)
        self._shrunk()

    def remove(self, member):
        """As a set's, and wake."""
        super().remove(member)
        self._shrunk()

    def _shrunk(self):
        if self.on_shrink is not None:
            self.on_shrink()
        if not self and _waiters:
            for waiter in _waiters:
                _wake(waiter)
            _waiters.clear()


_states: weakref.WeakSet = weakref.WeakSet()  # uvicorn's server states
_waiters: list = []  # for connections to go


class _Ticks:
    """Stands in for the name `asyncio` inside uvicorn.server: its sleeps wait for connections and tasks to end."""

    def __getattr__(self, name):
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(delay, result=None):
        if not any(state.connections or state.tasks for state in _states):
            return await asyncio.sleep(0, result)
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        _waiters.append(waiter)
        timer = loop.call_later(delay, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
        return result


def _wake(waiter):
    if not waiter.done():
        waiter.set_result(None)


def patch(module):
    """Plant the hooks; `module` is uvicorn.config or uvicorn.server."""
    agent.connect()
    if module.__name__ == "uvicorn.config":
        _patch_config(module.Config)
    elif module.__name__ == "uvicorn.server":
        _patch_server(module)
    else:
        _patch_workers(module.Process)


def _patch_config(config_class):
    construct, load = config_class.__init__, config_class.load

    @functools.wraps(construct)
    def constructed(self, *args, **kwargs):
        # uvicorn would announce what it is going to watch; our rules take its place.
        wanted = kwargs.pop("reload", False)
        rules = {name: kwargs.pop(name, None) or [] for name in _RULES}
        construct(self, *args, **kwargs)
        with guard("a hook of uvicorn"):
            if wanted or self.reload:
                self.reload = False
                dirs, includes, excludes = (
                    [rule] if isinstance(rule, str) else [str(each) for each in rule] for rule in rules.values()
                )
                agent.reloader_off("uvicorn", dirs, includes, excludes)
            if not self.uds and self.fd is None:
                agent.send("intends", host=self.host or "", port=self.port)

    def loaded(self):
        load(self)
        with guard("a hook of uvicorn"):
            agent.send("loaded", at=time.monotonic())
            self.devsup = asgi.Tracker(agent)
            self.loaded_app = self.devsup.wrap(self.loaded_app)

    config_class.__init__, config_class.load = constructed, loaded


def _patch_server(module):
    server_class = module.Server
    startup, shutdown, main_loop, on_tick = (
        server_class.startup,
        server_class.shutdown,
        server_class.main_loop,
        server_class.on_tick,
    )

    async def started(self, *args, **kwargs):
        with guard("a hook of uvicorn"):
            self.server_state.connections = Connections()
            self.config.devsup.state = self.server_state
            _states.add(self.server_state)
        with _held():
            await startup(self, *args, **kwargs)
        with guard("a hook of uvicorn"):
            if self.started and hasattr(self.config, "devsup"):
                self.devsup = Drain(self)
                failures.watch("uvicorn.error")
                listeners = [sock for server in self.servers for sock in server.sockets or ()]
                self.devsup.secure = listeners if self.config.is_ssl else []
                found = []
                with guard("the routes"):
                    found = asgi.routes(self.config.loaded_app)
                agent.serve(self.devsup, "uvicorn", found, listeners)

    async def shut_down(self, *args, **kwargs):
        with guard("a hook of uvicorn"):
            agent.served(self.devsup)
        await shutdown(self, *args, **kwargs)
        if threading.current_thread() is not threading.main_thread():
            agent.send("served")  # the main thread may sleep, and never learn of it

    async def wait_for_exit(self):
        if type(self).on_tick is not on_tick or self.config.limit_max_requests is not None or self.config.callback_notify:
            return await main_loop(self)
        self._devsup_wake = wake = asyncio.Event()
        self._devsup_loop = loop = asyncio.get_running_loop()
        while not await self.on_tick(0):  # also renews the Date header, which is why it comes once a second
            timer = loop.call_later(1.0, wake.set)
            await wake.wait()
            wake.clear()
            timer.cancel()
        return None

    server_class.startup, server_class.shutdown, server_class.main_loop = started, shut_down, wait_for_exit
    server_class.should_exit = property(_should_exit, _set_should_exit)
    module.asyncio = _Ticks()


@contextlib.contextmanager
def _held():
    """What is created inside does not yet accept, while another worker serves."""
    loop = asyncio.get_running_loop()
    if not sockets.gate.is_set():
        loop.create_server = functools.partial(loop.create_server, start_serving=False)  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.__dict__.pop("create_server", None)


def _patch_workers(process_class):
    target = process_class.target

    @functools.wraps(target)
    def managed(self, *args, **kwargs):
        agent.manager = os.getppid()
        return target(self, *args, **kwargs)

    process_class.target = managed


def _should_exit(server):
    return server.__dict__.get("should_exit", False)


def _set_should_exit(server, value):
    server.__dict__["should_exit"] = value
    wake = server.__dict__.get("_devsup_wake")
    if value and wake is not None:
        with contextlib.suppress(RuntimeError):
            server._devsup_loop.call_soon_threadsafe(wake.set)
