"""What a command line says of the addresses that it is going to serve, and which addresses are in each other's way."""

from __future__ import annotations

import posixpath
import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_EVERY = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104 - compared with, never bound
_LOCALHOST = frozenset({"127.0.0.1", "::1", "localhost"})
_TARGET = "devsup_agent.target"
LAUNCHER = ("python", "-m", _TARGET)  # what stands before MODULE:APP where it is run
_LAUNCHERS = {"uv", "poetry", "pipenv", "pdm", "hatch", "rye"}  # NAME run [options] COMMAND


class _Program(NamedTuple):
    """How a server is told its address. A `default` stands only where no file could say otherwise.

    A word of `never` means that no address is served, or one that is told elsewhere. `files` (or such options) and `variables`
    may name it, too. With `first`, options stand before everything else.
    """

    port: tuple[str, ...] = ("--port", "-p")
    host: tuple[str, ...] = ("--host",)
    bind: tuple[str, ...] = ()
    environ: str = ""
    any_host: str = "127.0.0.1"
    default: int = 0
    verb: str = ""
    never: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    first: bool = False


_PROGRAMS = {
    "uvicorn": _Program(port=("--port",), environ="UVICORN_", default=8000, never=("--uds", "--fd")),
    _TARGET: _Program(port=("--port", "-p"), host=("--host", "-h"), never=("--uds", "--fd")),
    "flask": _Program(host=("--host", "-h"), environ="FLASK_RUN_", verb="run"),
    "fastapi": _Program(port=("--port",)),
    "hypercorn": _Program(port=(), host=(), bind=("--bind", "-b"), files=("-c", "--config")),
    "gunicorn": _Program(
        port=(),
        host=(),
        bind=("--bind", "-b"),
        files=("-c", "--config", "gunicorn.conf.py"),
        variables=("PORT", "GUNICORN_CMD_ARGS"),
    ),
    "granian": _Program(port=("--port",), environ="GRANIAN_", default=8000, never=("--uds",)),
    "daphne": _Program(host=("--bind", "-b"), never=("-u", "--fd", "--endpoint", "-e")),
    "waitress-serve": _Program(port=("--port",), bind=("--listen",), any_host="", first=True),
    "http.server": _Program(port=(), host=("--bind", "-b"), any_host="", default=8000),
    "vite": _Program(port=("--port",), any_host="localhost", never=("build", "preview", "optimize")),
    "next": _Program(host=("--hostname", "-H"), any_host="", never=("build", "lint", "info", "export")),
}
_HELP = ("--help", "--version", "--show-config")
_OPTIONS_OF_HTTP_SERVER = {"--bind", "-b", "--directory", "-d", "--protocol", "-p"}


