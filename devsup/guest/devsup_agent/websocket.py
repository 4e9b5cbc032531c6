"""When a WebSocket is busy: told by what the app does with `receive`, with tasks, and with `send` (DESIGN 5)."""

import asyncio
import contextvars
import os
import time

from devsup_agent.work import LIMIT

GAP = 1.0  # seconds without a send that end an answer pushed from elsewhere
_owner: contextvars.ContextVar = contextvars.ContextVar("devsup_websocket")
_ASYNCIO = os.path.dirname(asyncio.__file__)
_counted: set = set()  # ids of the loops whose tasks are attributed to WebSockets


class WebSocket:
    """One WebSocket: the wrapper of its `receive` and `send`, and the record of what it has in hand."""

    def __init__(self, tracker, path, receive, send):
        self._tracker, self._receive, self._send = tracker, receive, send
        self.path, self.name = path, "WS " + path
        self.protocol = getattr(receive, "__self__", None)
        self.started = time.monotonic()  # of the handshake, then of the last message
        self.in_hand = True  # the handshake or a message that the app has taken, and not yet asked past
        self.told = False
        self.cut = False  # closed by a reload: closed once, whatever the app still sends
        self.noticed = False  # the app knows that its client is gone
        self._asked = False  # a message has come: what is sent may be its answer
        self.task = asyncio.current_task()
        self._answered = False
        self._pushed = None  # time of the last send by others since the handler was done, while the gaps stay short
        self._streak = False  # there was such a send
        self._receiver = None  # the task that is in receive() now
        self._last_receiver = None  # the one that was last: it may be a helper, and not have ended yet
        self._tasks = {}
        self._undelivered = 0
        self._first_undelivered = None
        _owner.set(self)
        _attribute_tasks(asyncio.get_running_loop())

    async def receive(self):
        """The app's receive: asking for the next message says that the last one is done with."""
        if self._answered and self.in_hand:
            # What the handler itself has sent was the answer; another sender has a moment from now on.
            self.in_hand, self._pushed = False, time.monotonic()
            self._changed()
        self._receiver = self._last_receiver = asyncio.current_task()
        try:
            message = await self._receive()
        finally:
            self._receiver = None
        if message["type"] == "websocket.receive":
            self.in_hand = self._asked = True
            self.started, self._pushed, self._streak = time.monotonic(), None, False
            self._changed()
        elif message["type"] == "websocket.disconnect":
            self._gone()
        return message

    async def send(self, message):
        """The app's send: after a close by reload it goes nowhere, and is counted instead of raising six errors."""
        if self.cut:
            self._lose(message)
            await asyncio.sleep(0)  # a loop that only sends would hold up all others
            return
        now = time.monotonic()
        if self._pushed is not None and not self.in_hand:
            self._streak = now - self._pushed <= GAP
            self._pushed = now if self._streak else None
        try:
            await self._send(message)
        except Exception:
            self._lose(message)
            self._gone()
            raise
        if not self._answered:
            self._answered, self.in_hand = True, False
            self._changed()

    def _lose(self, message):
        self._undelivered += 1
        self._first_undelivered = self._first_undelivered or message

    def _gone(self):
        if not self.noticed and not self.cut and self._answered and (self.in_hand or self._has_task()):
            self._tracker.agent.lost(self)
        self.noticed, self.in_hand = True, False
        self._changed()

    def finished(self):
        """The app has returned."""
        if self.cut and self._undelivered and self._asked and time.monotonic() - self.started < LIMIT:
            self._tracker.agent.lost(self)  # pushes that nobody asked for, or that last this long, are no answer
        self._changed()

    def _changed(self):
        if self._tracker.changed is not None:
            self._tracker.changed()

    def detail(self):
        """What the client did not get."""
        if not self._undelivered:
            return "its client left" if self.noticed else ""
        message = self._first_undelivered or {}
        first = str(message.get("text") or message.get("bytes") or "")
        return f"{self._undelivered} messages not delivered, the first: {first[:200]}"

    def busy(self, now):
        """Whether a reload must wait for this WebSocket."""
        if self.cut or (self.noticed and not self.in_hand and not self._tasks):
            return False
        if self.in_hand:
            return True
        return self._answered and now - self.started < LIMIT and (self._is_pushing(now) or self._has_task())

    def next_change(self, now):
        """Seconds until time alone changes what `busy` says, or None."""
        if self.in_hand or self.cut or not self.busy(now):
            return None
        left = LIMIT - (now - self.started)
        return min(left, GAP - (now - self._pushed)) if self._is_pushing(now) and not self._has_task() else left

    def _is_pushing(self, now):
        return self._streak and self._pushed is not None and now - self._pushed <= GAP

    def _has_task(self):
        """A task that the handler started for its last message still runs; helpers that only wait are none."""
        receivers = (self._receiver, self._last_receiver)
        started = (task for task, since in list(self._tasks.items()) if since >= self.started and task not in receivers)
        return any(not _only_waits(task) for task in started)

    def adopt(self, task):
        """A task was started in this WebSocket's context."""
        self._tasks[task] = time.monotonic()
        task.add_done_callback(self._forget)

    def _forget(self, task):
        self._tasks.pop(task, None)
        self._changed()


def _only_waits(task):
    """`asyncio.wait({receive, queue.get()})`: a task whose own coroutine is asyncio's works on nothing."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_ASYNCIO)


def _attribute_tasks(loop):
    """Let tasks that are started in a WebSocket's context be known to it; costs nothing before the first WebSocket."""
    if id(loop) in _counted:
        return
    _counted.add(id(loop))
    inner = loop.get_task_factory()

    def factory(loop, coro, **kwargs):
        task = inner(loop, coro, **kwargs) if inner is not None else asyncio.Task(coro, loop=loop, **kwargs)
        context = kwargs.get("context")
        owner = _owner.get(None) if context is None else context.get(_owner)
        if owner is not None:
            owner.adopt(task)
        return task

    loop.set_task_factory(factory)
