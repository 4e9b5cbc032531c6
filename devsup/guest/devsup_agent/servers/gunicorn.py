"""gunicorn: each of its workers serves, and the arbiter that would replace them is told to stop."""

import functools
import signal

from devsup_agent import guard
from devsup_agent.active import asgi, wsgi
from devsup_agent.agent import agent
from devsup_agent.servers import common

_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


def patch(module):
    """Plant the hooks; `module` is gunicorn.arbiter or gunicorn.workers.base."""
    if module.__name__ == "gunicorn.arbiter":
        _patch_arbiter(module.Arbiter)
    else:
        _patch_worker(module.Worker)


def _patch_arbiter(arbiter_class):
    setup = arbiter_class.setup

    @functools.wraps(setup)
    def set_up(self, app):
        with guard("a hook of gunicorn"):
            agent.manages = True
            if app.cfg.reload:
                agent.connect()
                agent.reloader_off("gunicorn", includes=app.cfg.reload_extra_files)
                app.cfg.set("reload", False)
        setup(self, app)

    spawn_worker = arbiter_class.spawn_worker

    @functools.wraps(spawn_worker)
    def spawn(self):
        # A signal that comes before the new worker has its own handlers would be taken by the arbiter's, and change nothing.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            return spawn_worker(self)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)

    arbiter_class.setup, arbiter_class.spawn_worker = set_up, spawn


def _patch_worker(worker_class):
    init_process = worker_class.init_process

    @functools.wraps(init_process)
    def initialised(self):
        with guard("a hook of gunicorn"):
            agent.manager, agent.manages = self.ppid, False
            run, init_signals = self.run, self.init_signals

            def listen_to_signals():
                init_signals()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)

            def serve():
                with guard("a hook of gunicorn"):
                    _serve(self)
                return run()

            self.run, self.init_signals = serve, listen_to_signals
        init_process(self)

    worker_class.init_process = initialised


def _serve(worker):
    if "Uvicorn" in type(worker).__name__:
        return  # uvicorn's own hooks see to it
    drain = common.Drain(common.leave)
    listeners = [each.sock for each in worker.sockets]
    drain.secure = listeners if worker.cfg.is_ssl else []
    if hasattr(worker, "asgi"):
        found, worker.asgi = asgi.routes(worker.asgi), asgi.Recorder(agent, drain).wrap(worker.asgi)
    else:
        found, worker.wsgi = wsgi.routes(worker.wsgi), wsgi.wrap(worker.wsgi, drain)
    agent.serve(drain, "gunicorn", found, listeners)
