"""What a worker's processes leave for the supervisor to read when one of them has died, or hangs: one file for all of them.

Whatever happens to a process, this needs neither the link nor the interpreter: the file is open from the start, faulthandler
writes into it when native code crashes, and again, for all threads, whenever the supervisor sends SIGURG, also while the
GIL is held. Exceptions are appended as JSON, a line each: of the main thread as the interpreter ends, whoever has caught the
report of it, and of threads. The file's being there tells that a worker has an agent.
"""

import os
import sys

_HIGHEST_FD = 1023  # out of the way: a program may count on low numbers, and close all and use them again
_CHAIN, _FRAMES, _LONGEST = 10, 25, 2000  # exceptions; frames from either end; characters of a message
_UNSPEAKABLE = "<its message cannot be made>"

_fd, _path = -1, ""


def begin():
    """Open the file; raises nothing."""
    global _fd, _path
    try:
        _path = os.environ["DEVSUP_LINK"] + "." + os.environ["DEVSUP_TOKEN"]
        _fd = _out_of_the_way(os.open(_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        os.write(_fd, b'\n{"where": "begin", "pid": %d}\n' % os.getpid())
        import _signal  # type: ignore[import-not-found] # not `signal`, which brings enum
        import faulthandler

        if not faulthandler.is_enabled():  # else it is the user's, and tells the terminal
            faulthandler.enable(_fd)
        faulthandler.register(_signal.SIGURG, _fd)
    except (OSError, KeyError, ImportError, RuntimeError, ValueError):
        return


def _out_of_the_way(fd):
    for number in (_HIGHEST_FD, _HIGHEST_FD - 1, 255, 254):  # macOS allows no more
        try:
            os.fstat(number)
        except OSError:
            try:
                os.dup2(fd, number, inheritable=False)
            except OSError:  # above the limit
                continue
            os.close(fd)
            return number
    return fd


def end():
    """The program has ended: leave the exception that it died of, if Python has reported one."""
    exc = getattr(sys, "last_value", None)
    if isinstance(exc, BaseException):
        _leave("main", "", exc)


def patch(module):
    """Plant the hook; `module` is threading. Beneath `threading.excepthook`, which is the program's to replace."""
    make = module._make_invoke_excepthook

    def made():
        invoke = make()

        def invoked(thread):
            exc = sys.exc_info()[1]
            if exc is not None and not isinstance(exc, SystemExit):
                _leave("thread", str(thread.name), exc)
            return invoke(thread)

        return invoked

    module._make_invoke_excepthook = made


def _leave(where, name, exc):
    try:
        import json

        record = {"where": where, "name": name[:_LONGEST], "pid": os.getpid(), "chain": described(exc)}
        linked = sys.modules.get("devsup_agent.agent") if where == "thread" else None
        if linked is None or not linked.agent.offer("raised", **record):
            _write(b"\n" + json.dumps(record).encode() + b"\n")
    except Exception:
        return


def _write(data):
    """Append it, also where the program has closed all descriptors, and ours may be another file's by now."""
    if _is_ours():
        os.write(_fd, data)
        return
    fd = os.open(_path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _is_ours():
    try:
        here, there = os.fstat(_fd), os.stat(_path)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def described(exc):
    """An exception and what led to it, the first that was raised first: [{type, message, notes, frames}]."""
    chain: list = []
    seen: set = set()
    each = exc
    while each is not None and id(each) not in seen and len(chain) < _CHAIN:
        seen.add(id(each))
        chain.insert(0, _one(each))
        each = each.__cause__ if each.__cause__ is not None or each.__suppress_context__ else each.__context__
    inner = getattr(exc, "exceptions", None)
    while isinstance(inner, tuple) and inner and len(chain) < 2 * _CHAIN:  # a group: its first member, to the innermost
        exc = inner[0]
        if exc.__traceback__ is None:  # never raised
            break
        chain.append(_one(exc))
        inner = getattr(exc, "exceptions", None)
    return chain


def _one(exc):
    kind = type(exc)
    name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    frames, message = _frames(exc.__traceback__), _text(exc)
    if isinstance(exc, SyntaxError):
        message = _text(exc.msg)
        line = exc.lineno if isinstance(exc.lineno, int) else 0
        frames.append([_text(exc.filename), line, "", _text(exc.text or "").strip()])
    notes = getattr(exc, "__notes__", None)
    notes = [_text(note) for note in notes[:5]] if isinstance(notes, list) else []
    return {"type": name[:_LONGEST], "message": message, "notes": notes, "frames": frames}


def _text(thing):
    try:
        return str(thing)[:_LONGEST]
    except BaseException:
        return _UNSPEAKABLE


def _frames(trace):
    found = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append([code.co_filename, trace.tb_lineno or 0, code.co_name, ""])
        trace = trace.tb_next
        if len(found) > 4 * _FRAMES:
            del found[_FRAMES : -2 * _FRAMES]
    return found if len(found) <= 2 * _FRAMES else [*found[:_FRAMES], *found[-_FRAMES:]]
