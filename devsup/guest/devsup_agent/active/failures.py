"""Exceptions that a request has died of, told as its server or framework reports them; the answer stays the app's own."""

import functools
import logging
import sys
import time

from devsup_agent import blackbox, guard
from devsup_agent.active.owners import owner
from devsup_agent.agent import agent

_last: list = [None]  # what was told last: one exception may pass several of us


def tell(name, started, exc):
    """Request `name` ("GET /path"), begun at `started` (monotonic, None where nobody knows), has died of `exc`."""
    with guard("an exception of a request"):
        same = (id(exc), name, started)
        if _last[0] == same:
            return
        _last[0] = same
        age = time.monotonic() - started if started is not None else None
        agent.offer("raised", where="request", name=name[:200], age=age, chain=blackbox.described(exc))


def of_record(record, exc):
    """As `tell`, of a request's record."""
    tell(record.name, record.started, exc)


def watch(logger):
    """Listen to what a server logs of its app's exceptions."""
    log = logging.getLogger(logger)
    if not any(isinstance(each, _Filter) for each in log.filters):
        log.addFilter(_Filter())


class _Filter(logging.Filter):
    """Lets all pass."""

    def filter(self, record):
        if record.exc_info and record.levelno >= logging.ERROR:
            with guard("a server's log"):
                _heard(record.exc_info)
        return True


def _heard(info):
    exc = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else sys.exc_info()[1]
    found = _serving(sys._getframe(1)) if exc is not None else None
    if found is not None:
        scope = found.scope
        method = "WS" if scope["type"] == "websocket" else scope["method"]
        tell(f"{method} {scope['path']}", getattr(found, "devsup_since", None), exc)


def _serving(frame):
    """Uvicorn's request, or WebSocket, if it is that which logs; an app may use the same logger."""
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "logging"):
        frame = frame.f_back
    found = frame.f_locals.get("self") if frame is not None and frame.f_code.co_name == "run_asgi" else None
    return found if hasattr(found, "scope") else None


def patch(module):
    """Plant the hook; `module` is flask.app or django.core.handlers.exception."""
    if module.__name__ == "flask.app":
        _patch_flask(module.Flask)
    else:
        _patch_django(module)


def _patch_flask(flask):
    handle = flask.handle_exception

    @functools.wraps(handle)
    def handle_exception(self, e):
        record = owner.get(None)
        if hasattr(record, "name"):
            of_record(record, e)
        return handle(self, e)

    flask.handle_exception = handle_exception


def _patch_django(module):
    handle = module.handle_uncaught_exception

    @functools.wraps(handle)
    def handle_uncaught_exception(request, resolver, exc_info, *args, **kwargs):
        started = getattr(owner.get(None), "started", None)
        tell(f"{request.method} {request.path}", started, exc_info[1])
        return handle(request, resolver, exc_info, *args, **kwargs)

    module.handle_uncaught_exception = handle_uncaught_exception
