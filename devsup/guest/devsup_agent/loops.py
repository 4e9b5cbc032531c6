"""The event loop that some code runs in: asyncio's (uvloop's too) or trio's."""

import asyncio
import contextlib
import sys


class Asyncio:
    """A loop of asyncio, as other threads see it."""

    def __init__(self, loop):
        self._loop = loop

    def soon(self, call, *args):
        """Call it on the loop's thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    def start(self, function, *args):
        """Run a coroutine function on the loop; what it raises is nobody's."""
        self.soon(lambda: self._loop.create_task(_quietly(function, *args)))


class Trio:
    """A run of trio, as other threads see it."""

    def __init__(self):
        self._trio = sys.modules["trio"]
        self._token = self._trio.lowlevel.current_trio_token()

    def soon(self, call, *args):
        """Call it on the run's thread."""
        with contextlib.suppress(Exception):  # the run has ended
            self._token.run_sync_soon(call, *args)

    def start(self, function, *args):
        """Run a coroutine function in the run; what it raises is nobody's."""
        self.soon(self._trio.lowlevel.spawn_system_task, _quietly, function, *args)


async def _quietly(function, *args):
    with contextlib.suppress(Exception):
        await function(*args)


def running():
    """The loop that the caller runs in."""
    try:
        return Asyncio(asyncio.get_running_loop())
    except RuntimeError:
        return Trio()


def current_task():
    """The task of asyncio that the caller runs in; None in trio's."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


async def sleep(seconds):
    """Let others run, for so long."""
    await (asyncio.sleep(seconds) if current_task() is not None else sys.modules["trio"].sleep(seconds))


async def turn():
    """Let others run."""
    await sleep(0)


@contextlib.contextmanager
def cancellable(record):
    """Around the work of a record: `record.task.cancel()` ends it, which is its task, or in trio this block."""
    record.task = current_task()
    if record.task is not None:
        yield
    else:
        with sys.modules["trio"].CancelScope() as record.task:
            yield
