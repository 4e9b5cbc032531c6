"""The event loop's heart: while requests run it tells the supervisor four times a second that the loop still turns.

It beats on the loop itself: that a beat does not come is all that a blocked loop has to do to be found out, whatever blocks it,
the GIL too. The supervisor then looks at the stacks from outside. At rest it costs nothing.
"""

import sys
import threading
import time
import typing

from devsup_agent import guard

PERIOD = 0.25  # seconds
_QUIET = 6  # beats without a request, after which it rests
_OLD = 60.0  # seconds: what runs for longer keeps no heart beating by itself
_NAMES = 3


class Heart:
    """Follows the loop of the request that woke it."""

    def __init__(self, agent):
        self._agent = agent
        self._loop: typing.Any = None
        self._quiet, self._due = 0, 0.0
        self._rests = True

    def stir(self, loop):
        """A request has come, after a while without any at the latest. On the loop's own thread, before the app has it."""
        self._quiet = 0
        if self._rests or self._loop is not loop:
            with guard("the heart"):
                self._loop = loop
                self._tell(loop, time.monotonic(), rests=False)

    def stir_here(self):
        """As `stir`, wherever the caller runs; nothing outside asyncio's loops."""
        events = sys.modules.get("asyncio.events")
        loop = events._get_running_loop() if events is not None else None
        if loop is not None:
            self.stir(loop)

    def _tell(self, loop, now, rests):
        lag = max(0.0, now - self._due) if not self._rests else 0.0
        self._rests = rests
        names = [item["name"] for item in self._agent.active() if item["age"] < _OLD]
        if names:
            self._quiet = 0
        thread = threading.get_ident()
        self._agent.offer("beat", thread=thread, native=threading.get_native_id(), lag=lag, requests=names[:_NAMES], rests=rests)
        if not rests:
            self._due = now + PERIOD
            loop.call_later(PERIOD, self._beat, loop)

    def _beat(self, loop):
        with guard("the heart"):
            if loop is self._loop and not self._rests:
                self._quiet += 1
                self._tell(loop, time.monotonic(), rests=self._quiet > _QUIET)
