"""What every end-to-end test stands on: a project on disk, devsup in front of a command, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import Answer, Run, free_port, wait_until

# What nohup or a shell's background job ignores would be inherited by whatever a test starts.
for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored is signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
def port() -> int:
    """A free port."""
    return free_port()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty folder to put an app in."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def environment() -> dict[str, str]:
    """What devsup is started with: this interpreter's tools first on PATH, nothing of an outer devsup, pytest or Python."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DEVSUP_", "PYTEST_", "PYTHON"))}
    env["VIRTUAL_ENV"] = sys.prefix
    return env


@pytest.fixture
def devsup(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., Run]]:
    """`devsup("uvicorn", "m:app", options=["--reload", "off"])` starts devsup in the project and returns its Run."""
    runs: list[Run] = []

    def start(
        *command: str,
        options: list[str] | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        prefix: list[str] | None = None,
    ) -> Run:
        words = [sys.executable, "-m", "devsup", "run", "--log-format", "json", "--verbose", *(options or []), *command]
        runs.append(Run([*(prefix or []), *words], cwd or project, {**environment, **(env or {})}))
        return runs[-1]

    yield start
    for run in runs:
        run.close()


@pytest.fixture
def team(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., Run]]:
    """`team(text, "--only", "web")` writes devsup.toml, starts its services and returns their Run."""
    runs: list[Run] = []

    def start(text: str, *options: str, env: dict[str, str] | None = None) -> Run:
        (project / "devsup.toml").write_text(text)
        words = [sys.executable, "-m", "devsup", "start", "--log-format", "json", "--verbose", *options]
        runs.append(Run(words, project, {**environment, **(env or {})}))
        return runs[-1]

    yield start
    for run in runs:
        run.close()


@pytest.fixture
def ask(project: Path, environment: dict[str, str]) -> Callable[..., Answer]:
    """`ask("status", "--json")` is a command of devsup in the project, to its end: code, out, err."""

    def run(*words: str, cwd: Path | None = None, limit: float = 60.0) -> Answer:
        command = [sys.executable, "-m", "devsup", *words]
        done = subprocess.run(
            command, cwd=cwd or project, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no process of a worker, no thread, no descriptor, no socket folder that was not there before."""
    if not {"e2e", "apps"} & set(request.node.path.parts):
        yield
        return
    threads, descriptors = set(threading.enumerate()), _descriptors()
    # Children inherit it: so all that a test has started can be told from what other tests run at the same time.
    os.environ["TEST_OF_DEVSUP"] = mark = f"{os.getpid()}-{time.monotonic_ns()}"
    yield
    wait_until(lambda: not _marked(mark), 5, lambda: f"left behind: {_marked(mark)}")
    wait_until(
        lambda: not set(threading.enumerate()) - threads,
        5,
        lambda: f"left threads: {set(threading.enumerate()) - threads}",
    )
    if descriptors:
        assert _descriptors() <= descriptors, "left descriptors"


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def _marked(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"TEST_OF_DEVSUP={mark}".encode() in (entry / "environ").read_bytes():
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
    return found
