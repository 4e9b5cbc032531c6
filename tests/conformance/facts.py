"""A program that tells all it can see of its own process, and of its children's, as JSON in the file that it is given."""

from __future__ import annotations

import atexit
import gc
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

PRINTS = "print(1)"
MODULES = "import sys; print(sorted(sys.modules))"
OPEN = (
    "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')"
    " if os.path.exists(f'/proc/self/fd/{fd}') and '/devsup-' not in os.readlink(f'/proc/self/fd/{fd}')))"
)
MAIN = sys.modules["__main__"]


def of_interpreter() -> dict[str, object]:
    return {
        "argv": sys.argv[2:],
        "orig_argv": getattr(sys, "orig_argv", [])[1:],
        "path": sys.path,
        "flags": str(sys.flags),
        "warnoptions": sys.warnoptions,
        "filters": [str(each[:3]) for each in warnings.filters],
        "executable": [sys.executable, sys.prefix, sys.base_prefix],
        "main": [
            MAIN.__name__,
            getattr(MAIN, "__file__", None),
            getattr(getattr(MAIN, "__spec__", None), "name", None),
            MAIN.__doc__,
        ],
        "hooks": [each.__module__ for each in (sys.excepthook, sys.displayhook, sys.breakpointhook, sys.unraisablehook)],
        "thread hook": threading.excepthook.__module__,
        "tracing": [sys.gettrace(), sys.getprofile(), threading.active_count(), sys.getrecursionlimit()],
        "streams": [[each.encoding, each.errors] for each in (sys.stdin, sys.stdout, sys.stderr)],
        "threads": [each.name for each in threading.enumerate()],
        "garbage": [len(gc.garbage), len(gc.callbacks), gc.get_threshold(), gc.isenabled()],
        "at exit": atexit._ncallbacks(),
        "signals": {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "umask": os.umask(0o22),
        "modules": sorted(sys.modules),
        "finders": [getattr(each, "__name__", type(each).__name__) for each in sys.meta_path],
    }


def open_descriptors() -> list[int]:
    """All but the black box, which every Python process of a worker has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib would hold more open
        with suppress(OSError):
            found += [int(fd)] if "/devsup-" not in os.readlink(f"/proc/self/fd/{fd}") else []  # noqa: PTH115 - as above
    return sorted(found)


def of_process() -> dict[str, object]:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "cwd": str(Path.cwd()),
        "environ": dict(os.environ),
        "stdin": sys.stdin.read(),
        "open": open_descriptors(),
        "limits": [resource.getrlimit(number) for number in range(10)],
        "title": [Path("/proc/self/comm").read_text(), Path("/proc/self/cmdline").read_text().split("\0")[1:]],
        "status": {key: status[key] for key in ("SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp", "Umask")},
        "user": [os.getuid(), os.getgid(), os.getgroups(), os.nice(0), sorted(os.sched_getaffinity(0))],
    }


def child(*words: str, close_fds: bool = True) -> list[object]:
    command = [sys.executable, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, close_fds=close_fds)
    return [done.returncode, done.stdout, done.stderr]


def square(number: int) -> int:
    return number * number


def squares(method: str) -> list[int]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        return list(pool.map(square, range(4)))


def piped(method: str) -> object:
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        return pool.map(square, range(4))


def of_children() -> dict[str, object]:
    with open(__file__) as inherited:  # noqa: PTH123 - a descriptor of the program's own
        os.set_inheritable(inherited.fileno(), True)
        return {
            "prints": child("-c", PRINTS),
            "options": [
                child(*words.split(), "-c", PRINTS) for words in ("-I", "-S", "-E", "-W error", "-X dev", "-X dev -W error")
            ],
            "modules": child("-c", MODULES),
            "fails": child("-c", "1/0"),
            "exits": child("-c", "raise SystemExit(7)"),
            "descriptors": child("-c", OPEN, close_fds=False),
            "concurrent": {method: squares(method) for method in ("fork", "spawn", "forkserver")},
            "pools": {method: piped(method) for method in ("fork", "spawn", "forkserver")},
            "forks": forked(),
            "executes": child("-c", f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', {PRINTS!r}])"),
        }


def forked() -> object:
    """What a forked child finds, told through a pipe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        found = [open_descriptors(), [each.name for each in threading.enumerate()]]
        os.write(writing, json.dumps(found).encode())
        os._exit(3)
    os.close(writing)
    with open(reading, "rb") as file:  # noqa: PTH123 - a descriptor
        told = json.loads(file.read())
    return [told, os.waitpid(pid, 0)[1]]


if __name__ == "__main__":
    found = of_interpreter() | of_process()
    # As a server would be: once socket is imported, the agent has hooked it.
    import socket

    with socket.socket() as sock:
        found["socket"] = [sock.gettimeout(), sock.getblocking(), sock.get_inheritable(), type(sock).__qualname__]
    found["threads with a socket"] = [each.name for each in threading.enumerate()]
    found["children"] = of_children()
    found["modules in the end"] = sorted(sys.modules)
    Path(sys.argv[1]).write_text(json.dumps(found))
