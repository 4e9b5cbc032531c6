"""The keys of the config, the kind of value that each takes, and its default."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

QUESTION = r"^(tcp|http:/(?!/)[^\s#]*(#[^\s#]+)?)\Z"

_PORT = r"([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])"
_TCP = rf"^(([\w.-]+|\[[\da-fA-F:.]+\]):)?{_PORT}\Z"
_ADDRESS = r"^(/|https?://[^\s/])\S*\Z"
_DURATION = r"^(\d+(?:\.\d+)?) ?(ms|s|m|h|d)\Z"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = r"^(\d+(?:\.\d+)?) ?((?:[kKMG]i?)?B)\Z"
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class UnreadableError(ValueError):
    """A value of the right type that means nothing: what is wrong with it ("which …"), and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy


def _seconds(value: object) -> object:
    if isinstance(value, str) and (found := re.match(_DURATION, value)):
        return round(float(found[1]) * _SECONDS[found[2]], 6)
    # Of inf and nan some would pass the limits; a text is none of them.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def duration(text: str) -> float | None:
    """Seconds, from what a duration may be written as; None where that is none."""
    found = _seconds(float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text)
    return found if isinstance(found, float) else None


def _bytes(value: object) -> object:
    if isinstance(value, str) and (found := re.match(_SIZE, value)):
        return round(float(found[1]) * _BYTES[found[2].upper()])
    return value


def _words(value: object) -> object:
    import shlex  # noqa: PLC0415 - most starts have no config file

    try:
        return shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        problem = f"which cannot be split into words: {str(error).lower()}."
        raise UnreadableError(problem, 'Close the quotation, or write a list: ["python", "main.py"].') from error


def _expression(value: object) -> object:
    try:
        re.compile(value if isinstance(value, str) else "")
    except re.error as error:
        remedy = r"A character that stands for itself has a backslash before it: '\[error\]', in single quotes."
        raise UnreadableError(f"which is no regular expression: {error}.", remedy) from error
    return value


def _expressions(value: object) -> object:
    return [_expression(each) for each in value] if isinstance(value, list) else value


def _names(value: object) -> object:
    """A list of services is a table in which each is to be ready."""
    is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return dict.fromkeys(value, "ready") if isinstance(value, list) and is_list else value


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _meta(
    description: str, read: Callable[[object], object] | None = None, also: dict[str, Any] | None = None, **rest: Any
) -> Meta:
    """`read` makes the type of what may be written instead of it; `also` tells the schema what that is."""
    return Meta(
        description=description, extra={"read": read} if read else None, extra_json_schema=also and {"also": also}, **rest
    )


_TEXT = {"type": "string", "minLength": 1}
_DURATION_TEXT = {"type": "string", "pattern": _DURATION}

