"""What only the process itself can tell of where it stands: its threads' names, and its tasks with what they await."""

import threading

from devsup_agent.active import owners

_MOST = 100  # tasks, and frames of one


def described(servers):
    """{threads: {ident: name}, tasks: [{name, frames}]}, the innermost frame first."""
    names = {str(thread.ident): thread.name for thread in threading.enumerate() if thread.ident is not None}
    tasks = [{"name": _name(task), "frames": _frames(task)} for task in owners.tasks(servers)[:_MOST]]
    return {"threads": names, "tasks": tasks}


def _name(task):
    name = task.get_name() if hasattr(task, "get_name") else ""
    return f"{name} {getattr(task.get_coro(), '__qualname__', '')}".strip()


def _frames(task):
    found: list = []
    coro = task.get_coro()
    while coro is not None and len(found) < _MOST:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None:
            found.insert(0, [frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name, ""])
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)
    return found
