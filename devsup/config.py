"""The config file: its keys, where it is looked for, and what is wrong with it."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from devsup.errors import UsageError

_PROBE = r"^(tcp|http:/(?!/)[^\s#]*(#[^\s#]+)?)\Z"

# One type for each kind of value. Every one is Annotated: an error is "KEY is VALUE, where DESCRIPTION belongs."
Text = Annotated[str, Meta(min_length=1, description="a string that is not empty")]
TextOrNone = Annotated[Text | None, Meta(description="a string that is not empty")]
Texts = Annotated[tuple[Text, ...], Meta(description="a list of strings")]
Flag = Annotated[bool, Meta(description="true or false")]
Seconds = Annotated[float, Meta(ge=0, description="a number of seconds, 0 or more,")]
PositiveSeconds = Annotated[float, Meta(gt=0, description="a number of seconds above 0")]
Command = Annotated[tuple[str, ...], Meta(min_length=1, description="a string or a list of strings, not empty,")]
WatchMode = Annotated[Literal["imported", "all"], Meta(description='"imported" or "all"')]
Reload = Annotated[Literal["drain", "handover", "restart", "off"], Meta(description='"drain", "handover", "restart" or "off"')]
Stream = Annotated[Literal["work", "endless"], Meta(description='"work" or "endless"')]
Question = Annotated[str, Meta(pattern=_PROBE, description='"tcp", "http:/PATH" or "http:/PATH#FIELD"')]
Variables = Annotated[dict[str, Annotated[str, Meta(description="a string")]], Meta(description="a table of strings")]
Streams = Annotated[dict[str, Stream], Meta(description='a table of route paths, each "work" or "endless",')]


class Probe(Struct, frozen=True, kw_only=True):
    """A question that tells whether a service works. Exactly one of the kinds is given; the rest says what is expected."""

    http: str | None = None
    tcp: str | None = None
    command: tuple[str, ...] = ()
    sse: str | None = None
    path: str | None = None
    log: str | None = None
    never: tuple[str, ...] = ()
    status: int | None = None
    field: str | None = None
    equals: str | int | float | bool | None = None
    grows_within: float | None = None
    events: int = 1
    within: float | None = None
    every: float = 5.0
    timeout: float = 2.0
    on_stall: Literal["warn", "restart", "stop"] = "warn"

    @property
    def kind(self) -> str:
        """The one that is given; empty when none is."""
        return next((kind for kind in ("http", "tcp", "command", "sse", "path", "log", "never") if getattr(self, kind)), "")


class Service(Struct, frozen=True, kw_only=True):
    """One thing to run. All times are in seconds; paths and globs are relative to the config file's folder."""

    command: Command = ()
    cwd: Text = "."
    python: TextOrNone = None
    watch: Texts = ()
    ignore: Texts = ()
    watch_mode: WatchMode = "imported"
    reload: Reload = "drain"
    drain_timeout: PositiveSeconds = 60.0
    gate_timeout: PositiveSeconds = 5.0
    stop_timeout: Seconds = 5.0
    stream_grace: Seconds = 2.0
    background_grace: Seconds = 30.0
    probe: Question = "tcp"
    hold: Seconds = 10.0
    loop_block_warn: Seconds = 1.0
    editor: TextOrNone = None
    env: Variables = {}
    env_files: Texts = ()
    streams: Streams = {}
    fork: Flag = True
    exit_on_failure: Flag = False


class Config(Struct, frozen=True):
    """The services by name, in the file's order, and the file they came from (None: there is no file)."""

    services: dict[str, Service]
    path: Path | None


_SOURCES: tuple[tuple[str, tuple[str, ...]], ...] = (("devsup.toml", ()), ("pyproject.toml", ("tool", "devsup")))
_DEFAULT_NAME = "app"
_SERVICE_KEY = len(("services", "NAME", "KEY"))
_SHOWN = 60


