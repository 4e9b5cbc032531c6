"""The reloaders that are compared: how each is installed, started and saved."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import apps, harness

HOMES = Path(__file__).resolve().parent.parent / ".venv-bench"
INSTALL = 600.0  # seconds for one environment
SETTLE = 2.0  # between an answer and the next save: the slowest reloaders look once a second
WARM = 20.0  # for devsup's fork server, which comes some time after the worker
UVICORN = ("uvicorn[standard]", "starlette")
GUNICORN = "{home}/bin/gunicorn app:app --bind 127.0.0.1:{port} --reload --no-control-socket"
SYMPY = (*UVICORN, "sympy")


@dataclass(frozen=True)
class Peer:
    """A reloader. In `command` stand {home}, its virtual environment, and {port}; devsup's begins behind `devsup run`."""

    name: str
    home: str  # its environment's folder below .venv-bench
    command: str
    packages: tuple[str, ...] = UVICORN
    family: str = "asgi"
    python: tuple[int, int] = (3, 11)  # at least
    is_devsup: bool = False

    def line(self, port: int) -> list[str]:
        home = str(HOMES / self.home)
        words = [word.format(home=home, port=port) for word in self.command.split()]
        return [*harness.DEVSUP, "run", "--log-format", "json", "--python", home, *words] if self.is_devsup else words


# Each with a file watcher that works by events, where it has one that keeps up: watchdog loses changes under Flask.
PEERS = (
    Peer("uvicorn --reload", "uvicorn", "{home}/bin/uvicorn app:app --port {port} --reload", SYMPY),
    Peer(
        "granian --reload",
        "granian",
        "{home}/bin/granian app:app --interface asgi --port {port} --reload",
        ("granian[reload]", "starlette"),
    ),
    Peer(
        "hypercorn --reload",
        "hypercorn",
        "{home}/bin/hypercorn app:app --bind 127.0.0.1:{port} --reload",
        ("hypercorn", "starlette"),
    ),
    Peer(
        "gunicorn, uvicorn's worker",
        "gunicorn",
        f"{GUNICORN} --worker-class uvicorn_worker.UvicornWorker",
        ("gunicorn", "uvicorn-worker", *UVICORN),
    ),
    Peer(
        "gunicorn, its own worker",
        "gunicorn",
        f"{GUNICORN} --worker-class asgi",
        ("gunicorn", "uvicorn-worker", *UVICORN),
    ),
    Peer(
        "hupper",
        "hupper",
        "{home}/bin/hupper -m uvicorn app:app --port {port}",
        ("hupper", "watchdog", *UVICORN),
    ),
    Peer(
        "flask --debug",
        "flask",
        "{home}/bin/flask --app app --debug run --port {port}",
        ("flask",),
        family="flask",
    ),
    Peer("django runserver", "django", "{home}/bin/python manage.py runserver 127.0.0.1:{port}", ("django",), family="django"),
    Peer(
        "uvicorn-hmr",
        "uvicorn-hmr",
        "{home}/bin/uvicorn-hmr app:app --host 127.0.0.1 --port {port}",
        ("uvicorn-hmr", *UVICORN),
        python=(3, 12),
    ),
    Peer("devsup", "uvicorn", "uvicorn app:app --port {port}", SYMPY, is_devsup=True),
    Peer("devsup, handover", "uvicorn", "--reload handover uvicorn app:app --port {port}", SYMPY, is_devsup=True),
)


def install(peer: Peer) -> str:
    """Make its environment unless it is there; what is installed in it, as pip lists it."""
    home = HOMES / peer.home
    python = _python(peer.python)
    wanted = "\n".join([python, *peer.packages, *apps.HEAVY])
    made = home / "made-of.txt"
    if not made.exists() or made.read_text(encoding="utf-8") != wanted:
        harness.progress(f"installing {peer.home}")
        harness.run([python, "-m", "venv", "--clear", str(home)], INSTALL)
        harness.run([f"{home}/bin/python", "-m", "pip", "install", "--quiet", *peer.packages, *apps.HEAVY], INSTALL)
        made.write_text(wanted, encoding="utf-8")
    return harness.run([f"{home}/bin/python", "-m", "pip", "list", "--format", "freeze"])


def third_party(peer: Peer, program: str) -> int:
    """How many modules the program and its server import from the environment's packages."""
    count = "sum('site-packages' in (getattr(module, '__file__', None) or '') for module in list(sys.modules.values()))"
    text = f"import sys\nimport uvicorn.main\n{apps.program(peer.family, program, 0)}\nprint({count})"
    return int(harness.run([f"{HOMES / peer.home}/bin/python", "-c", text]))


def _python(least: tuple[int, int]) -> str:
    """Own interpreter, or the oldest on PATH or in pyenv's folder that is new enough."""
    if sys.version_info >= least:
        return sys.executable
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in range(least[1], 20):
        name = f"python3.{minor}"
        for candidate in filter(None, [shutil.which(name), *map(str, versions.glob(f"3.{minor}.*/bin/{name}"))]):
            with contextlib.suppress(harness.BenchError, OSError):
                harness.run([candidate, "-c", "import ensurepip, venv"])
                return candidate
    raise harness.BenchError(f"needs Python {least[0]}.{least[1]} or later, on PATH or in pyenv's folder")


@dataclass
class Stand:
    """A peer that serves a program, and the version that was saved last."""

    peer: Peer
    program: str
    port: int
    folder: Path
    server: harness.Server
    version: int = 0
    answered: float = 0.0

    def settle(self) -> None:
        """A reloader may still be looking away."""
        time.sleep(max(0.0, self.answered + SETTLE - time.perf_counter()))

    def save(self, patience: float = harness.PATIENCE) -> float:
        """The milliseconds from a save to the first answer of the new code."""
        self.version += 1
        text = apps.program(self.peer.family, self.program, self.version)
        saved = time.perf_counter()
        self.write(text)
        self.answered = self.server.wait_for(self.port, b"v%d" % self.version, patience=patience)
        return (self.answered - saved) * 1000

    def save_within(self, limit: float) -> float | None:
        """The same, or None where no new code answers in `limit` seconds."""
        with contextlib.suppress(harness.BenchError):
            return self.save(limit)
        return None

    def write(self, text: str) -> None:
        (self.folder / "app.py").write_text(text, encoding="utf-8")

    def events(self, *names: str) -> list[dict[str, Any]]:
        """What devsup has said of these kinds, so far."""
        lines = [line for line in self.server.output().splitlines() if line.startswith("{") and line.endswith("}")]
        return [event for event in map(json.loads, lines) if event["event"] in names]


@contextmanager
def standing(peer: Peer, program: str) -> Iterator[Stand]:
    """The peer in a folder and on a port of its own, once it answers; devsup once it also has its fork server."""
    port = harness.free_port()
    with harness.app_folder(apps.files(peer.family, program)) as folder, harness.Server(peer.line(port), folder) as server:
        stand = Stand(peer, program, port, folder, server)
        stand.answered = server.wait_for(port, b"v0")
        deadline = time.perf_counter() + WARM
        while peer.is_devsup and not stand.events("ForkServerReady", "ForkServerOff") and time.perf_counter() < deadline:
            time.sleep(0.05)
        yield stand


def reason(error: Exception) -> str:
    """The first line of what went wrong, without the command, for a table."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"did not end in {error.timeout:.0f} s"
    line = str(error).splitlines()[0]
    return line.rpartition("` ")[2].removesuffix(" Its last lines:") if isinstance(error, harness.BenchError) else line
