"""When a WebSocket is busy: told by what the app does with `receive`, with tasks, and with `send` (DESIGN 5)."""

import asyncio
import functools
import os
import time

from devsup_agent import loops
from devsup_agent.active import kernel, owners
from devsup_agent.active.work import FRESH, LIMIT
from devsup_agent.agent import agent

QUIET = 0.03  # seconds without a byte or a message, after which none is half received, or waits in the server's queue
GAP = 1.0  # seconds without a send that end an answer pushed from elsewhere
_ASYNCIO = os.path.dirname(asyncio.__file__)
_counted: set = set()  # ids of the loops whose tasks are attributed to WebSockets


class WebSocket:
    """One WebSocket: the wrapper of its `receive` and `send`, and the record of what it has in hand."""

    upgraded = True
    transport = None
    answered = None  # when the app returned

    def __init__(self, tracker, path, receive, send, peer=None):
        self._tracker, self._receive, self._send = tracker, receive, send
        self.path, self.name = path, "WS " + path
        self.peer = tuple(peer) if peer else None
        self.protocol = getattr(receive, "__self__", None)
        self.started = time.monotonic()  # of the handshake, then of the last message
        self.in_hand = True  # the handshake or a message that the app has taken, and not yet asked past
        self._let_go = 0.0  # when it last had nothing more in hand
        self.told = False
        self.cut = False  # closed by a reload: closed once, whatever the app still sends
        self.noticed = False  # the app knows that its client is gone
        self._asked = False  # a message has come: what is sent may be its answer
        self.task = loops.current_task()
        self._loop = loops.running()
        self._answered = False
        self._pushed = None  # time of the last send by others since the handler was done, while the gaps stay short
        self._streak = False  # there was such a send
        self._receiver = None  # the task that is in receive() now
        self._last_receiver = None  # the one that was last: it may be a helper, and not have ended yet
        self._tasks = {}
        self._undelivered = 0
        self._first_undelivered = None
        owners.enter(self)
        if self.task is not None:
            _attribute_tasks(asyncio.get_running_loop())

    async def receive(self):
        """The app's receive."""
        self.asks()
        try:
            message = await self._receive()
        finally:
            self.asked()
        if message["type"] == "websocket.receive":
            self.took()
        elif message["type"] == "websocket.disconnect":
            self._gone()
        return message

    async def send(self, message):
        """The app's send: after a close by reload it goes nowhere, and is counted instead of raising six errors."""
        if self.cut:
            self._lose(message)
            await loops.turn()  # a loop that only sends would hold up all others
            return
        now = self.sends()
        try:
            await self._send(message)
        except Exception:
            self._lose(message)
            self._gone()
            raise
        if not self._answered:
            self._answered, self.in_hand, self.started = True, False, now
            self._changed()

    def asks(self):
        """The app asks for the next message, which says that the last one is done with."""
        if self._answered and self.in_hand:
            # What the handler itself has sent was the answer; another sender has a moment from now on.
            self.in_hand, self._pushed = False, time.monotonic()
            self._let_go = self._pushed
            self._changed()
        self._receiver = self._last_receiver = loops.current_task()

    def asked(self):
        """The app has got what it asked for, or asks no more."""
        self._receiver = None

    def took(self):
        """The app has a message."""
        self.in_hand = self._asked = True
        agent.heart.stir_here()
        self.started, self._pushed, self._streak = time.monotonic(), None, False
        self._changed()

    def sends(self):
        """Somebody sends, at the time that is returned."""
        now = time.monotonic()
        if self._pushed is not None and not self.in_hand:
            self._streak = now - self._pushed <= GAP
            self._pushed = now if self._streak else None
        return now

    def may_end(self, now, grace_over):
        """Whether a closed gate may end it: it is not busy, and no message is on its way."""
        return not self.busy(now) and (grace_over or not self._is_spoken_to(now))

    def _is_spoken_to(self, now):
        if now - self._let_go < QUIET or (not self._asked and now - self.started < FRESH):
            return True
        return kernel.heard_within(getattr(self.protocol, "transport", None), QUIET)

    def end(self):
        """Close it, from any thread, as one that will be back."""
        self.cut = True
        self._loop.start(self._close)

    async def _close(self):
        await self._send({"type": "websocket.close", "code": 1012})

    def _lose(self, message):
        self._undelivered += 1
        self._first_undelivered = self._first_undelivered or message

    def _gone(self):
        if not self.noticed and not self.cut and self._answered and (self.in_hand or self._has_task()):
            agent.lost(self)
        self.noticed, self.in_hand = True, False
        self._changed()

    def finished(self):
        """The app has returned."""
        if self.cut and self._undelivered and self._asked and time.monotonic() - self.started < LIMIT:
            agent.lost(self)  # pushes that nobody asked for, or that last this long, are no answer
        agent.background.leave(self)
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
        if self.in_hand or self.cut:
            return None
        if not self.busy(now):
            return QUIET if self._is_spoken_to(now) else None
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
        """A task was started in this WebSocket's context; one that its server's `receive` starts does nothing for the app."""
        if self._receiver is not None and loops.current_task() is self._receiver:
            return
        self._tasks[task] = time.monotonic()
        task.add_done_callback(self._forget)

    def _forget(self, task):
        self._tasks.pop(task, None)
        self._changed()


class Told(WebSocket):
    """A WebSocket of a server that is no ASGI server: hooks tell what is heard and said, and `close` closes it with 1012."""

    def __init__(self, changed, path, peer, close=None):
        super().__init__(None, path, None, None, peer)
        self._tell, self.close = changed, close
        self.in_hand, self._answered = False, True

    def _changed(self):
        self._tell()

    async def _close(self):
        closing = self.close() if self.close is not None else None
        if closing is not None:
            await closing


def hear(owner, name, heard=lambda _: True):
    """Let a coroutine method that returns the next message tell the record `.devsup` of its object; `heard(message)` counts."""
    receive = getattr(owner, name)

    @functools.wraps(receive)
    async def received(self, *args, **kwargs):
        record = getattr(self, "devsup", None)
        if record is None:
            return await receive(self, *args, **kwargs)
        record.asks()
        try:
            message = await receive(self, *args, **kwargs)
        finally:
            record.asked()
        if heard(message):
            record.took()
        return message

    setattr(owner, name, received)


def say(owner, *names):
    """Let methods that send tell the record `.devsup` of their object."""
    for name in names:
        if hasattr(owner, name):
            _say(owner, name)


def _say(owner, name):
    send = getattr(owner, name)

    @functools.wraps(send)
    def sent(self, *args, **kwargs):
        if getattr(self, "devsup", None) is not None:
            self.devsup.sends()
        return send(self, *args, **kwargs)

    setattr(owner, name, sent)


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
        owner = owners.owner.get(None) if context is None else context.get(owners.owner)
        if isinstance(owner, WebSocket):
            owner.adopt(task)
        return task

    loop.set_task_factory(factory)