def load(folder: Path) -> Config:
    """Read the nearest config: in `folder`, then its parents, up to the first that holds a .git.

    Raises UsageError, with file and line, for a file that cannot be read or says what it may not.
    """
    start = folder.resolve()
    for place in (start, *start.parents):
        for name, prefix in _SOURCES:
            config = _read(place / name, prefix)
            if config is not None:
                return config
        if (place / ".git").exists():
            break
    return Config({}, None)


def choose(config: Config, name: str | None) -> tuple[str, Service]:
    """The service called `name`, or the only one, or a default one when the config has none.

    Raises UsageError for an unknown name, and for no name where there are several.
    """
    names = ", ".join(config.services)
    if name is None and len(config.services) > 1:
        problem = f"{config.path} has several services: {names}."
        raise UsageError(problem, f'Name one of them, as in "devsup run --service {next(iter(config.services))}".')
    if name is None:
        return next(iter(config.services.items()), (_DEFAULT_NAME, Service()))
    if name in config.services:
        return name, config.services[name]
    if not config.services:
        where = f"{config.path} has no services" if config.path else "there is no config file"
        problem = f'No service is called "{name}": {where}.'
        raise UsageError(problem, f"Add a [services.{_quoted(name)}] table to devsup.toml, or leave the name out.")
    problem = f'{config.path} has no service called "{name}".'
    raise UsageError(problem, f"{_guess(name, config.services)}The services are {names}.")


def check_probe(text: str) -> None:
    """Raise UsageError where `text` is nothing that --probe takes."""
    if not re.search(_PROBE, text):
        remedy = "Give a path of the server itself, as in --probe http:/health or --probe http:/stats#active, or tcp."
        raise UsageError(f"--probe is {_shown(text)}, which is no probe.", remedy)


class _Source(Struct, frozen=True):
    """One file's text, and the keys that lead to devsup's table in it."""

    path: Path
    text: str
    prefix: tuple[str, ...]

    def error(self, keys: tuple[str, ...], problem: str, remedy: str) -> UsageError:
        full = (*self.prefix, *keys)
        return UsageError(f"{self.path}:{_line(self.text, full)}: {_dotted(full)} {problem}", remedy)


