"""One uvicorn server's drain: what is active, the gate, the end of streams, the stop. All of it on the loop's own thread."""

import asyncio
import contextlib
import select
import socket
import time
import weakref

from devsup_agent import guard, wire
from devsup_agent.active import work
from devsup_agent.agent import agent
from devsup_agent.servers.common import leave

_TURNS = 3  # of the loop, from accept to connection_made


class Drain:
    """Stands between the agent's commands, which come on its thread, and the server's loop."""

    def __init__(self, server):
        self.server = server
        self.tracker = server.config.devsup
        self.loop = asyncio.get_running_loop()
        self._waited_for = None  # while the gate is open: the records and half-sent connections of the save
        self._done = None
        self.secure = []  # the listeners on which it speaks TLS
        self._aside: weakref.WeakSet = weakref.WeakSet()  # connections that may leave at the next turn
        self._closed = None  # duplicates of the listeners, while the gate is closed
        self._timer = self._sweeper = None
        self._followed: weakref.WeakSet = weakref.WeakSet()  # tasks that tell us of their end
        self._grace_over = False

    # -- commands, from the agent's thread --------------------------------------------------------------------------

    def active(self):
        """What a reload would wait for now: [{name, age, stream}]."""
        now = time.monotonic()
        half = [
            {"name": "a half-sent request", "age": 0.0, "stream": ""} for each in list(self._connections()) if _half_sent(each)
        ]
        return work.items(self.records(), now) + half

    def drain(self, done):
        """Call `done` once everything that is active now has finished; new work is let in meanwhile."""
        self._post(self._begin, done)

    def close_gate(self, done):
        """Let nothing new in, end what waits for nothing, and call `done` once nothing is active."""
        self._post(self._close, done)

    def once_closed(self, call):
        """Call it once nothing new is let in, and what waited for nothing is handed over."""
        self._post(self._after_turns, 2 * _TURNS, call)

    def adopt(self, fds):
        """Serve these connections, as if they had been accepted here."""
        self._post(self._adopt, fds)

    def open_gate(self):
        """Let new work in again."""
        self._post(self._open)

    def stop(self, cut):
        """End the server: after what is active, or at once, saying what was lost."""
        if cut:  # told here and now: the loop may be the very thing that hangs
            now = time.monotonic()
            for record in sorted(self.records(), key=lambda each: each.started):
                if record.busy(now):
                    self.tracker.agent.lost(record)
        self._post(self._cut if cut else self._stop)

    def records(self):
        """As the tracker's, from the agent's thread: the loop may change the sets while they are read."""
        for _ in range(10):
            with contextlib.suppress(RuntimeError):
                return list(self.tracker.records())
        return []

    def _post(self, call, *args):
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(call, *args)

    # -- waiting ----------------------------------------------------------------------------------------------------

    @property
    def tasks(self):
        """The tasks that work on requests."""
        return self.server.server_state.tasks

    def _connections(self):
        return self.server.server_state.connections

    def _watch(self, done):
        self._done = done
        self.tracker.changed = self._connections().on_shrink = self._look_soon

    def _look_soon(self, *_):
        self.loop.call_soon(self._check)

    def _begin(self, done):
        now = time.monotonic()
        busy = {record for record in self.tracker.records() if record.busy(now)}
        self._waited_for = busy | {each for each in self._connections() if _half_sent(each)}
        self._watch(done)
        self._check()

    def _check(self):
        if self._done is None:
            return
        now = time.monotonic()
        left = self._left_of_save(now) if self._closed is None else self._left_behind_gate(now)
        for record in left:
            task = getattr(record, "task", None)
            if task is not None and task not in self._followed:
                self._followed.add(task)
                task.add_done_callback(self._look_soon)
        self._rearm(left, now)
        if not left:
            done, self._done = self._done, None
            self.tracker.changed = self._connections().on_shrink = None
            done()

    def _left_of_save(self, now):
        left, records = set(), self.tracker.records()
        for each in self._waited_for or ():
            if hasattr(each, "busy"):
                left.update([each] if each in records and each.busy(now) else [])
            elif each in self._connections() and _half_sent(each):
                left.add(each)
            else:  # it has been sent whole: from now on its request is waited for
                left.update(record for record in records if getattr(record, "cycle", self) is getattr(each, "cycle", None))
        self._waited_for = left
        return left

    def _left_behind_gate(self, now):
        for websocket in list(self.tracker.websockets):
            if not websocket.cut and websocket.may_end(now, self._grace_over):
                self._close_websocket(websocket)
        for request in self.tracker.records() - self.tracker.websockets:
            request.leaving = request.is_open_stream() and request.is_endless(now)
            if request.leaving and (self._grace_over or request.is_whole()):
                self.tracker.end_stream(request)
        self._sweep()
        records = {each for each in self.tracker.records() if not each.cut}
        return records | set(self._connections())

    def _rearm(self, left, now):
        """Look again when time alone may have changed the answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits = [each.next_change(now) for each in left if hasattr(each, "next_change")]
        waits = [wait for wait in waits if wait is not None]
        if waits:
            self._timer = self.loop.call_later(max(0.01, min(waits)), self._check)

    # -- the gate ---------------------------------------------------------------------------------------------------

    def _close(self, done):
        self._grace_over = False
        if self._closed is None:
            self._closed = []
            for server in self.server.servers:
                self._closed.extend(sock.dup() for sock in server.sockets or ())
                self._stop_accepting(server)
        self._watch(done)
        self.loop.call_later(self.tracker.agent.settings.get("stream_grace", 2.0), self._end_grace)
        self._after_turns(_TURNS, self._check)

    def _stop_accepting(self, server):
        # asyncio's accept finishes a few turns later, and drops its connection when the server is closed by then.
        if isinstance(server, asyncio.base_events.Server):
            for sock in server.sockets:
                self.loop.remove_reader(sock.fileno())
            self._after_turns(_TURNS, server.close)
        else:
            server.close()

    def _after_turns(self, turns, call):
        if turns:
            self.loop.call_soon(self._after_turns, turns - 1, call)
        else:
            call()

    def _sweep(self):
        """Close the connections that wait for nothing; a request that has reached the kernel is still answered, with a close."""
        idle = [each for each in self._connections() if not _has_work(each)]
        if not self.secure and not agent.final:
            for each in [each for each in idle if _has_more_body(each)]:
                _shut(each)
            self._set_aside([each for each in idle if each not in self._aside and _is_at_rest(each.transport)])
            for each in self._connections():
                self._set_aside_once_answered(each)
            return
        unread, now = _readable(idle), time.monotonic()
        young = [each for each in idle if self._is_young(each, now)]
        for each in idle:
            if each not in unread and each not in young:
                _shut(each)
        for each in self._connections():
            if _has_work(each) and not _has_more(each):
                _answer_last(getattr(each, "cycle", None))
        if (unread or young) and self._sweeper is None:
            self._sweeper = self.loop.call_later(work.PAUSE, self._sweep_again)

    def _set_aside(self, idle):
        """The next worker takes the connections that wait for nothing, unless something arrives before the loop's next turn."""
        for each in idle:
            with contextlib.suppress(RuntimeError):  # it is closing
                each.transport.pause_reading()
        self._aside.update(idle)
        if idle:
            self.loop.call_soon(self._hand_over, idle)

    def _set_aside_once_answered(self, protocol):
        """What its client asks next is the next worker's to read."""
        cycle = getattr(protocol, "cycle", None)
        if cycle is None or cycle.response_complete or hasattr(cycle, "devsup_leaves"):
            return
        cycle.devsup_leaves, answered = True, cycle.on_response

        def on_response():
            answered()
            if self._closed is not None and not _has_work(protocol):
                self._set_aside([protocol])

        cycle.on_response = on_response

    def _hand_over(self, idle):
        self._aside.difference_update(idle)
        may_leave = [] if self._closed is None else idle
        leaving = [each for each in may_leave if not (_has_work(each) or _has_more_body(each)) and _is_at_rest(each.transport)]
        for start in range(0, len(leaving), wire.MAX_FDS):
            piece = leaving[start : start + wire.MAX_FDS]
            sent = agent.send("connections", fds=[each.transport.get_extra_info("socket").fileno() for each in piece])
            for each in piece:
                each.transport.abort() if sent else _shut(each)
        for each in idle:
            if not each.transport.is_closing():
                each.transport.resume_reading()
        if self._closed is not None:
            self._look_soon()

    def _is_young(self, protocol, now):
        """Its first request, or the next of a client that asks without a pause, may be on the way."""
        if getattr(protocol, "cycle", None) is None:
            return now - getattr(protocol, "devsup_since", 0) < work.FRESH
        timer = getattr(protocol, "timeout_keep_alive_task", None)
        return timer is not None and self.loop.time() - (timer.when() - protocol.timeout_keep_alive) < work.PAUSE

    def _sweep_again(self):
        self._sweeper = None
        self._check()

    def _end_grace(self):
        self._grace_over = True
        self._check()

    def _open(self):
        if self._closed is None:
            for server in self.server.servers:
                if not server.is_serving():
                    self.loop.create_task(server.start_serving())
            return
        listeners, self._closed = self._closed, None
        self._done = self.tracker.changed = self._connections().on_shrink = None
        self.loop.create_task(self._listen_again(listeners))

    async def _listen_again(self, listeners):
        config = self.server.config
        self.server.servers = [
            await self.loop.create_server(self._protocol, sock=sock, ssl=config.ssl, backlog=config.backlog) for sock in listeners
        ]

    def _protocol(self, _loop=None):
        config, server = self.server.config, self.server
        return config.http_protocol_class(
            config=config, server_state=server.server_state, app_state=server.lifespan.state, _loop=_loop
        )

    def _adopt(self, fds):
        for fd in fds:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            self.loop.create_task(self._serve(sock))

    async def _serve(self, sock):
        with guard("a connection of the worker before"):
            _, protocol = await self.loop.connect_accepted_socket(self._protocol, sock)
            if protocol.cycle is None and not _half_sent(protocol):  # else it has spoken already
                wait = protocol.timeout_keep_alive
                protocol.timeout_keep_alive_task = self.loop.call_later(wait, protocol.timeout_keep_alive_handler)

    # -- the stop ---------------------------------------------------------------------------------------------------

    def _stop(self):
        self._close(self._exit)

    def _cut(self):
        for record in self.tracker.records():
            if hasattr(record, "noticed"):
                self._close_websocket(record)
            if isinstance(record, work.Request) and record.is_open_stream():
                self.tracker.end_stream(record)
                continue
            record.cut = True
            if record.task is not None:
                record.task.cancel()
        for each in list(self._connections()):
            if getattr(each, "transport", None) is not None:
                each.transport.abort() if _has_work(each) and not _ends(each) else _shut(each)
        self._exit()

    def _exit(self):
        for websocket in list(self.tracker.websockets):
            if not websocket.noticed and websocket.task is not None:  # it sleeps, and would be waited for in vain
                websocket.task.cancel()
        for sock in self._closed or ():
            sock.close()
        if agent.manager is None:
            self.server.should_exit = True
        else:
            leave()

    def _close_websocket(self, websocket):
        websocket.cut = True
        _shut(websocket.protocol)


