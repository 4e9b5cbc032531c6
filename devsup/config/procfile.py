"""A Procfile as a config: one service for each line, with the ports that foreman would give them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devsup.config.source import Keys, Source, read_text, shown
from devsup.errors import UsageError

_LINE = re.compile(r"([A-Za-z0-9_-]+)\s*:\s*(\S.*?)\s*")
_FIRST_PORT, _STEP = 5000, 100  # as foreman counts
_PORT = re.compile(r"\$(?:PORT\b|\{PORT(?::?-[^}]*)?\})")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_QUOTED = re.compile(r"""('[^']*'|"(?:[^"\\]|\\.)*")""")
_FOR_A_SHELL = re.compile(r"[$`&|;<>()*?\[\]~#!{}\\]")
_SEVERAL = re.compile(r"[|;]|(?<!>)&|^[({!]")  # commands, that is: `exec` can stand before one alone
_OF_THE_SHELL = frozenset(". : cd eval exec export for if set source ulimit umask unset until while".split())


def read_procfile(path: Path, text: str) -> Source:
    """The services of a Procfile. Raises UsageError, with the line, for what is none."""
    dotenv = path.with_name(".env")
    port = _first_port(dotenv)
    services: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            problem = f"{path}:{number}: this is {shown(line.strip())}, where NAME: COMMAND belongs."
            raise UsageError(problem, "Correct that line, or put a # before it.")
        name, command = found.groups()
        if name in services:
            raise UsageError(f"{path}:{number}: {name} is there for the second time.", "Give one of the two another name.")
        services[name] = _service(command, port + _STEP * len(services))
        if dotenv.is_file():
            services[name]["env_files"] = [dotenv.name]
    return Source(path, text, {"services": services}, statements=_statements)


def _service(command: str, port: int) -> dict[str, Any]:
    """Without a shell where none is needed: then signals reach the program itself, and devsup sees which it is."""
    env = {"PORT": str(port)}
    text, plain = _expanded(command, env["PORT"])
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    while words and (found := _ASSIGNMENT.fullmatch(words[0])):
        env[found[1]] = found[2]
        words = words[1:]
    if words and words[0] not in _OF_THE_SHELL and not _FOR_A_SHELL.search(plain):
        return {"command": words, "env": env}
    is_one = words and words[0] not in _OF_THE_SHELL and not _ASSIGNMENT.match(command) and not _SEVERAL.search(plain)
    return {"command": ["sh", "-c", f"exec {command}" if is_one else command], "env": {"PORT": str(port)}}


def _expanded(command: str, port: str) -> tuple[str, str]:
    """The command with its $PORT, and the part of it in which a shell would see more than words."""
    text = plain = ""
    for piece in _QUOTED.split(command):
        expanded = piece if piece.startswith("'") else _PORT.sub(port, piece)
        text += expanded
        plain += re.sub(r"[^$`]", "", expanded) if piece.startswith('"') else "" if piece.startswith("'") else expanded
    return text, plain


def _first_port(dotenv: Path) -> int:
    """A PORT in .env is where foreman begins to count."""
    from io import StringIO  # noqa: PLC0415 - few have a Procfile

    from dotenv import dotenv_values  # noqa: PLC0415 - as above

    value = dotenv_values(stream=StringIO(read_text(dotenv) or "")).get("PORT")
    return int(value) if value and value.isdecimal() else _FIRST_PORT


def _statements(text: str) -> Iterator[tuple[int, Keys]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _LINE.fullmatch(line):
            yield number, ("services", found[1])