def _read(path: Path, prefix: tuple[str, ...]) -> Config | None:
    text = _text(path)
    # A pyproject.toml that never says devsup is another tool's business, even when it is broken.
    if text is None or (prefix and prefix[-1] not in text):
        return None
    table: Any = _parse(path, text)
    for key in prefix:
        if not isinstance(table, dict) or key not in table:
            return None
        table = table[key]
    source = _Source(path, text, prefix)
    services = _table(source, (), table, ("services",)).get("services", {})
    services = _table(source, ("services",), services)
    return Config({name: _service(source, name, service) for name, service in services.items()}, path)


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode().replace("\r\n", "\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problem = f"{path} could not be read: {error.strerror}."
        raise UsageError(problem, f'Look at it with "ls -ld {path}".') from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8."
        raise UsageError(problem, "Save the file as UTF-8.") from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most starts have no config file

    try:
        return tomllib.loads(text)
    except ValueError as error:
        # The parser names the place in its message alone: "… (at line 3, column 5)" or "… (at end of document)".
        reason, _, place = str(error).partition(" (at ")
        numbers = re.findall(r"\d+", place)
        line = int(numbers[0]) if numbers else len(text.splitlines())
        column = f" at column {numbers[1]}" if numbers else ""
        problem = f"{path}:{line}: this is not TOML: {reason[:1].lower()}{reason[1:]}{column}."
        raise UsageError(problem, "Correct that line.") from error


def _service(source: _Source, name: str, raw: object) -> Service:
    keys = ("services", name)
    table = _table(source, keys, raw, Service.__struct_fields__)
    hints = get_type_hints(Service, include_extras=True)
    values: dict[str, Any] = {key: _value(source, (*keys, key), value, hints[key]) for key, value in table.items()}
    return Service(**values)


def _table(source: _Source, keys: tuple[str, ...], table: object, allowed: Sequence[str] | None = None) -> dict[str, Any]:
    """`table`, once it is sure to be one, with none but the `allowed` keys (None: any)."""
    if not isinstance(table, dict):
        header = _dotted((*source.prefix, "services", keys[1] if len(keys) > 1 else "NAME"))
        raise source.error(keys, f"is {_shown(table)}, where a table belongs.", f"Make it a table: [{header}].")
    for key in table:
        if allowed is None or key in allowed:
            continue
        remedy = f"{_guess(key, allowed)}The keys allowed here are {', '.join(allowed)}."
        if not keys:
            remedy = f"{_guess(key, allowed)}The only key allowed here is services."
            if key in Service.__struct_fields__:
                table_of_one = _dotted((*source.prefix, "services", _DEFAULT_NAME))
                remedy = f"It belongs to a service: put it below a line [{table_of_one}]."
        raise source.error((*keys, key), "is not a key of devsup.", remedy)
    return table


def _value(source: _Source, keys: tuple[str, ...], raw: object, hint: object) -> object:
    """Turn one TOML value into `hint`'s type, or raise a UsageError that names the deepest key to blame."""
    kind = get_args(hint)[0]
    if isinstance(raw, dict) and get_origin(kind) is dict:
        return {key: _value(source, (*keys, key), item, get_args(kind)[1]) for key, item in raw.items()}
    value: object = raw
    if keys[2:] == ("command",) and isinstance(raw, str):
        value = _split(source, keys, raw)
    try:
        value = msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        raise _misfit(source, keys, raw, hint) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise _misfit(source, keys, raw, hint)
    return value


def _split(source: _Source, keys: tuple[str, ...], command: str) -> list[str]:
    import shlex  # noqa: PLC0415 - most starts have no config file

    try:
        return shlex.split(command)
    except ValueError as error:
        reason = str(error).lower()
        problem = f"is {_shown(command)}, which cannot be split into words: {reason}."
        raise source.error(keys, problem, 'Close the quotation, or write a list: ["python", "main.py"].') from error


def _misfit(source: _Source, keys: tuple[str, ...], raw: object, hint: object) -> UsageError:
    kind, meta = get_args(hint)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    default = getattr(Service(), keys[-1]) if len(keys) == _SERVICE_KEY else None
    guess = _guess(raw, choices) if isinstance(raw, str) else ""
    if guess:
        remedy = guess.rstrip()
    elif kind is str and isinstance(raw, bool | int | float):
        remedy = f'Write it in quotes: {_quoted(keys[-1])} = "{_shown(raw)}".'
    elif default:
        remedy = f"Correct the line, or delete it to have the default, {_shown(default)}."
    else:
        remedy = "Correct the line, or delete it."
    return source.error(keys, f"is {_shown(raw)}, where {meta.description} belongs.", remedy)


def _line(text: str, keys: tuple[str, ...]) -> int:
    """The line, from 1, where `keys` is first set or entered; else that of the closest table around it."""
    best, depth = 1, 0
    for number, path in _statements(text):
        if path[: len(keys)] == keys:
            return number
        if len(path) > depth and keys[: len(path)] == path:
            best, depth = number, len(path)
    return best


def _statements(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each header and key of a valid TOML text, as (line, full path).

    tomllib keeps no positions, but every statement is a document of its own: lines are added until one parses.
    """
    import tomllib  # noqa: PLC0415 - only for an error message

    header: tuple[str, ...] = ()
    statement, first = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        statement, first = (f"{statement}\n{line}", first) if statement else (line, number)
        try:
            paths = list(_paths(tomllib.loads(statement)))
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            header = paths[0]
            yield first, header
        else:
            yield from ((first, header + path) for path in paths)
        statement = ""


def _paths(table: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from ((key, *path) for path in _paths(value))
        else:
            yield (key,)


def _guess(word: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - only for an error message

    close = difflib.get_close_matches(word, known, n=1)
    return f'Did you mean "{close[0]}"? ' if close else ""


def _dotted(keys: tuple[str, ...]) -> str:
    return ".".join(map(_quoted, keys))


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else msgspec.json.encode(key).decode()


def _shown(value: object) -> str:
    # JSON has no inf and nan.
    infinite = isinstance(value, float) and not math.isfinite(value)
    text = str(value) if infinite else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
