"""What a command line says of the addresses that it is going to serve, and which addresses are in each other's way."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EVERY = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104 - compared with, never bound
_LOCALHOST = frozenset({"127.0.0.1", "::1", "localhost"})
_TARGET = "devsup_agent.target"
_LAUNCHERS = {"uv", "poetry", "pipenv", "pdm", "hatch", "rye"}  # NAME run [options] COMMAND


class _Program(NamedTuple):
    """How a server is told its address. A `default` stands only where no file could say otherwise."""

    port: tuple[str, ...] = ("--port", "-p")
    host: tuple[str, ...] = ("--host",)
    bind: tuple[str, ...] = ()
    environ: str = ""
    any_host: str = "127.0.0.1"
    default: int = 0
    verb: str = ""
    never: tuple[str, ...] = ()


_PROGRAMS = {
    "uvicorn": _Program(port=("--port",), environ="UVICORN_", default=8000, never=("--uds", "--fd")),
    _TARGET: _Program(port=("--port", "-p"), host=("--host", "-h")),
    "flask": _Program(host=("--host", "-h"), environ="FLASK_RUN_", verb="run"),
    "fastapi": _Program(port=("--port",)),
    "hypercorn": _Program(port=(), host=(), bind=("--bind", "-b")),
    "gunicorn": _Program(port=(), host=(), bind=("--bind", "-b")),
    "granian": _Program(port=("--port",), environ="GRANIAN_", default=8000, never=("--uds",)),
    "daphne": _Program(host=("--bind", "-b"), never=("-u", "--fd", "--endpoint", "-e")),
    "waitress-serve": _Program(port=("--port",), bind=("--listen",), any_host=""),
    "http.server": _Program(port=(), host=("--bind", "-b"), any_host="", default=8000),
    "vite": _Program(port=("--port",), any_host="localhost"),
    "next": _Program(port=("--port", "-p"), host=("--hostname", "-H"), any_host=""),
}


def intended(command: Sequence[str], environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """Host and port of every TCP address that this command is sure to serve; "" is every address. Often nothing is sure."""
    name, words = _program(command)
    if name == "http.server" and words and words[0].isdigit():
        words = ["--port", *words]
    if name.endswith("manage.py") and "runserver" in words:
        return _of_django(words[words.index("runserver") + 1 :])
    known = _PROGRAMS.get(name)
    if known is None or (known.verb and known.verb not in words) or _value(words, known.never) is not None:
        return []
    binds = [value for option in known.bind for value in _values(words, option)]
    if binds:
        return [found for value in binds for found in _split(value)]
    port = _value(words, known.port or ("--port",)) or environ.get(f"{known.environ}PORT") or str(known.default)
    host = _value(words, known.host) or environ.get(f"{known.environ}HOST") or known.any_host
    return [(host, int(port))] if port.isdigit() and 0 < int(port) < 65536 else []


def meet(one: str, other: str) -> bool:
    """Whether a client that means one of these hosts could reach a listener on the other: the same, all, or localhost's two."""
    return one == other or bool(_EVERY & {one, other}) or {one, other} <= _LOCALHOST


def same_command(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two command lines run the same program in the same way, whatever interpreter a script's first line names."""
    return bool(one) and bool(other) and _bare(one) == _bare(other)


def _bare(words: Sequence[str]) -> list[str]:
    first, *rest = words
    if _is_python(first) and rest and not rest[0].startswith("-"):
        first, *rest = rest
    return [_base(first) if not _is_python(first) else "python", *rest]


def _program(command: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the server that a command runs, and the words after it."""
    words = list(command)
    if len(words) > 2 and _base(words[0]) in _LAUNCHERS and words[1] == "run":
        words = words[2:]
        while words and words[0].startswith("-"):
            words.pop(0)
    if words and _is_python(words[0]):
        words = _without_python(words)
    return (_base(words[0]), words[1:]) if words else ("", [])


def _without_python(words: Sequence[str]) -> list[str]:
    """The script or module that an interpreter runs, and its words."""
    rest = list(words[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        if rest[0].startswith("-c"):
            return []
        rest = rest[2:] if rest[0] in {"-W", "-X"} else rest[1:]
    return rest[1:] if rest[:1] == ["-m"] else rest


def _base(word: str) -> str:
    return word.rpartition("/")[2]


def _is_python(word: str) -> bool:
    return re.fullmatch(r"python[\d.]*t?", _base(word)) is not None


def _values(words: Sequence[str], option: str) -> list[str]:
    """All values given to an option: `--port 1`, `--port=1`, `-p 1`, `-p1`."""
    found = [following for word, following in pairwise(words) if word == option]
    for word in words:
        if word.startswith(f"{option}="):
            found.append(word[len(option) + 1 :])
        elif not option.startswith("--") and word.startswith(option) and len(word) > len(option):
            found.append(word[len(option) :])
    return found


def _value(words: Sequence[str], options: Sequence[str]) -> str | None:
    return next((values[-1] for option in options if (values := _values(words, option))), None)


def _split(bind: str) -> list[tuple[str, int]]:
    """`HOST:PORT`, `[::1]:PORT`, `:PORT` or `tcp://…`; nothing for a Unix socket or a descriptor."""
    matched = re.fullmatch(r"(?:tcp://)?\[?([\w.:*-]*?)\]?:(\d+)", bind)
    if matched is None or bind.startswith(("unix:", "fd:")) or not 0 < int(matched[2]) < 65536:
        return []
    return [(matched[1], int(matched[2]))]


def _of_django(words: Sequence[str]) -> list[tuple[str, int]]:
    """`runserver [PORT|HOST:PORT]`; without either, its own default may be another one."""
    named = next((word for word in words if not word.startswith("-")), "")
    return [("127.0.0.1", int(named))] if named.isdigit() and int(named) else _split(named)
