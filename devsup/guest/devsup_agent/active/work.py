"""What counts as active in this process: one record per request, WebSocket or stream (DESIGN 5)."""

import contextlib
import math
import time
import typing

from devsup_agent.active import streams
from devsup_agent.agent import agent

FRESH = 0.25  # seconds: on a connection this young the first request, or message, may be under way
PAUSE = 0.01  # seconds after an answer in which a client that never rests asks again
WRITING = 0.02  # seconds between looks at an answer that a slow client still reads; only while a reload waits
LIMIT = 60.0  # seconds from the message: longer pushes over a WebSocket are a stream, not an answer


def unwritten(transport):
    """Bytes that a transport still holds; 0 for none, and for a TLS one of an old Python whose client has left."""
    try:
        return transport.get_write_buffer_size()
    except Exception:
        return 0


class Request:
    """One HTTP request, from its first byte until its answer is written and the app has returned."""

    __slots__ = (
        "_cut",
        "_kind",
        "_params",
        "answered",
        "cycle",
        "head",
        "last",
        "leaving",
        "method",
        "path",
        "peer",
        "send",
        "started",
        "task",
        "thread",
        "told",
        "transport",
    )

    def __init__(self, method, path):
        self.method = method
        self.path = path
        self.started = time.monotonic()
        self.head = None  # the headers of the answer, once sent
        self.last = b""  # the last bytes of the body
        self.leaving = False  # a reload ends it as soon as nothing is torn
        self.told = False
        self.answered: typing.Any = None  # when it was over
        self.transport = None  # set when the app has returned and its answer is not yet written
        self.task: typing.Any = None
        self.thread: typing.Any = None  # that its handler runs in, where it is no task
        self.send: typing.Any = None
        self.cycle: typing.Any = None
        self.peer = None  # (host, port) of the client, where that is how its connection is known
        self._cut, self._params = False, None
        self._kind: typing.Any = None

    @property
    def name(self):
        """As the reports show it."""
        return f"{self.method} {self.path}"

    def detail(self):
        """What became of the answer so far."""
        return "" if self.head is None else "the answer had begun"

    upgraded = False  # became something of which nothing is known

    # -- a streamed answer ------------------------------------------------------------------------------------------

    def answers(self, head, params=None):
        """The answer begins with these headers; `params` are the parts of the path that the route leaves open."""
        self.found(head, streams.kind_of(head), params)
        self._teach("began")

    def found(self, head, kind, params):
        """The answer has these headers, and so is a stream of this kind, or none; only those asked for by GET may be cut."""
        self.head, self._params = head, params
        self._kind = kind if self.method == "GET" else None

    def wrote(self, piece):
        """A piece of the body was sent."""
        with contextlib.suppress(TypeError):  # what is no bytes the server will say
            self.last = (self.last + bytes(piece[-4:]))[-4:]

    def ended(self):
        """The app has ended the answer by itself: not because its client has left."""
        if not self._cut:
            self._teach("ended")

    @property
    def cut(self):
        """Whether a reload has ended it."""
        return self._cut

    @cut.setter
    def cut(self, value):
        if value and not self._cut:
            self._teach("cut")
        self._cut = value

    def _teach(self, what):
        """Tell what a stream does whose route the user has not decided."""
        if self._kind is streams.EVENTS and not self._setting():
            agent.send("stream", route=self.route, what=what, age=time.monotonic() - self.started)

    @property
    def route(self):
        """Its path, with the names of what varies in it where the framework tells them."""
        return streams.template(self.path, self._params)

    @property
    def undecided(self):
        """The route of a stream for which a setting would help, or ''."""
        return self.route if self.is_stream() and not self._setting() else ""

    def is_open_stream(self):
        """Whether it is a stream that the app still sends."""
        return self.is_stream() and self.transport is None and not self._cut

    def is_stream(self):
        """Whether the answer is one that may be cut between two events, parts or lines."""
        return self._kind is not None

    def _setting(self):
        return streams.setting(self.path, agent.settings["streams"])

    def _fresh(self):
        """Seconds for which a stream is work."""
        if self._kind is streams.UNKNOWN:  # a setting would have had it wrapped, and known
            return math.inf
        decision: typing.Any = self._setting() or agent.settings["learned"].get(self.route)
        return {"work": math.inf, "endless": 0.0}.get(decision, self._kind.fresh)

    def is_endless(self, now):
        """A stream that nobody waits for the end of."""
        return self.is_stream() and now - self.started >= self._fresh()

    def may_end(self, now, grace_over):
        """Whether a closed gate may end it: a stream, where nothing is torn or once its grace is over."""
        return self.is_endless(now) and (grace_over or self.is_whole())

    def end(self):
        """End it as if its app had."""
        self.cut = True

    def is_whole(self):
        """Nothing is torn when the stream ends here."""
        return self._kind.is_whole(self.last)

    # -- what a reload asks -----------------------------------------------------------------------------------------

    def next_change(self, now):
        """Seconds until time alone changes what `busy` says, or None."""
        if self.transport is not None:
            return WRITING
        left = self._fresh() - (now - self.started) if self.is_stream() else math.inf
        return left if 0 < left < math.inf else None

    def busy(self, now):
        """Whether a reload must wait for this."""
        if self.transport is not None:
            return not self.cut and unwritten(self.transport) > 0
        return not self.cut and not self.is_endless(now)


def record_of(cycle, task):
    """The record of a request that uvicorn works on, made when somebody first asks, and kept with the request."""
    record = getattr(cycle, "devsup_record", None)
    if record is None:
        record = cycle.devsup_record = Request(cycle.scope["method"], cycle.scope["path"])
        record.started, record.cycle, record.task = cycle.devsup_since, cycle, task
    return record


def items(records, now):
    """The records that are busy, as the supervisor reports them: [{name, age, stream}], oldest first."""
    busy = sorted((record for record in records if record.busy(now)), key=lambda record: record.started)
    return [{"name": record.name, "age": now - record.started, "stream": getattr(record, "undecided", "")} for record in busy]