# One type for each kind of value. Every one is Annotated: an error is "KEY is VALUE, where DESCRIPTION belongs."
Text = Annotated[str, _meta("a string that is not empty", min_length=1)]
Texts = Annotated[tuple[Text, ...], _meta("a list of strings")]
Flag = Annotated[bool, _meta("true or false")]
Seconds = Annotated[float, _meta('a duration such as 5 (seconds) or "2m"', _seconds, _DURATION_TEXT, ge=0)]
PositiveSeconds = Annotated[float, _meta('a duration above 0 such as 5 (seconds) or "2m"', _seconds, _DURATION_TEXT, gt=0)]
Size = Annotated[int, _meta('a size such as "50MB", or a number of bytes,', _bytes, {"type": "string", "pattern": _SIZE}, ge=0)]
Count = Annotated[int, _meta("a whole number, 0 or more,", ge=0)]
PositiveCount = Annotated[int, _meta("a whole number above 0", gt=0)]
Command = Annotated[tuple[str, ...], _meta("a string or a list of strings, not empty,", _words, _TEXT, min_length=1)]
Port = Annotated[int, _meta("a port from 1 to 65535", ge=1, le=65535)]
Ports = Annotated[
    tuple[Port, ...],
    _meta(
        "a port from 1 to 65535, or a list of them,",
        lambda value: [value] if _is_number(value) else value,
        {"type": "integer", "minimum": 1, "maximum": 65535},
    ),
]
WatchMode = Annotated[Literal["imported", "all"], _meta('"imported" or "all"')]
Reload = Annotated[Literal["drain", "handover", "restart", "off"], _meta('"drain", "handover", "restart" or "off"')]
Restart = Annotated[Literal["on-failure", "always", "never"], _meta('"on-failure", "always" or "never"')]
StopSignal = Annotated[
    Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"], _meta('"TERM", "INT", "QUIT", "HUP", "USR1" or "USR2"')
]
OnStall = Annotated[Literal["warn", "restart", "stop"], _meta('"warn", "restart" or "stop"')]
Condition = Annotated[Literal["started", "ready", "completed"], _meta('"started", "ready" or "completed"')]
Conditions = Annotated[
    dict[str, Condition],
    _meta('a table of services, each "started", "ready" or "completed",', _names, {"type": "array", "items": _TEXT}),
]
Stream = Annotated[Literal["work", "endless"], _meta('"work" or "endless"')]
Streams = Annotated[dict[str, Stream], _meta('a table of route paths, each "work" or "endless",')]
Question = Annotated[str, _meta('"tcp", "http:/PATH" or "http:/PATH#FIELD"', pattern=QUESTION)]
Variables = Annotated[dict[str, Annotated[str, _meta("a string")]], _meta("a table of strings")]
Address = Annotated[str, _meta('a path such as "/status", or a URL,', pattern=_ADDRESS)]
Tcp = Annotated[
    str,
    _meta(
        '"HOST:PORT" or a port',
        lambda value: str(value) if _is_number(value) else value,
        {"type": "integer", "minimum": 1, "maximum": 65535},
        pattern=_TCP,
    ),
]
Status = Annotated[int, _meta("a status from 100 to 599", ge=100, le=599)]
Scalar = Annotated[str | int | float | bool, _meta("a string, a number, true or false")]
Expression = Annotated[str, _meta("a regular expression, not empty,", _expression, min_length=1)]
Expressions = Annotated[tuple[Text, ...], _meta("a list of regular expressions, not empty,", _expressions, min_length=1)]


