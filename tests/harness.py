"""devsup in front of a command, as a test drives it: its events, its output, requests to what it runs."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from _pytest.mark import ParameterSet

from devsup import pytest as plugin

LIMIT = plugin.LIMIT  # seconds for a fact to come true
Event = plugin.Event
T = TypeVar("T")


class Run(plugin.DevServer):
    """A `devsup run` or `devsup start` of a test."""

    tells = 0

    def lines(self) -> list[str]:
        """What the program has printed on stdout."""
        return [each["line"] for each in self.all("Line", stream="stdout")]

    def wait_for_line(self, text: str, limit: float = LIMIT) -> Event:
        """When the program has printed a line with `text`."""
        return self._first(f"line with {text!r}", lambda each: each["event"] == "Line" and text in each["line"], limit)


class Answer(NamedTuple):
    """What a command of devsup has said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it has printed, read as JSON."""
        return json.loads(self.out)


def wait_until(fact: Callable[[], T], limit: float = LIMIT, story: Callable[[], str] = lambda: "") -> T:
    """The first true value of `fact()`, looked at every few milliseconds."""
    deadline = time.monotonic() + limit
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s\n{story()}")
        time.sleep(0.005)


def thinned(values: Iterable[Any], first: int = 0, every: int = 2) -> list[ParameterSet]:
    """Parameters of which every second one, from the `first` on, is run each time, and the others in the soak."""
    rows = [each if isinstance(each, tuple) else (each,) for each in values]
    return [pytest.param(*row, marks=() if number % every == first else pytest.mark.soak) for number, row in enumerate(rows)]


def free_port() -> int:
    """A TCP port that nobody listens on: one that no other test process chooses, nor the kernel for a connection."""
    for port in _PORTS:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def _own_ports() -> Iterator[int]:
    """The share of one test process in the ports below the ephemeral ones, round and round from a place of its own."""
    share = 1500
    first = 10_000 + share * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 14)
    start = os.getpid() % share
    return itertools.cycle([*range(first + start, first + share), *range(first, first + start)])


_PORTS = _own_ports()


def read_all(sock: socket.socket, data: bytes = b"") -> bytes:
    """All of an answer that begins with `data`, to the end of its chunks or of the connection, which may outlive it."""
    while not f"\n{data.decode('latin-1')}".endswith("\n0\r\n\r\n"):
        piece = sock.recv(65536)
        if not piece:
            break
        data += piece
    return data


def fetch(
    port: int,
    path: str = "/",
    *,
    method: str = "GET",
    host: str = "127.0.0.1",
    timeout: float = LIMIT,
    body: bytes = b"",
) -> tuple[int, str]:
    """Status and body of one request on a connection of its own."""
    with socket.create_connection((host, port), timeout=timeout) as sock:
        sock.settimeout(timeout)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode() + body)
        data = b""
        while piece := sock.recv(65536):
            data += piece
    head_bytes, _, rest = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head_bytes.lower():
        rest = _unchunked(rest)
    return int(head_bytes.split()[1]) if head_bytes else 0, rest.decode()


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            break
        whole, data = whole + data[:length], data[length + 2 :]
    return whole


def save(path: Path, text: str) -> None:
    """Write a file as an editor does: whole, beside it, then renamed over it."""
    beside = path.with_name(f".{path.name}.saving")
    beside.write_text(text)
    beside.replace(path)


def tool(name: str) -> str:
    """A program that the test cannot do without; its absence is a skip that says so."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def find_python(version: str) -> str:
    """A Python of this version that runs, on PATH or in pyenv's folder; else a skip that says so."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [shutil.which(f"python{version}"), *(str(path / "bin" / "python") for path in versions.glob(f"{version}.*"))]
    question = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", question], capture_output=True, text=True, timeout=20, check=False)
        if done.stdout.strip() == version:
            return str(candidate)
    pytest.skip(f"there is no Python {version} with the module venv on PATH or in pyenv's folder")


CONSOLE_SCRIPT = "#!{python}\nimport sys\nfrom uvicorn.main import main\nsys.exit(main())\n"


def make_environment(folder: Path, python: str, packages: tuple[str, ...]) -> Path:
    """A virtual environment with copies of these packages and the script `uvicorn`, without devsup."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=50, stdin=subprocess.DEVNULL)
    library = next((folder / "lib").glob("python3*")) / "site-packages"
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            source = Path(spec.submodule_search_locations[0])
            shutil.copytree(source, library / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif spec is not None and spec.origin:
            shutil.copy(spec.origin, library)
        for metadata in Path(spec.origin).parent.parent.glob(f"{name}-*.dist-info") if spec and spec.origin else ():
            shutil.copytree(metadata, library / metadata.name)
    script = folder / "bin" / "uvicorn"
    script.write_text(CONSOLE_SCRIPT.format(python=folder / "bin" / "python"))
    script.chmod(0o755)
    absent = "import importlib.util as u; raise SystemExit(any(map(u.find_spec, ['devsup', 'anyio', 'msgspec'])))"
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([folder / "bin" / "python", "-c", absent], check=True, timeout=20, cwd=folder, env=plain)
    return folder
