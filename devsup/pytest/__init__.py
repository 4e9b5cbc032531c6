"""The pytest plugin: the fixtures `dev_server` and `dev_server_factory`.

Every run of pytest in an environment with devsup loads it: it imports little, and does nothing until it is asked.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from devsup.pytest.server import LIMIT, DevServer
from devsup.pytest.story import Event

__all__ = ["LIMIT", "DevServer", "Event", "dev_server", "dev_server_factory"]

_TRIES = 5  # of ports that somebody else may take in the moment between
_ENDING = 3.0  # seconds of a start's time that are kept for the end of one that comes to nothing
_PORTS = ("--port", "-p", "--uds", "--fd", "--bind", "-b")  # options that say where a target is served


class _Servers:
    """The servers of one run of pytest: they end with it, however it ends. A relative folder is one below `root`."""

    def __init__(self, root: Path) -> None:
        from devsup.system.keeper import Keeper

        self._root = root
        self._servers: list[tuple[DevServer, str]] = []  # and the test that has started it
        name = f"pytest-{os.getpid()}-{time.monotonic_ns()}"
        self._keeper = Keeper(name, str(root / ".devsup" / name))

    def start(
        self,
        *command: str,
        options: Sequence[str] = (),
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> DevServer:
        """Start `devsup run OPTIONS COMMAND`, and return when it is ready. Without a command it is that of devsup.toml."""
        __tracebackhide__ = True
        ends = time.monotonic() + timeout - min(_ENDING, timeout / 2)
        folder, environ, tries = self._root / (cwd or "."), _environment(env or {}), _TRIES
        while True:
            words, tries = _at(command, _free_port()), tries - 1
            server = self._begin([*options, *words], folder, environ)
            if server.starts(ends - time.monotonic()):
                return server
            server.close(patience=1.0)
            if not tries or words == list(command) or not server.all("Refused", code=1):
                self._servers.pop()  # it is told of here and now
                raise AssertionError(server.failure())

    def _begin(self, words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> DevServer:
        if not folder.is_dir():
            raise AssertionError(f"There is no folder {folder}. Name one that exists as cwd.")
        run = [sys.executable, "-P", "-m", "devsup", "run", "--log-format", "json", "--verbose"]
        server = DevServer([*run, *words], folder, environ, start_new_session=True)
        server.name = shlex.join(["devsup", "run", *words])
        self._keeper.watch(server.process.pid)
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        self._servers = [*(each for each in self._servers if not each[0].is_closed), (server, test)]
        return server

    def of(self, item: pytest.Item) -> list[DevServer]:
        """Those that a test uses, as far as that can be told; else all."""
        used = list(getattr(item, "funcargs", {}).values())
        found = [server for server, test in self._servers if test == item.nodeid or any(server is each for each in used)]
        return found or [server for server, _ in self._servers if not server.is_closed]

    def close(self) -> None:
        for server, _ in self._servers:
            server.interrupt()
        for server, _ in self._servers:
            server.close()
        self._keeper.close()


def _at(command: Sequence[str], port: int) -> list[str]:
    """The command, at this port where any will do: a target that names none, or --port 0.

    Not 0, for devsup lets one command of a project run once at a time, and two tests may want the same.
    """
    first, *rest = command or ("",)
    if re.fullmatch(r"[\w.]+:[\w.]+(\(\))?", first) and not any(word.partition("=")[0] in _PORTS for word in rest):
        return [*command, "--port", str(port)]
    words = [str(port) if (before, word) == ("--port", "0") else word for before, word in pairwise(["", *command])]
    return [f"--port={port}" if word == "--port=0" else word for word in words]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """That of the tests, without an outer devsup's; the program runs in the same Python."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("DEVSUP_") and key != "PYTEST_CURRENT_TEST"}
    if sys.prefix != sys.base_prefix:
        env["VIRTUAL_ENV"] = sys.prefix
    return {**env, **more}


# -- the plugin -------------------------------------------------------------------------------------------------------

_SERVERS = pytest.StashKey[_Servers]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("devsup_command", "what the fixture dev_server runs where no marker says so, as after `devsup run`", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "dev_server(*command, options, cwd, env, timeout): what the fixture dev_server runs under devsup"
    )


@pytest.fixture(scope="session")
def dev_server_factory(pytestconfig: pytest.Config) -> Iterator[Callable[..., DevServer]]:
    """Start servers under devsup, which end with the tests: `dev_server_factory("main:app")` returns one that is ready.

    Also takes `options` of devsup, `cwd` (relative to pytest's rootdir), `env` and `timeout`.
    """
    with closing(_Servers(pytestconfig.rootpath)) as servers:
        pytestconfig.stash[_SERVERS] = servers
        yield servers.start


@pytest.fixture
def dev_server(request: pytest.FixtureRequest, dev_server_factory: Callable[..., DevServer]) -> Iterator[DevServer]:
    """Run a server under devsup for this test: of the marker dev_server, the ini option devsup_command, or devsup.toml."""
    marker = request.node.get_closest_marker("dev_server")
    command = (marker.args if marker else ()) or shlex.split(request.config.getini("devsup_command"))
    try:
        server = dev_server_factory(*command, **(marker.kwargs if marker else {}))
    except AssertionError as exc:
        raise pytest.fail.Exception(str(exc), pytrace=False) from None
    with closing(server):
        yield server


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """What the servers of a test that fails have said."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and _SERVERS in item.config.stash and "dev_server_factory" in getattr(item, "fixturenames", ()):
        for server in item.config.stash[_SERVERS].of(item):
            server.settle()
            report.sections.append(("devsup", f"{server.name}\n{server.story(server.tells)}"))
