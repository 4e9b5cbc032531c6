"""What counts as active in this process: one record per request, WebSocket or stream (DESIGN 5)."""

import fnmatch
import re
import time

FRESH_STREAM = 60.0  # seconds: an event stream of an unknown route is work until it is this old
FRESH = 0.25  # seconds: on a connection this young the first request, or message, may be under way
PAUSE = 0.01  # seconds after an answer in which a client that never rests asks again
WRITING = 0.02  # seconds between looks at an answer that a slow client still reads; only while a reload waits
LIMIT = 60.0  # seconds from the message: longer pushes over a WebSocket are a stream, not an answer


def stream_decision(path, streams):
    """What the settings say of the route: 'work', 'endless', or '' where they say nothing."""
    for route, decision in streams.items():
        if fnmatch.fnmatchcase(path, re.sub(r"\{[^}]*\}", "*", route)):
            return decision
    return ""


def unwritten(transport):
    """Bytes that a transport still holds; 0 for none, and for a TLS one of an old Python whose client has left."""
    try:
        return transport.get_write_buffer_size()
    except Exception:
        return 0


class Request:
    """One HTTP request, from its first byte until its answer is written and the app has returned."""

    __slots__ = (
        "_streams",
        "cut",
        "cycle",
        "head",
        "last",
        "method",
        "path",
        "peer",
        "send",
        "started",
        "task",
        "told",
        "transport",
    )

    def __init__(self, method, path, streams):
        self.method = method
        self.path = path
        self.started = time.monotonic()
        self.head = None  # the http.response.start message, once sent
        self.last = b""  # the last piece of the body
        self.cut = False
        self.told = False
        self.transport = None  # set when the app has returned and its answer is not yet written
        self.task = self.send = self.cycle = None
        self.peer = None  # (host, port) of the client, where that is how its connection is known
        self._streams = streams

    @property
    def name(self):
        """As the reports show it."""
        return f"{self.method} {self.path}"

    def detail(self):
        """What became of the answer so far."""
        return "" if self.head is None else "the answer had begun"

    upgraded = False  # became something of which nothing is known

    def may_end(self, now, grace_over):
        """Whether a closed gate may end it: a stream, between two events or once its grace is over."""
        return self.is_endless(now) and (grace_over or self.at_event_end())

    def end(self):
        """End it as if its app had."""
        self.cut = True

    def is_event_stream(self):
        """An answer as EventSource asks for it, which reconnects by itself."""
        if self.head is None or self.method != "GET":
            return False
        for key, value in self.head:
            if key.lower() in (b"content-type", "content-type"):
                return (value if isinstance(value, bytes) else value.encode("latin-1")).startswith(b"text/event-stream")
        return False

    def is_endless(self, now):
        """A stream that nobody waits for the end of."""
        if not self.is_event_stream():
            return False
        return stream_decision(self.path, self._streams()) == "endless" or (
            stream_decision(self.path, self._streams()) == "" and now - self.started >= FRESH_STREAM
        )

    def at_event_end(self):
        """Between two events: nothing is torn when the stream ends here."""
        return not self.last or self.last.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def next_change(self, now):
        """Seconds until time alone changes what `busy` says, or None."""
        if self.transport is not None:
            return WRITING
        return FRESH_STREAM - (now - self.started) if self.is_event_stream() and now - self.started < FRESH_STREAM else None

    def busy(self, now):
        """Whether a reload must wait for this."""
        if self.transport is not None:
            return not self.cut and unwritten(self.transport) > 0
        return not self.cut and not self.is_endless(now)


def record_of(cycle, task):
    """The record of a request that uvicorn works on, made when somebody first asks, and kept with the request."""
    record = getattr(cycle, "devsup_record", None)
    if record is None:
        record = cycle.devsup_record = Request(cycle.scope["method"], cycle.scope["path"], dict)
        record.started, record.cycle, record.task = cycle.devsup_since, cycle, task
    return record


def items(records, now):
    """The records that are busy, as the supervisor reports them: [{name, age, stream}], oldest first."""
    busy = sorted((record for record in records if record.busy(now)), key=lambda record: record.started)
    return [
        {"name": record.name, "age": now - record.started, "stream": record.path if _unsettled(record) else ""} for record in busy
    ]


def _unsettled(record):
    return isinstance(record, Request) and record.is_event_stream()
