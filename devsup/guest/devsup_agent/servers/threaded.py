"""A threaded server's drain: the same commands as uvicorn's, carried out under a lock by whichever thread notices."""

import contextlib
import socket
import threading
import time

from devsup_agent import sockets, work

FRESH = 0.25  # seconds: a connection this young may have its first byte under way


class ThreadedDrain:
    """Stands between the agent's commands and a socketserver whose requests run in threads."""

    def __init__(self, server, agent, record):
        self.server, self.agent, self._record = server, agent, record
        self._lock = threading.RLock()
        self._sockets = {}  # the connections, from accept to close
        self._waited_for: set = set()
        self._done = None
        self._closed = False
        self._timer = None
        self._grace_ends = 0.0
        sockets.on_accept[server.socket] = self.connection

    def connection(self, sock):
        """The record of an accepted connection."""
        with self._lock:
            if sock not in self._sockets:
                self._sockets[sock] = self._record(sock)
            return self._sockets[sock]

    def end(self, sock):
        """A connection is closed, its last byte written."""
        with self._lock:
            self._sockets.pop(sock, None)
            self._check()

    @property
    def _open(self):
        return set(self._sockets.values())

    # -- commands, from the agent's thread --------------------------------------------------------------------------

    def active(self):
        """What a reload would wait for now: [{name, age, stream}]."""
        with self._lock:
            return work.items(list(self._open), time.monotonic())

    def drain(self, done):
        """Call `done` once everything that is active now has finished; new work is let in meanwhile."""
        with self._lock:
            now = time.monotonic()
            self._waited_for, self._done = {each for each in self._open if each.busy(now)}, done
            self._check()

    def close_gate(self, done):
        """Let nothing new in, end streams, and call `done` once nothing is active."""
        with sockets.accepting:
            sockets.gate.clear()
        with self._lock:
            self._closed, self._done = True, done
            self._grace_ends = time.monotonic() + self.agent.settings.get("stream_grace", 2.0)
            for each in list(self._open):
                self._shut(each)
            self._check()

    def open_gate(self):
        """Let new work in again."""
        with self._lock:
            self._closed, self._done = False, None
            sockets.gate.set()

    def stop(self, cut):
        """End the server: after what is active, or at once, saying what was lost."""
        if cut:
            with self._lock:
                for each in list(self._open):
                    if each.busy(time.monotonic()):
                        self.agent.lost(each)
            self._exit()
        else:
            self.close_gate(self._exit)

    def _exit(self):
        sockets.stop_accepting()
        setattr(self.server, "_BaseServer__shutdown_request", True)  # noqa: B010 - a private name of socketserver's
        wake = getattr(self.server, "devsup_wake", None)
        if wake is not None:
            wake()

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _shut(self, connection):
        """End a stream, or a connection on which no byte has come for a while."""
        now = time.monotonic()
        if connection.is_endless(now) or connection.upgraded:
            connection.cut = True
        elif not connection.got_bytes and now - connection.connected >= FRESH:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RD)

    def _check(self):
        if self._done is None:
            return
        now = time.monotonic()
        if self._closed:
            left = {each for each in self._open if self._holds_gate(each, now)}
        else:
            left = self._waited_for = {each for each in self._waited_for & self._open if each.busy(now)}
        self._rearm(left, now)
        if not left:
            done, self._done = self._done, None
            done()

    def _holds_gate(self, connection, now):
        if connection.busy(now):
            return True
        if not connection.got_bytes:
            return now - connection.connected < FRESH
        return now < self._grace_ends and not connection.upgraded

    def _rearm(self, left, now):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if left:
            waits = [each.next_change(now) for each in left] + ([0.1] if self._closed else [])
            self._timer = threading.Timer(max(0.01, min([wait for wait in waits if wait is not None] or [1.0])), self._recheck)
            self._timer.daemon = True
            self._timer.start()

    def _recheck(self):
        with self._lock:
            for each in list(self._open) if self._closed else ():
                self._shut(each)
            self._check()
