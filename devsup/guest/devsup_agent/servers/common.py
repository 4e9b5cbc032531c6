"""The drain of every server but uvicorn: records of its requests, its connections as accept gave them, the gate in accept.

Theory of operation. Wrappers around the app (`wsgi`, `asgi`, the handlers of http.server, aiohttp, tornado) keep a record of each
request. What they cannot see, a request whose head is still on its way or being parsed, the kernel tells: a connection on which
the last thing that happened is that data came waits for an answer. Behind a closed gate connections that wait for nothing are
shut for reading, which servers take for a client that has left.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import typing
import weakref

from devsup_agent import sockets
from devsup_agent.active import kernel, owners, work
from devsup_agent.agent import agent

LOOK = 0.05  # seconds between looks at what nothing tells of; only while a reload waits
CLOSING = 0.5  # seconds that something that was ended has for its last words


class Connection:
    """One accepted connection, as far as the kernel tells of it. A record, like a request's. `sock` may be a transport."""

    cut = told = upgraded = False
    task = peer = transport = None

    def __init__(self, sock, since: float):
        self._sock = weakref.ref(sock)
        self.started = since
        self.shut = False
        with contextlib.suppress(OSError, AttributeError):
            self.peer = self.sock.getpeername()[:2]

    @property
    def sock(self):
        """The socket, while somebody else holds it."""
        found: typing.Any = self._sock()
        if hasattr(found, "is_closing"):  # its number may be another's by now
            return None if found.is_closing() and not work.unwritten(found) else found.get_extra_info("socket")
        return found

    @property
    def name(self):
        """As the reports show it."""
        return "a request from {}:{}".format(*self.peer or ("", 0))

    def detail(self):
        """What became of the answer so far: nobody knows."""
        return ""

    def is_open(self):
        """Neither side has closed it."""
        sock = self.sock
        return sock is not None and sock.fileno() >= 0

    def busy(self, now):
        """Whether the client waits for an answer, or for the rest of it to be asked."""
        return self.is_open() and not self.shut and kernel.awaits_answer(self.sock)

    def has_answered(self, since, now):
        """Whether what its client waited for at that time has come; it may have asked again."""
        return kernel.answered_within(self.sock, now - since)

    def next_change(self, now):
        """Seconds until the next look: the kernel sends no word."""
        return LOOK

    def holds_gate(self, now):
        """Whether its next request may be under way."""
        return self.is_open() and (self.busy(now) or now - self.started < work.FRESH)

    def end(self):
        """Let the server find it closed by its client."""
        if not self.shut:
            self.shut, self.started = True, time.monotonic()
            with contextlib.suppress(AttributeError):
                # Nobody reads on after the last stop, and a thread that writes would hold up the server's end.
                kernel.shut(self.sock, socket.SHUT_RDWR if agent.final else socket.SHUT_RD)


