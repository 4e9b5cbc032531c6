"""What an ended program still owns until its process is gone, and the next one could not have beside it."""

import contextlib
import os
import socket
import stat
import sys

_SHARED = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts/")


def anything():
    """Whether there are children, locks of files, listeners of its own, or devices; where nobody can tell, there may be."""
    try:
        return _children() or any(_is_locked(fd) or _is_owned(int(fd)) for fd in os.listdir("/proc/self/fd"))
    except Exception:
        return True


def _children():
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children") as children:
            if children.read():
                return True
    return False


def _is_locked(fd):  # /proc/locks would tell in one read, but that read waits some 10 ms for the kernel
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{fd}") as about:
        return "\nlock:" in about.read()
    return False


def _is_owned(fd):
    with contextlib.suppress(OSError):  # the one that lists them is closed by now
        mode = os.fstat(fd).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            return not os.readlink(f"/proc/self/fd/{fd}").startswith(_SHARED)
        return stat.S_ISSOCK(mode) and _is_own_listener(fd)
    return False


def _is_own_listener(fd):
    with socket.socket(fileno=os.dup(fd)) as sock:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        return sock.getsockname()[:2] not in sys.modules["devsup_agent.sockets"].known
