"""What a request in flight streams, found out only when a reload asks: plain requests are not wrapped, and pay nothing for it."""

import re

from devsup_agent.active import streams

_CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")


def look(tracker, record):
    """Give a record that was made late the headers of its answer, and let it see what is sent from now on."""
    cycle = record.cycle
    if record.head is not None or record.task is None or not cycle.response_started or cycle.response_complete:
        return
    head = _headers(record.task)
    record.found(head, streams.kind_of(head) if head else streams.UNKNOWN, cycle.scope.get("path_params"))
    if head and record.is_stream():
        record.last = b"?"  # what was sent before is not known
        cycle.transport = _Tap(cycle.transport, tracker, record)


def sender(cycle):
    """What sends the end of an answer, past the tap."""
    if isinstance(cycle.transport, _Tap):
        cycle.transport = cycle.transport.transport
    return cycle.send


def _headers(task):
    """The headers of the Starlette response that a task is sending; () for other frameworks."""
    coro = task.get_coro()
    while coro is not None:
        frame = getattr(coro, "cr_frame", None)
        headers = getattr(frame.f_locals.get("self"), "raw_headers", None) if frame is not None else None
        if headers is not None:
            return headers
        coro = getattr(coro, "cr_await", None)
    return ()


class _Tap:
    """Stands before a connection's transport, and tells the record what is written."""

    def __init__(self, transport, tracker, record):
        self.transport, self._tracker, self._record = transport, tracker, record

    def __getattr__(self, name):
        return getattr(self.transport, name)

    def write(self, data):
        """As the transport's."""
        if self._record.leaving and self._record.is_whole():
            self._tracker.end_stream(self._record)
        if self._record.cut:
            return  # that chunk is no part of the answer any more
        self.transport.write(data)
        self._record.wrote(_unchunked(bytes(data)))
        if self._record.is_whole():
            self._tracker.look()


def _unchunked(data):
    """The piece of a body inside one chunk of HTTP/1.1, or the data where it is none."""
    size = _CHUNK.match(data)
    body = data[size.end() : -2] if size is not None else data
    return body if size is None or len(body) == int(size.group(1), 16) else data