Method = Annotated[Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"], _meta('a method such as "POST"')]
Json = Annotated[Any, _meta("a value")]
Fields = Annotated[dict[str, Scalar], _meta('a table of fields, such as { "items.0.id" = 1 },')]
HeaderPatterns = Annotated[dict[str, Expression], _meta("a table of headers, each a regular expression,")]
Messages = Annotated[tuple[str, ...], _meta("a list of strings")]
Share = Annotated[float, _meta("a share from 0 to 1", ge=0, le=1)]


class Probe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question that tells whether a service works: one of the kinds, what is expected, and how often it is asked."""

    http: Address | None = None
    tcp: Tcp | None = None
    command: Command = ()
    sse: Address | None = None
    path: Text | None = None
    log: Expression | None = None
    never: Expressions = ()
    status: Status | None = None
    field: Text | None = None
    equals: Scalar | None = None
    grows_within: PositiveSeconds | None = None
    events: PositiveCount = 1
    within: PositiveSeconds | None = None
    every: PositiveSeconds = 5.0
    timeout: PositiveSeconds = 2.0
    on_stall: OnStall = "warn"

    @property
    def kind(self) -> str:
        """The one of KINDS that is given; empty when none is."""
        return next((kind for kind in KINDS if getattr(self, kind)), "")


# Kind of probe -> the expectations that go with it.
KINDS: dict[str, tuple[str, ...]] = {
    "http": ("status", "field", "equals", "grows_within"),
    "tcp": (),
    "command": (),
    "sse": ("events", "within"),
    "path": ("grows_within",),
    "log": ("within",),
    "never": (),
}


class Check(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `devsup check` demands once: one of the kinds, what is sent, and what is expected. With `runs`, a latency scenario."""

    http: Address | None = None
    ws: Address | None = None
    sse: Address | None = None
    command: Command = ()
    log: Expression | None = None
    never: Expressions = ()
    ready_within: PositiveSeconds | None = None
    max_memory: Size | None = None
    method: Method = "GET"
    headers: Variables = {}
    body: Text | None = None
    json: Json = None
    status: Status | None = None
    fields: Fields = {}
    has_headers: HeaderPatterns = {}
    pattern: Expression | None = None
    redirect: Text | None = None
    send: Messages = ()
    receive: Expressions = ()
    events: PositiveCount = 1
    timeout: PositiveSeconds = 10.0
    runs: Count = 0
    warm_up: Count = 0
    mean: PositiveSeconds | None = None
    median: PositiveSeconds | None = None
    p95: PositiveSeconds | None = None
    max: PositiveSeconds | None = None
    error_rate: Share = 0.0

    @property
    def kind(self) -> str:
        """The one of CHECKS that is given; empty when none is."""
        return next((kind for kind in CHECKS if getattr(self, kind)), "")

    @property
    def budgets(self) -> dict[str, float]:
        """What a scenario may take, in seconds."""
        found = {name: getattr(self, name) for name in BUDGETS}
        return {name: seconds for name, seconds in found.items() if seconds is not None}


BUDGETS = ("mean", "median", "p95", "max")
_SCENARIO = ("runs", "warm_up", *BUDGETS, "error_rate")

# Kind of check -> what goes with it.
CHECKS: dict[str, tuple[str, ...]] = {
    "http": ("method", "headers", "body", "json", "status", "fields", "has_headers", "pattern", "redirect", *_SCENARIO),
    "ws": ("headers", "send", "receive"),
    "sse": ("events",),
    "command": (),
    "log": (),
    "never": (),
    "ready_within": (),
    "max_memory": (),
}


# What every service is checked for, in order: that it starts, becomes ready, is alone on its port, answers, prints no error,
# stays up, with a stable memory, ends when it is asked to, and then has left its port, and nothing else behind.
BUILT_IN = ("start", "ready", "listener", "root", "health", "log", "hold", "memory", "stop", "port", "leftovers")
REPLACEABLE = frozenset({"root", "health", "log", "memory"})  # by checks of the config that are called so


COMMANDS = frozenset({"command", "target"})  # of which a service has one


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service's log file, below .devsup/logs: when another is begun, and how many old ones are kept."""

    max_size: Size = 50 * 10**6
    max_age: Seconds = 7 * 86400.0
    keep: Count = 3


Probes = Annotated[dict[str, Probe], _meta("a table of probes")]
Checks = Annotated[dict[str, Check], _meta("a table of checks")]


class Service(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to run. All times are in seconds; paths and globs are relative to the config file's folder."""

    command: Command = ()
    target: Text | None = None
    cwd: Text = "."
    python: Text | None = None
    port: Ports = ()
    watch: Texts = ()
    ignore: Texts = ()
    watch_mode: WatchMode = "imported"
    reload: Reload = "drain"
    drain_timeout: PositiveSeconds = 60.0
    gate_timeout: PositiveSeconds = 5.0
    stop_timeout: Seconds = 5.0
    stop_signal: StopSignal = "TERM"
    start_timeout: PositiveSeconds = 60.0
    stream_grace: Seconds = 2.0
    background_grace: Seconds = 30.0
    probe: Question = "tcp"
    hold: Seconds = 10.0
    loop_block_warn: Seconds = 1.0
    editor: Text | None = None
    env: Variables = {}
    env_files: Texts = ()
    streams: Streams = {}
    depends_on: Conditions = {}
    restart: Restart = "on-failure"
    probes: Probes = {}
    checks: Checks = {}
    log: Log = Log()
    fork: Flag = True
    exit_on_failure: Flag = False

    @property
    def words(self) -> tuple[str, ...]:
        """What to run: the command's words, or the target; nothing where the command line is to say it."""
        return (self.target,) if self.target else self.command
