"""Starts servers, asks them over raw sockets, and ends everything it has started."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil

HOST = "127.0.0.1"
STEP = 0.001  # between two questions
PATIENCE = 30.0  # for one answer
STOP = 8.0  # between asking a server to end and killing it
DEVSUP = [sys.executable, "-m", "devsup"]


class BenchError(Exception):
    """A measurement could not be made; the text says why."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def environment() -> dict[str, str]:
    """Own environment, with this interpreter's scripts first, without settings of an outer devsup, a server or Python."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DEVSUP_", "UVICORN_", "PYTHON")) and name != "WEB_CONCURRENCY"
    }
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    if sys.prefix != sys.base_prefix:
        kept["VIRTUAL_ENV"] = sys.prefix
    return kept


@contextmanager
def app_folder(files: dict[str, str]) -> Iterator[Path]:
    """A folder of its own for one server."""
    with tempfile.TemporaryDirectory(prefix="devsup-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        yield folder


class Server:
    """One command in a process group of its own; leaving the block ends it and everything below it."""

    def __init__(self, command: Sequence[str], folder: Path, core: int | None = None) -> None:
        self.command = list(command)
        self.folder = folder
        self.core = core
        self._family: list[psutil.Process] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in __exit__

    def __enter__(self) -> Self:
        with pinned(self.core):
            self.spawned = time.perf_counter()
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._end()
        finally:
            self._log.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_seconds(self) -> float:
        """User and system time of the command and everything below it."""
        total = 0.0
        for process in [psutil.Process(self.pid), *descendants(self.pid)]:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory(self) -> float:
        """MiB of the command and everything below it; pages that processes share are split among them (PSS)."""
        total = 0
        for process in [psutil.Process(self.pid), *descendants(self.pid)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / 2**20

    def send(self, number: int, *, group: bool = False) -> None:
        """A signal; whoever is below the command is noted before, for they may outlive it."""
        self._family = descendants(self.pid)
        (os.killpg if group else os.kill)(self.pid, number)

    def wait_gone(self, limit: float) -> bool:
        """Whether the command and everything that was below it at the last signal end in so many seconds."""
        deadline = time.perf_counter() + limit
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(limit)
        _, alive = psutil.wait_procs(self._family, timeout=max(0.0, deadline - time.perf_counter()))
        return self.process.returncode is not None and not alive

    def output(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def wait_for(self, port: int, body: bytes | None, path: str = "/", patience: float = PATIENCE) -> float:
        """Ask until the answer is `body` (None: any 200); the time of that answer, on perf_counter's clock."""
        deadline = time.perf_counter() + patience
        answer: bytes | None = None
        while time.perf_counter() < deadline:
            answer = ask(port, path)
            if answer is not None and body in (None, answer):
                return time.perf_counter()
            if self.process.poll() is not None:
                raise BenchError(self._story(f"ended with exit code {self.process.returncode}"))
            time.sleep(STEP)
        raise BenchError(self._story(f"did not answer {body!r} in {patience:.0f} s; its last answer was {answer!r}"))

    def _story(self, what: str) -> str:
        lines = self.output().strip().splitlines()[-15:]
        return "\n".join([f"`{' '.join(self.command)}` {what}. Its last lines:", *(f"    {line}" for line in lines)])

    def _end(self) -> None:
        family = descendants(self.pid) + self._family
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP)
        # Its own group is ours to kill, whoever is left in it; workers may have left the group, so they are named.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(family, timeout=1.0)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait(STOP)


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def ask(port: int, path: str = "/", timeout: float = 5) -> bytes | None:
    """The body of a 200, or None for anything else: refused, cut, another status."""
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
    received = bytearray()
    try:
        with socket.create_connection((HOST, port), timeout) as connection:
            connection.sendall(request.encode())
            while piece := connection.recv(65536):
                received += piece
    except OSError:
        return None
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return body if head.split(b" ", 2)[1:2] == [b"200"] else None


def cores() -> list[int]:
    """The cores this process may use; empty where a process cannot be pinned (macOS)."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return []


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is spawned in this block, and all its children, stay on one core."""
    if sys.platform != "linux" or core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(command: Sequence[str], timeout: float = PATIENCE) -> str:
    """Run to the end; what it printed."""
    done = subprocess.run(
        list(command), env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-5:]
        raise BenchError(f"`{' '.join(command)}` ended with exit code {done.returncode}: {' / '.join(said)}")
    return done.stdout.decode(errors="replace")


def has(program: str) -> bool:
    return shutil.which(program, path=environment()["PATH"]) is not None


def progress(text: str) -> None:
    """Say what is being measured, on a terminal only, on one line that the next one overwrites."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()
