"""The record of a request in a server with handlers of its own: aiohttp, tornado, sanic."""

import asyncio
import contextlib

from devsup_agent import loops
from devsup_agent.active import streams, work


class Request(work.Request):
    """One call of a handler. `head_of()` gives the headers once they are sent; `finish()` ends the answer, or is a coroutine."""

    __slots__ = ("_finish", "_head_of", "_loop")

    def __init__(self, method, path, peer, head_of, finish):
        super().__init__(method, path)
        self.task, self.peer = asyncio.current_task(), peer and tuple(peer[:2])
        self._loop, self._head_of, self._finish = loops.running(), head_of, finish

    def is_stream(self):
        """As the base's."""
        if self.head is None:
            head = self._head_of()
            self.found(head, streams.kind_of(head), None)
        return super().is_stream()

    def end(self):
        """Let its handler go, from any thread; `run` then ends the answer."""
        self.cut = True
        if self.task is not None:
            self._loop.soon(self.task.cancel)

    async def finish(self):
        """End the answer as the handler would have."""
        finishing = self._finish()
        if finishing is not None:
            await finishing


async def run(drain, record, call, transport=None):
    """Await `call`, the handler's; what it returns, or None where it was ended on our behalf. `transport` may write on then."""
    drain.begin(record)
    try:
        return await call
    except asyncio.CancelledError:
        if not record.cut:
            raise
        with contextlib.suppress(Exception):
            await record.finish()
        return None
    finally:
        record.transport = transport
        drain.end(record)