class Drain:
    """Stands between the agent's commands and one server. `leave` ends the server; records come from any thread."""

    secure: typing.Sequence = ()  # the listeners on which it speaks TLS

    def __init__(self, leave):
        self._leave = leave
        self._lock = threading.RLock()
        self._records = set()
        self._connections: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._waited_for = set()
        self._asked = 0.0  # when it was asked what that is
        self._ended: dict = {}  # record -> when it was told to end
        self._done = None
        self.is_closed = False
        self._timer = None
        self._grace_ends = 0.0

    # -- what the wrappers tell -------------------------------------------------------------------------------------

    def begin(self, record):
        """A request has begun, in the context that it runs in."""
        owners.enter(record)
        record.thread = threading.get_ident()
        with self._lock:
            self._records.add(record)
        agent.heart.stir_here()
        return record

    def end(self, record):
        """A request has ended, its answer handed to the server."""
        with self._lock:
            self._forget_written()
            if not work.unwritten(record.transport):
                self._records.discard(record)
            self._check()
        agent.background.leave(record)
        agent.answered()

    def changed(self):
        """Something that a record says may have changed."""
        with self._lock:
            self._check()

    # -- commands, from the agent's thread --------------------------------------------------------------------------

    def active(self):
        """What a reload would wait for now: [{name, age, stream}]."""
        with self._lock:
            now = time.monotonic()
            return work.items(self._busy(now), now)

    def records(self):
        """All that may be active."""
        with self._lock:
            return list(self._records)

    def drain(self, done):
        """Call `done` once everything that is active now has finished; new work is let in meanwhile."""
        with self._lock:
            self._asked, self._done = time.monotonic(), done
            self._waited_for = self._busy(self._asked)
            self._check()

    def close_gate(self, done):
        """Let nothing new in, end streams, and call `done` once nothing is active."""
        with sockets.accepting:
            sockets.gate.clear()
        with self._lock:
            if not self.is_closed:
                self._grace_ends = time.monotonic() + agent.settings["stream_grace"]
            self.is_closed, self._done = True, done
            self._check()

    def once_closed(self, call):
        """Call it once nothing new is let in."""
        call()

    def open_gate(self):
        """Let new work in again; the agent has opened the gate in `accept`, which is the whole process's."""
        with self._lock:
            self.is_closed, self._done, self._ended = False, None, {}

    def stop(self, cut):
        """End the server: after what is active, or at once, saying what was lost."""
        if cut:
            with self._lock:
                for record in sorted(self._busy(time.monotonic()), key=lambda each: each.started):
                    agent.lost(record)
                    if isinstance(record, work.Request) and record.is_open_stream():
                        record.cut = True
                        record.end()
            self._leave()
        else:
            self.close_gate(self._leave)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _busy(self, now):
        """All that a client waits for."""
        self._forget_written()
        busy = {record for record in self._records if record.busy(now)}
        return busy | {each for each in self._unrecorded() if each.busy(now)}

    def _forget_written(self):
        self._records = {each for each in self._records if each.transport is None or work.unwritten(each.transport)}

    def _unrecorded(self):
        """The connections that no record speaks for."""
        for sock, since in sockets.accepted().items():
            if sock not in self._connections:
                self._connections[sock] = Connection(sock, since)
        spoken_for = {getattr(record, "sock", None) for record in self._records}
        peers = {record.peer for record in self._records}
        return [each for sock, each in list(self._connections.items()) if sock not in spoken_for and each.peer not in peers]

    def _check(self):
        if self._done is None:
            return
        now = time.monotonic()
        left = self._left_behind_gate(now) if self.is_closed else self._left_of_save(now)
        self._rearm(left, now)
        if not left:
            done, self._done = self._done, None
            done()

    def _left_of_save(self, now):
        self._waited_for &= self._busy(now)
        unrecorded = {each for each in self._waited_for if isinstance(each, Connection)}
        self._waited_for -= {each for each in unrecorded if each.has_answered(self._asked, now)}
        return self._waited_for

    def _left_behind_gate(self, now):
        for record in self._records:
            if not record.cut and record.may_end(now, now > self._grace_ends):
                self._ended[record] = now
                record.end()
        unrecorded = self._unrecorded()
        for connection in unrecorded:
            if not connection.holds_gate(now):
                connection.end()
        return {each for each in [*self._records, *unrecorded] if self._holds_gate(each, now)}

    def _holds_gate(self, each, now):
        if each.busy(now):
            return True
        if isinstance(each, Connection):
            return each.holds_gate(now)
        if now < self._ended.get(each, 0.0) + CLOSING:
            return True
        return now < self._grace_ends and not (each.cut and each.upgraded)

    def _rearm(self, left, now):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if left:
            waits = [each.next_change(now) for each in left] + ([work.PAUSE] if self.is_closed else [])
            self._timer = threading.Timer(
                max(work.PAUSE, min([wait for wait in waits if wait is not None] or [1.0])), self.changed
            )
            self._timer.daemon = True
            self._timer.start()


def leave(loop=None):
    """End the program as its user would: by its manager, its own handler of SIGTERM, SystemExit in its loop, or Ctrl-C."""
    if agent.manager is not None:
        os.kill(agent.manager, signal.SIGTERM)
    elif signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None):
        os.kill(os.getpid(), signal.SIGTERM)
    elif loop is not None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(sys.exit, 0)
    elif callable(signal.getsignal(signal.SIGINT)):
        _without_traceback()
        os.kill(os.getpid(), signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def _without_traceback():
    """Nobody has pressed Ctrl-C: the program need not say where it was."""
    show = sys.excepthook

    def excepthook(kind, exc, trace):
        if kind is not KeyboardInterrupt:
            show(kind, exc, trace)

    sys.excepthook = excepthook
