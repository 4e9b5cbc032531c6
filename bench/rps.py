"""Requests per second through the agent, beside bare uvicorn: the server on one core, wrk on another."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench import apps, harness
from bench.report import Result

PAIRS = 5
BURSTS = 4
SECONDS = 1
WARM_SECONDS = 1
CONNECTIONS = 16
TARGET = 0.97
APPS = {"raw ASGI": (apps.RAW, b"hello"), "Starlette": (apps.starlette("hello"), b"hello")}
STACKS = {"h11 + asyncio": ("h11", "asyncio"), "httptools + uvloop": ("httptools", "uvloop")}


@dataclass(frozen=True)
class Burst:
    """One second of wrk; the rate by CPU time stands a busy machine better."""

    rate: float
    per_cpu_second: float


def measure() -> list[Result]:
    need_wrk()
    results = []
    for stack, (http, loop) in STACKS.items():
        if missing := [name for name in (http, loop) if find_spec(name) is None]:
            print(f"rps  {stack} skipped: {' and '.join(missing)} not installed")
            continue
        for title, (text, answer) in APPS.items():
            with harness.app_folder({"app.py": text}) as folder:
                results.extend(compare(f"{title}, {stack}", folder, answer, ["--http", http, "--loop", loop]))
    return results


def need_wrk() -> None:
    if not harness.has("wrk"):
        raise harness.BenchError("wrk is not on PATH; install it (Debian: apt install wrk, macOS: brew install wrk)")


def compare(title: str, folder: Path, answer: bytes, options: list[str], target: float = TARGET) -> list[Result]:
    command = ["uvicorn", "app:app", "--no-access-log", "--log-level", "warning", *options]
    bursts: list[tuple[Burst, Burst]] = []
    for number in range(1, PAIRS + 1):
        harness.progress(f"rps: {title}, pair {number} of {PAIRS}")
        bursts += _bursts(command, folder, answer)
    ours, peer = [pair[0] for pair in bursts], [pair[1] for pair in bursts]
    rates = [burst.rate for burst in ours], [burst.rate for burst in peer]
    per_cpu = [burst.per_cpu_second for burst in ours], [burst.per_cpu_second for burst in peer]
    return [
        Result(title, "req/s", *rates, "paired", at_least=target, digits=0),
        Result("    by CPU second of the server", "req/s", *per_cpu, "paired", digits=0),
    ]


def _bursts(command: list[str], folder: Path, answer: bytes) -> Iterator[tuple[Burst, Burst]]:
    """Both servers run and wrk goes to and fro: the machine's speed drifts by more than the target allows."""
    cores = harness.cores()
    server_core, wrk_core = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    ours, peer = harness.free_port(), harness.free_port()
    with (
        harness.Server([*harness.DEVSUP, "run", *command, "--port", str(ours)], folder, core=server_core) as ours_server,
        harness.Server([*command, "--port", str(peer)], folder, core=server_core) as peer_server,
    ):
        ours_server.wait_for(ours, answer)
        peer_server.wait_for(peer, answer)
        with harness.pinned(wrk_core):
            _wrk(ours, WARM_SECONDS)
            _wrk(peer, WARM_SECONDS)
            for _ in range(BURSTS // 2):
                yield _burst(ours_server, ours), _burst(peer_server, peer)
                second, first = _burst(peer_server, peer), _burst(ours_server, ours)
                yield first, second


def _burst(server: harness.Server, port: int) -> Burst:
    before = server.cpu_seconds()
    rate = _wrk(port, SECONDS)
    return Burst(rate, rate * SECONDS / max(server.cpu_seconds() - before, 0.01))


def _wrk(port: int, seconds: int) -> float:
    url = f"http://{harness.HOST}:{port}/"
    said = harness.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url], timeout=seconds + harness.PATIENCE)
    found = re.search(r"Requests/sec:\s*([\d.]+)", said)
    failed = re.search(r"(Socket errors|Non-2xx or 3xx responses):.*", said)
    if found is None or failed is not None:
        raise harness.BenchError(f"wrk had failures: {failed[0] if failed else said.strip()}")
    return float(found[1])
