"""The fork server: a process that has imported what the worker needs, and becomes the next worker by forking.

Theory of operation. It is started by the worker's own command, so interpreter, options, `sys.argv` and `sys.path` are those of a
cold start, and stops at the end of `sitecustomize`, before Python has looked at the program. There it imports what a worker had
imported from outside the project (`preload` sees to it that nothing of that is tied to this process), freezes it, and waits.
A fork returns from `serve`: Python goes on with the program as in a cold start. The fork server itself never does.

It stays the parent of its workers and tells their exit status; it runs no thread and no code of the project.
"""

import contextlib
import os
import select
import socket
import sys
import typing

import devsup_agent
from devsup_agent import preload, wire
from devsup_agent.agent import agent

_TOKEN = "DEVSUP_TOKEN"  # noqa: S105 - a name


class _Channel(wire.Channel):
    """One whose other end may have gone, which is found out as it is read."""

    def send(self, op, fds=(), **fields):
        """Send one message."""
        with contextlib.suppress(OSError):
            super().send(op, fds, **fields)


def serve():
    """Be the fork server; returns in each worker. Whatever goes wrong, the program is not run by it: devsup starts it cold."""
    del os.environ["DEVSUP_FORK"]  # what importing starts is none
    agent.waits = True  # for what the hooks would tell before there is a worker
    try:
        _become_worker(*_Server().run())
    except BaseException:
        os._exit(1)


class _Server:
    """The fork server's loop. A spare is a child that is forked ahead and waits to be told what worker it is."""

    def __init__(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(None)
        sock.connect(os.environ["DEVSUP_LINK"])
        self._link = _Channel(sock)
        self._link.send("hello", token=os.environ[_TOKEN], pid=os.getpid(), python="", executable=sys.executable or "")
        self._environ = {**os.environ}
        self._cwd = os.getcwd()
        self._children = {}  # pidfd -> pid
        self._workers = set()  # pids
        self._spare: typing.Any = None  # (its pid, the channel to it)
        self._leaving = False
        self._poll = select.poll()
        self._poll.register(self._link, select.POLLIN)

    def run(self):
        """Serve; returns, in a child, what worker it is: (environment, whether it has a terminal, standard streams)."""
        while self._children or not self._leaving:
            for fd, _ in self._poll.poll():
                found = self._reap(fd) if fd in self._children else self._hear()
                if found is not None:
                    return found
        os._exit(0)

    def _reap(self, pidfd):
        self._poll.unregister(pidfd)
        os.close(pidfd)
        pid = self._children.pop(pidfd)
        _, status, usage = os.wait4(pid, 0)
        if pid in self._workers:
            self._workers.remove(pid)
            self._link.send("exited", pid=pid, status=os.waitstatus_to_exitcode(status), peak=usage.ru_maxrss * 1024)
        elif self._spare is not None and self._spare[0] == pid:
            self._drop_spare()

    def _hear(self):
        messages = self._link.receive()
        if messages is None:
            os._exit(0)
        for message, fds in messages:
            if message["op"] == "leave":
                self._leaving = True
                self._drop_spare()
            elif message["op"] == "preload":
                self._link.send("preloaded", id=message["id"], **preload.run(message))
            else:
                found = self._make_spare(fds) if self._spare is None else None
                if found is not None:
                    return found
                if message["op"] == "fork":
                    self._use_spare(message, fds)
        return None

    def _use_spare(self, message, fds):
        pid, channel = self._spare
        self._spare = None
        self._workers.add(pid)
        channel.send("be", fds, environ={**self._environ, **message["environ"]}, terminal=message["terminal"])
        channel.close()
        self._link.send("forked", id=message["id"], pid=pid)
        for fd in fds:
            os.close(fd)

    def _drop_spare(self):
        if self._spare is not None:
            self._spare[1].close()
            self._spare = None

    def _make_spare(self, fds):
        """Fork; returns, in the child and once it is wanted, what worker it is. `fds` are no matter of the child's."""
        ours, its = socket.socketpair()
        pid = os.fork()
        if pid:
            its.close()
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = pid
            self._poll.register(pidfd, select.POLLIN)
            self._spare = pid, _Channel(ours)
            return None
        ours.close()
        self._link.close()
        for fd in (*self._children, *fds):
            os.close(fd)
        os.setsid()
        given, messages = _Channel(its), []  # type: ignore[var-annotated]
        while not messages:
            messages = given.receive()
            if messages is None:
                os._exit(0)
        its.close()
        os.chdir(self._cwd)
        message, fds = messages[0]
        return message["environ"], message["terminal"], fds


def _become_worker(environ, terminal, fds):
    """Everything that a new process would have of its own."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    for fd in fds:
        if fd > 2:
            os.close(fd)
    if terminal:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for path in [path for path, finder in sys.path_importer_cache.items() if finder is None]:
        del sys.path_importer_cache[path]  # there may be such a folder by now
    preload.restore(environ)
    with contextlib.suppress(OSError, ValueError):
        _sign_environment(environ[_TOKEN])
    _new_seeds()
    devsup_agent.begin(environ)
    if "devsup_agent.sockets" in sys.modules:
        sys.modules["devsup_agent.sockets"].begin()
    agent.begin()


def _sign_environment(token):
    """What others read of this process's environment is what it was started with: put the worker's token there."""
    with open("/proc/self/stat", "rb") as file:
        first, last = map(int, file.read().rpartition(b")")[2].split()[47:49])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(first)
        found = memory.read(last - first)
        at = found.index(b"\0" + _TOKEN.encode() + b"=") + len(_TOKEN) + 2
        if found.index(b"\0", at) - at == len(token):
            memory.seek(first + at)
            memory.write(token.encode())


def _new_seeds():
    """`random` sees to itself."""
    import time

    with contextlib.suppress(Exception):
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()
        logging: typing.Any = sys.modules.get("logging")
        if logging is not None:
            logging._startTime = time.time_ns() if isinstance(logging._startTime, int) else time.time()
