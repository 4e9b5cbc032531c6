"""The selector of socketserver's serve_forever: it can be woken, and does not tick where nothing is done at a tick."""

import contextlib
import os
import selectors
import socketserver


def patch(module):
    """Plant the hook; `module` is socketserver."""
    module._ServerSelector = Selector


class Selector(selectors.PollSelector):
    """A poll with a pipe of ours beside the server's listener."""

    def __init__(self):
        super().__init__()
        self._wake_read, self._wake_write = os.pipe()
        self._ticks = True

    def register(self, fileobj, events, data=None):
        """As the base's, plus the pipe that wakes it."""
        key = super().register(fileobj, events, data)
        # Only a server that we wake may do without ticks, and only where nothing is done at a tick.
        idle = getattr(type(fileobj), "service_actions", None) is socketserver.BaseServer.service_actions
        self._ticks = not (idle and hasattr(fileobj, "devsup"))
        super().register(self._wake_read, selectors.EVENT_READ)
        fileobj.devsup_wake = self.wake
        return key

    def select(self, timeout=None):
        """As the base's, without our own pipe in the answer."""
        ready = super().select(timeout if self._ticks else None)
        return [(key, events) for key, events in ready if key.fd != self._wake_read]

    def wake(self):
        """Let `select` return now, and from now on."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def close(self):
        """As the base's, and the pipe."""
        super().close()
        os.close(self._wake_read)
        os.close(self._wake_write)