def _shut(protocol):
    """Ask one connection to close as uvicorn's own shutdown would: idle at once (1012 for a WebSocket), busy after its answer."""
    with contextlib.suppress(Exception):
        protocol.shutdown()


def _is_at_rest(transport):
    return not transport.is_closing() and not work.unwritten(transport)


def _ends(protocol):
    """Its answer is a stream that is told its end, by a client that has read all before."""
    record = getattr(getattr(protocol, "cycle", None), "devsup_record", None)
    return record is not None and record.is_stream() and record.cut and not work.unwritten(protocol.transport)


def _answer_last(cycle):
    """Let this answer say that it is the connection's last; one whose head is out already ends as any other."""
    if cycle is None or cycle.response_started or not cycle.keep_alive:
        return
    cycle.keep_alive = False
    if hasattr(cycle, "conn"):  # h11's would close without a word
        cycle.default_headers = [*cycle.default_headers, (b"connection", b"close")]


def _half_sent(protocol):
    """A request has begun to arrive and is not yet known to the app."""
    conn = getattr(protocol, "conn", None)
    if conn is not None and hasattr(conn, "their_state"):
        return str(conn.their_state) == "IDLE" and bool(conn.trailing_data[0])
    scope, cycle = getattr(protocol, "scope", None), getattr(protocol, "cycle", None)
    return hasattr(protocol, "parser") and scope is not None and (cycle is None or cycle.scope is not scope)