def intended(command: Sequence[str], environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """Host and port of every TCP address that this command is sure to serve; "" is every address. Often nothing is sure."""
    name, words = _program(command)
    if name.endswith("manage.py") and "runserver" in words:
        return _of_django(words[words.index("runserver") + 1 :])
    known = _PROGRAMS.get(name)
    if known is None or (known.verb and known.verb not in words) or _has(words, (*known.never, *_HELP)):
        return []
    if any(environ.get(f"{known.environ}{each}") for each in ("UDS", "FD") if known.environ):
        return []
    binds = [value for option in known.bind for value in values(words, option)]
    if binds:
        return [found for value in binds for found in _split(value)]
    told = {each: environ.get(f"{known.environ}{each}") if known.environ else None for each in ("PORT", "HOST")}
    named = _of_http_server(words) if name == "http.server" else _value(words, known.port)
    port, host = named or told["PORT"] or str(known.default), _value(words, known.host) or told["HOST"] or known.any_host
    return [(host, int(port))] if _is_port(port) else []


def served_at(
    command: Sequence[str], port: int, environ: Mapping[str, str], present: Collection[str] = (), *, instead: bool
) -> list[str] | None:
    """The command, serving at this port (0: any free one); None where it is not known how that is said.

    `instead` of the port that it names itself; without that, only where it names none: not in its words, not in the environment,
    and in no file of those that are `present` in its folder. None is also "leave it as it is" then.
    """
    name, words = _program(command)
    head = list(command[: len(command) - len(words)])
    if name == "http.server" or (name.endswith("manage.py") and "runserver" in words):
        return [*head, *_with_a_last_word(name, words, port)] if instead or not intended(command, environ) else None
    known = _PROGRAMS.get(name)
    if known is None or (known.verb and known.verb not in words) or _has(words, (*known.never, *_HELP)):
        return None
    options = known.port or known.bind
    binds = [value for option in known.bind for value in values(words, option)]
    named = [*binds, *(value for option in options for value in values(words, option))]
    elsewhere = _has(words, known.files) or any(each in present for each in known.files) or _of_environ(known, environ)
    if not options or ((named or elsewhere) and not instead) or any(each.startswith(("unix:", "fd:")) for each in binds):
        return None
    host = (binds[0].rpartition(":")[0] if binds else "") or known.any_host or "127.0.0.1"
    told = [options[0], str(port) if known.port else f"{host}:{port}"]
    rest = _without(words, (*known.port, *known.bind))
    return [*head, *told, *rest] if known.first else [*head, *rest, *told]


def _with_a_last_word(name: str, words: Sequence[str], port: int) -> list[str]:
    """Of those that take the port without an option."""
    if name == "http.server":
        named = _of_http_server(words)
        return [*(word for word in words if word != named), str(port)]
    begin = words.index("runserver") + 1
    rest = words[begin:]
    kept = rest[:-1] if _of_django(rest) else rest
    return [*words[:begin], *kept, str(port)]


def _of_environ(known: _Program, environ: Mapping[str, str]) -> bool:
    """Whether a variable names the address."""
    names = [f"{known.environ}PORT"] if known.environ else []
    return any(environ.get(each) for each in (*names, *known.variables))


def _without(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """Without these options and their values."""
    kept, is_value = list[str](), False
    for word in words:
        if is_value or word.partition("=")[0] in options:
            is_value = not is_value and word in options
        elif not any(not option.startswith("--") and word.startswith(option) for option in options):
            kept.append(word)
    return kept


def module_files(command: Sequence[str]) -> list[str]:
    """The files, relative to its folder, that the program itself may be in: of scripts, modules, MODULE:APP; the likely first."""
    found, less_likely = list[str](), list[str]()
    for before, word in pairwise(["", *command]):
        if word.endswith(".py"):
            found.append(word)
        dotted = re.fullmatch(r"(--app=)?([A-Za-z_][\w.]*)(:[\w.]+(\(.*\))?)?", word)
        if dotted is None or dotted[2] == _TARGET or word == "run":
            continue
        path, is_run = dotted[2].replace(".", "/"), before == "-m"
        ends = (*(["/__main__.py"] if is_run else []), "/__init__.py", ".py")  # a package goes before a module
        is_sure = bool(dotted[1] or dotted[3]) or is_run or before == "--app"
        (found if is_sure else less_likely).extend(f"{each}{end}" for each in (path, f"src/{path}") for end in ends)
    return found + less_likely


def meet(one: str, other: str) -> bool:
    """Whether a client that means one of these hosts could reach a listener on the other: the same, all, or localhost's two."""
    return one == other or bool(_EVERY & {one, other}) or {one, other} <= _LOCALHOST


def same_command(one: Sequence[str], other: Sequence[str], folder: str) -> bool:
    """Whether two command lines, of this folder, run the same program in the same way, whatever interpreter a script names."""
    if not one or not other:
        return False
    (first, *rest), (second, *others) = _bare(one), _bare(other)
    if rest != others:
        return False
    if "/" in first and "/" in second:
        return posixpath.normpath(posixpath.join(folder, first)) == posixpath.normpath(posixpath.join(folder, second))
    return _base(first) == _base(second)


def _bare(words: Sequence[str]) -> list[str]:
    """A script without its interpreter, and that interpreter's options; a module with an interpreter of any name."""
    if not _is_python(words[0]):
        return list(words)
    rest = after_options(words[1:])
    return ["python", *rest] if not rest or rest[0].startswith("-") else rest


def _program(command: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the server that a command runs, and the words after it."""
    words = list(command)
    if len(words) > 2 and _base(words[0]) in _LAUNCHERS and words[1] == "run":
        words = words[2:]
        if words[0].startswith("-"):  # an option, whose value may look like a program
            return "", []
    if words and _is_python(words[0]):
        words = _without_python(words)
    return (_base(words[0]), words[1:]) if words else ("", [])


def _without_python(words: Sequence[str]) -> list[str]:
    """The script or module that an interpreter runs, and its words."""
    rest = after_options(words[1:])
    if rest and rest[0].startswith("-c"):
        return []
    return rest[1:] if rest[:1] == ["-m"] else rest


def after_options(words: Sequence[str]) -> list[str]:
    """An interpreter's words from its script, `-`, `-m` or `-c` on."""
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-" and rest[0][:2] not in {"-m", "-c"}:
        rest = rest[2:] if rest[0] in {"-W", "-X", "--check-hash-based-pycs"} else rest[1:]
    return rest


def _base(word: str) -> str:
    return word.rpartition("/")[2]


def _is_python(word: str) -> bool:
    return re.fullmatch(r"python[\d.]*t?", _base(word)) is not None


def values(words: Sequence[str], option: str) -> list[str]:
    """All values given to an option: `--port 1`, `--port=1`, `-p 1`, `-p1`."""
    found = [following for word, following in pairwise(words) if word == option]
    for word in words:
        if word.startswith(f"{option}="):
            found.append(word[len(option) + 1 :])
        elif not option.startswith("--") and word.startswith(option) and len(word) > len(option):
            found.append(word[len(option) :])
    return found


def _value(words: Sequence[str], options: Sequence[str]) -> str | None:
    return next((found[-1] for option in options if (found := values(words, option))), None)


def _has(words: Sequence[str], options: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in options for word in words)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def _split(bind: str) -> list[tuple[str, int]]:
    """`HOST:PORT`, `[::1]:PORT`, `:PORT` or `tcp://…`; nothing for a Unix socket or a descriptor."""
    matched = re.fullmatch(r"(?:tcp://)?\[?([\w.:*-]*?)\]?:(\d+)", bind)
    if matched is None or bind.startswith(("unix:", "fd:")) or not _is_port(matched[2]):
        return []
    return [({"0": "0.0.0.0"}.get(matched[1], matched[1]), int(matched[2]))]  # noqa: S104 - as Django reads it


def _of_http_server(words: Sequence[str]) -> str | None:
    """The word that is no option's value."""
    before = ["", *words]
    return next(
        (word for last, word in zip(before, words, strict=False) if last not in _OPTIONS_OF_HTTP_SERVER and _is_port(word)), None
    )


def _of_django(words: Sequence[str]) -> list[tuple[str, int]]:
    """`runserver [PORT|HOST:PORT]`, the last word but for options; without it, its own default may be another one."""
    named = words[-1] if words and (len(words) == 1 or words[-2].startswith("--no") or not words[-2].startswith("-")) else ""
    return [("127.0.0.1", int(named))] if _is_port(named) else _split(named)
