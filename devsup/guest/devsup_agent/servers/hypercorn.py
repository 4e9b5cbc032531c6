"""hypercorn: on asyncio, uvloop and trio; its parent process is told to stop, which would replace its workers."""

import functools
import multiprocessing

from devsup_agent import guard, sockets
from devsup_agent.active import asgi
from devsup_agent.agent import agent
from devsup_agent.servers import common


def patch(module):
    """Plant the hooks; `module` is hypercorn.run, or one of the two that serve."""
    {"hypercorn.run": _patch_run}.get(module.__name__, _patch_worker)(module)


def _patch_run(module):
    real_run, create_sockets = module.run, module.Config.create_sockets

    @functools.wraps(create_sockets)
    def created(config):
        found = create_sockets(config)
        with guard("a hook of hypercorn"):
            for sock in found.secure_sockets + found.insecure_sockets:
                _tell_place(sock)
        return found

    @functools.wraps(real_run)
    def run(config):
        with guard("a hook of hypercorn"):
            agent.manages = config.workers > 0
            if config.use_reloader:
                agent.connect()
                agent.reloader_off("hypercorn")
                config.use_reloader = False
        return real_run(config)

    module.run, module.Config.create_sockets = run, created


def _tell_place(sock):
    """Another process will listen there, and cannot know which code bound it to any free port."""
    place = sockets.place_of(sock)
    if place:
        sockets.tell("bound", sock, place=place)


def _patch_worker(module):
    worker_serve, raise_shutdown = module.worker_serve, module.raise_shutdown
    waiting: list = []  # to be said once all listeners are served

    @functools.wraps(worker_serve)
    async def serve(app, config, **kwargs):
        drain = None
        with guard("a hook of hypercorn"):
            parent = multiprocessing.parent_process()
            agent.manager = parent.pid if parent is not None and kwargs.get("shutdown_trigger") else None
            drain = common.Drain(functools.partial(common.leave, _loop()))
            given = kwargs.get("sockets")
            drain.secure = given.secure_sockets if given else []
            waiting.append((drain, "hypercorn", asgi.routes(app), given.secure_sockets + given.insecure_sockets if given else []))
            app = asgi.Recorder(agent, drain).wrap(app)
        try:
            return await worker_serve(app, config, **kwargs)
        finally:
            agent.served(drain)

    async def wait(*args):
        while waiting:
            agent.serve(*waiting.pop())
        return await raise_shutdown(*args)

    module.worker_serve, module.raise_shutdown = serve, wait


def _loop():
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
