"""The files that a config is made of: their text, their tables, and the line that each key stands on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from devsup.config.values import CHECKS, COMMANDS, KINDS
from devsup.errors import UsageError

Keys = tuple[str, ...]

_SHOWN = 60


class Source(Struct, frozen=True, dict=True):
    """One file: devsup's table in it, the keys that lead to it, and what tells where in its text each key stands."""

    path: Path
    text: str
    table: dict[str, Any]
    prefix: Keys = ()
    statements: Callable[[str], Iterable[tuple[int, Keys]]] | None = None

    @cached_property
    def places(self) -> list[tuple[int, Keys]]:
        """Line and full path of each key and header."""
        return list((self.statements or statements_of_toml)(self.text))

    def line(self, keys: Keys) -> int:
        """The line, from 1, where `keys` is first set or entered; else that of the closest table around it."""
        keys = (*self.prefix, *keys)
        best, depth = 1, 0
        for number, path in self.places:
            if path[: len(keys)] == keys:
                return number
            if len(path) > depth and keys[: len(path)] == path:
                best, depth = number, len(path)
        return best

    def depth(self, keys: Keys) -> int:
        """How many of `keys`, from the first, lead somewhere in this file."""
        inner: object = self.table
        for number, key in enumerate(keys):
            if not isinstance(inner, dict) or key not in inner:
                return number
            inner = inner[key]
        return len(keys)


class Sources(Struct, frozen=True, dict=True):
    """A config's files; each one's keys go before those of the files before it."""

    files: tuple[Source, ...] = ()

    @cached_property
    def merged(self) -> dict[str, Any]:
        """One table of all: tables are merged key by key, everything else replaces."""
        table: dict[str, Any] = {}
        for source in self.files:
            table = _merged(table, source.table)
        return table

    def where(self, keys: Keys) -> str:
        """FILE:LINE of what sets `keys`; "default" where nothing does."""
        inner: Any = self.merged
        for key in keys:
            if not isinstance(inner, dict):  # a list that stands for a table
                break
            if key not in inner:
                return "default"
            inner = inner[key]
        source = self._nearest(keys)
        return f"{source.path}:{source.line(keys)}"

    def named(self, keys: Keys) -> str:
        """The keys as they are written in full in the file that they stand in."""
        return dotted((*self._nearest(keys).prefix, *keys))

    def error(self, keys: Keys, problem: str, remedy: str) -> UsageError:
        """What is wrong with the value of `keys`, with its place."""
        source = self._nearest(keys)
        return UsageError(f"{source.path}:{source.line(keys)}: {self.named(keys)} {problem}", remedy)

    def _nearest(self, keys: Keys) -> Source:
        return max(reversed(self.files), key=lambda source: source.depth(keys))


def _merged(under: dict[str, Any], over: dict[str, Any], keys: Keys = ()) -> dict[str, Any]:
    match keys:
        case ("services", _) if not COMMANDS.isdisjoint(over):  # a command replaces a target, too
            under = {key: value for key, value in under.items() if key not in COMMANDS}
        case ("services", _, "probes" | "checks" as table, _):
            kinds = KINDS if table == "probes" else CHECKS
            under = under if kinds.keys() & over.keys() <= under.keys() else {}  # another question altogether
        case _:
            pass
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = _merged(under[key], over[key], (*keys, key))
    return both


def read_text(path: Path) -> str | None:
    """A file's text; None where there is none. Raises UsageError for one that cannot be read."""
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


def read_toml(path: Path, text: str, prefix: Keys = ()) -> Source | None:
    """The file's table at `prefix`; None where it has none there. Raises UsageError for what is no TOML."""
    import tomllib  # noqa: PLC0415 - most starts have no config file

    try:
        table: Any = tomllib.loads(text)
    except ValueError as error:
        # The parser names the place in its message alone: "… (at line 3, column 5)" or "… (at end of document)".
        reason, _, place = str(error).partition(" (at ")
        numbers = re.findall(r"\d+", place)
        line = int(numbers[0]) if numbers else len(text.splitlines())
        column = f" at column {numbers[1]}" if numbers else ""
        problem = f"{path}:{line}: this is not TOML: {reason[:1].lower()}{reason[1:]}{column}."
        raise UsageError(problem, "Correct that line.") from error
    for key in prefix:
        if not isinstance(table, dict) or key not in table:
            return None
        table = table[key]
    return Source(path, text, table, prefix)


def statements_of_toml(text: str) -> Iterator[tuple[int, Keys]]:
    """Each header and key of a valid TOML text, as (line, full path).

    tomllib keeps no positions, but every statement is a document of its own: lines are added until one parses.
    """
    import tomllib  # noqa: PLC0415 - only for an error message

    header: Keys = ()
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


def _paths(table: dict[str, Any]) -> Iterator[Keys]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from ((key, *path) for path in _paths(value))
        else:
            yield (key,)


def guess(word: str, known: Iterable[str]) -> str:
    """A question about what was meant, with a space after it; empty where nothing comes close."""
    import difflib  # noqa: PLC0415 - only for an error message

    close = difflib.get_close_matches(word, known, n=1)
    return f'Did you mean "{close[0]}"? ' if close else ""


def dotted(keys: Keys) -> str:
    """Keys as TOML writes them."""
    return ".".join(map(quoted, keys))


def quoted(key: str) -> str:
    """One key as TOML writes it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else msgspec.json.encode(key).decode()


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    # JSON has no inf and nan.
    infinite = isinstance(value, float) and not math.isfinite(value)
    text = str(value) if infinite else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
