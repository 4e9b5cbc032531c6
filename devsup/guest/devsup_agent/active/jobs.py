"""Jobs of executors and threads, which inherit no context: what a request starts is noted as its own until it ends."""

import functools
import sys
import threading
import typing

from devsup_agent import guard
from devsup_agent.active.owners import enter, owner, target_of

_THROUGH = ("asyncio", "concurrent")  # packages of the standard library that hand a job on


def patch(module):
    """Plant the hook; `module` is threading, concurrent.futures.thread or concurrent.futures.process."""
    if module.__name__ == "threading":
        _patch_thread(module.Thread)
    elif module.__name__ == "concurrent.futures.thread":
        _patch_executor(module.ThreadPoolExecutor, _run_in_thread)
    else:
        _patch_executor(module.ProcessPoolExecutor, None)


def _background():
    from devsup_agent.agent import agent

    return agent.background


def _patch_thread(thread_class):
    real = thread_class.start
    if hasattr(real, "devsup"):
        return

    @functools.wraps(real)
    def start(self):
        whose, piece = owner.get(None), None
        if whose is not None:
            with guard("the start of a thread"):
                piece = _piece_of_thread(thread_class, self, whose)
        if piece is None:
            return real(self)
        try:
            return real(self)
        except RuntimeError:
            _background().end(piece)
            raise

    start.devsup = True  # type: ignore[attr-defined]
    thread_class.start = start


def _piece_of_thread(thread_class, thread, whose):
    runs = type(thread).run if type(thread).run is not thread_class.run else thread._target
    function = thread.function if isinstance(thread, threading.Timer) else runs
    target = target_of(function, (), _caller(("threading",)))
    if not target:
        return None
    piece = _background().begin(whose, target)
    piece.handle, run = thread, thread.run

    def run_owned():
        enter(whose)
        try:
            run()
        finally:
            del thread.run
            owner.set(None)
            _background().end(piece)

    thread.run = run_owned
    return piece


def _patch_executor(executor_class, run):
    real = executor_class.submit

    @functools.wraps(real)
    def submit(self, fn, /, *args, **kwargs):
        whose, target = owner.get(None), ""
        if whose is not None:
            with guard("a job of an executor"):
                target = target_of(fn, args, _caller(_THROUGH))
        if not target:
            return real(self, fn, *args, **kwargs)
        piece = _background().begin(whose, target)
        try:
            piece.handle = future = real(self, functools.partial(run, whose, fn) if run else fn, *args, **kwargs)
        except BaseException:
            _background().end(piece)
            raise
        future.add_done_callback(lambda _: _background().end(piece))
        return future

    executor_class.submit = submit


def _run_in_thread(whose, fn, /, *args, **kwargs):
    """A job in an executor's thread: what it starts is its request's, too."""
    token = enter(whose)
    try:
        return fn(*args, **kwargs)
    finally:
        owner.reset(token)


def _caller(through):
    """The file of the code that starts something, past ours and these packages of the standard library."""
    frame: typing.Any = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if not name.startswith("devsup_agent") and name.partition(".")[0] not in through:
            return frame.f_code.co_filename
        frame = frame.f_back
    return ""
