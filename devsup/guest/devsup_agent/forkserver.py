"""The fork server: a process that has imported what the worker needs, and becomes the next worker by forking.

Theory of operation. It is started by the worker's own command, so interpreter, options, `sys.argv` and `sys.path` are those of a
cold start, and stops at the end of `sitecustomize`, before Python has looked at the program. There it imports what a worker had
imported from outside the project (`preload` sees to it that nothing of that is tied to this process), freezes it, and waits.
A fork returns from `serve`: Python goes on with the program as in a cold start. The fork server itself never does.

It stays the parent of its workers and tells their exit status; it runs no thread and no code of the project.
"""

import array
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


class _Link:
    """The link's end here: blocking, and read by the one thread that there is."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(None)
        self._socket.connect(os.environ["DEVSUP_LINK"])
        self._decoder, self._fds = wire.Decoder(), []
        self.send("hello", token=os.environ[_TOKEN], pid=os.getpid(), python="", executable=sys.executable or "")

    def fileno(self):
        """For poll."""
        return self._socket.fileno()

    def send(self, op, **fields):
        """Send one message."""
        fields.update(op=op, fds=0)
        with contextlib.suppress(OSError):
            self._socket.sendall(wire.encode(fields))

    def receive(self):
        """The messages that have come, each with its descriptors; None at the end of the link."""
        try:
            data, rights, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(4 * wire.MAX_FDS))
        except OSError:
            return None
        for _, _, raw in rights:
            arrived = array.array("i")
            arrived.frombytes(raw[: len(raw) - len(raw) % arrived.itemsize])
            self._fds.extend(arrived)
        if not data:
            return None
        found = []
        for message in self._decoder.feed(data):
            count = message.get("fds", 0)
            mine, self._fds = self._fds[:count], self._fds[count:]
            found.append((message, mine))
        return found

    def close(self):
        """In a child: it is the parent's."""
        self._socket.close()


def serve():
    """Be the fork server; returns in each worker."""
    link, cwd, environ = _Link(), os.getcwd(), {**os.environ}
    del environ["DEVSUP_FORK"]
    children: dict = {}  # pidfd -> pid
    agent.waits = True  # for what the hooks would tell before there is a worker
    leaving = False
    poll = select.poll()
    poll.register(link, select.POLLIN)
    while children or not leaving:
        for fd, _ in poll.poll():
            if fd in children:
                poll.unregister(fd)
                os.close(fd)
                pid = children.pop(fd)
                link.send("exited", pid=pid, status=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                continue
            messages = link.receive()
            if messages is None:
                os._exit(0)
            for message, fds in messages:
                if message["op"] == "leave":
                    leaving = True
                elif message["op"] == "preload":
                    link.send("preloaded", id=message["id"], **preload.run(message))
                elif _fork(link, children, poll, message, fds):
                    os.chdir(cwd)
                    return _become_worker({**environ, **message["environ"]}, fds)
    os._exit(0)


def _fork(link, children, poll, message, fds):
    """Whether this is the child."""
    pid = os.fork()
    if pid:
        pidfd = os.pidfd_open(pid)
        children[pidfd] = pid
        poll.register(pidfd, select.POLLIN)
        link.send("forked", id=message["id"], pid=pid)
        for fd in fds:
            os.close(fd)
        return False
    link.close()
    for pidfd in children:
        os.close(pidfd)
    return True


def _become_worker(environ, fds):
    """Everything that a new process would have of its own."""
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    for fd in fds:
        if fd > 2:
            os.close(fd)
    if os.isatty(0):
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    preload.restore(environ)
    with contextlib.suppress(OSError, ValueError):
        _sign_environment(environ[_TOKEN])
    _new_seeds()
    devsup_agent.begin()
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
