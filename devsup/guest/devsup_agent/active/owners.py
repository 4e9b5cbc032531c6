"""Whose a task, job or thread is, and what it works on: both read off the thing itself, when somebody asks."""

import contextvars
import functools
import gc
import os
import sys

from devsup_agent import modules

owner: contextvars.ContextVar = contextvars.ContextVar("devsup_owner")
enter = owner.set  # (request): what the current context starts from now on is that request's


def tasks(servers):
    """Every asyncio task of this process that is not done; where asyncio hides them, those of the servers' loops."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return []
    known = getattr(asyncio.tasks, "_all_tasks", None)  # up to Python 3.11
    if known is None and sys.version_info < (3, 14):
        known = asyncio.tasks._scheduled_tasks
    for _ in range(100):
        try:
            if known is None:
                return [task for server in servers if hasattr(server, "loop") for task in asyncio.all_tasks(server.loop)]
            return [task for task in list(known) if not task.done()]
        except RuntimeError:  # another thread has started one meanwhile
            continue
    return []


def context(task):
    """The context that a task runs in; before Python 3.12 nothing but the garbage collector tells it."""
    if hasattr(task, "get_context"):
        return task.get_context()
    if hasattr(task, "_context"):  # a task in pure Python
        return task._context
    # The traversal of a C task begins with its own context.
    return next((each for each in gc.get_referents(task) if type(each) is contextvars.Context), {})


def target_of_task(task):
    """'module:qualified name' of what a task works on: the user's own coroutine on its stack, else the outermost; '' for none."""
    stack: list = []
    coro = task.get_coro()
    while coro is not None and len(stack) < 50:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is None:
            break
        stack.append((frame, coro))
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)
    for frame, coro in stack:
        if modules.is_own(frame.f_code.co_filename):
            return _key(frame.f_globals.get("__name__"), coro)
    if not stack:
        return _key(type(coro).__module__, coro)
    frame, coro = stack[0]
    is_wait = frame.f_code.co_filename.startswith(os.path.dirname(sys.modules["asyncio"].__file__ or ""))
    return "" if is_wait else _key(frame.f_globals.get("__name__"), coro)


def _key(module, named):
    return "{}:{}".format(module, getattr(named, "__qualname__", None) or type(named).__qualname__)


def target_of(function, args, caller):
    """'module:qualified name' of what a job or thread runs; '' where neither it nor who started it is the user's own."""
    for _ in range(20):
        if isinstance(function, functools.partial):
            function, args = function.func, (*function.args, *args)
        elif isinstance(getattr(function, "__self__", None), contextvars.Context) and args:
            function, args = args[0], args[1:]
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    if (code is None or not modules.is_own(code.co_filename)) and not modules.is_own(caller):
        return ""
    return _key(getattr(function, "__module__", None), function)
