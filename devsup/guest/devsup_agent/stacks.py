"""What only the process itself can tell of where it stands: its threads' names, and its tasks with what they await."""

import sys
import threading
import time

from devsup_agent import modules
from devsup_agent.active import owners

_MOST = 100  # tasks, and frames of one


def described(servers):
    """{threads: {ident: name}, tasks: [{name, frames}]}, the innermost frame first."""
    names = {str(thread.ident): thread.name for thread in threading.enumerate() if thread.ident is not None}
    tasks = [{"name": _name(task), "frames": _frames(task)} for task in owners.tasks(servers)[:_MOST]]
    return {"threads": names, "tasks": tasks}


def listed(servers):
    """What is active, held or not: [{id, kind, method, path, age, holds, waits_in}], the oldest first."""
    now = time.monotonic()
    records = sorted((record for server in servers for record in server.records()), key=lambda each: each.started)
    return [
        {
            "id": f"{id(record):x}",
            "kind": "websocket" if record.name.startswith("WS ") else "stream" if record.is_open_stream() else "http",
            "method": getattr(record, "method", "GET"),
            "path": record.path,
            "age": now - record.started,
            "holds": record.busy(now),
            "waits_in": _where(record),
        }
        for record in records
    ]


def _where(record):
    """FILE:LINE in FUNCTION of where its handler stands: the user's own code, if that is on the stack."""
    if record.task is not None:
        frames = _frames(record.task)
    else:
        frame, frames = sys._current_frames().get(getattr(record, "thread", 0) or 0), []
        while frame is not None and len(frames) < _MOST:
            frames.append([frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, ""])
            frame = frame.f_back
    best = next((frame for frame in frames if modules.is_own(frame[0])), frames[0] if frames else None)
    return "" if best is None else "{}:{} in {}".format(*best)


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