def _has_more_body(protocol):
    """The answer came before the request was whole: what follows of it is no request."""
    conn, cycle = getattr(protocol, "conn", None), getattr(protocol, "cycle", None)
    if conn is not None and hasattr(conn, "their_state"):
        return str(conn.their_state) == "SEND_BODY"
    return cycle is not None and cycle.more_body


def _has_work(protocol):
    if not hasattr(protocol, "cycle"):
        return True  # a WebSocket: its record decides
    cycle = protocol.cycle
    return (
        (cycle is not None and not cycle.response_complete) or bool(getattr(protocol, "pipeline", None)) or _half_sent(protocol)
    )


def _has_more(protocol):
    """Another request has come behind the one that is being answered (h11 reads it then; httptools' `cycle` is the last one)."""
    conn = getattr(protocol, "conn", None)
    return bool(getattr(conn, "trailing_data", ((),))[0])


def _readable(protocols):
    """Those with unread bytes in the kernel."""
    poll, by_fd = select.poll(), {}
    for protocol in protocols:
        with contextlib.suppress(Exception):
            fd = protocol.transport.get_extra_info("socket").fileno()
            poll.register(fd, select.POLLIN)
            by_fd[fd] = protocol
    return {by_fd[fd] for fd, _ in poll.poll(0)}
