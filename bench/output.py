"""What merging the output of several services costs: lines a second, and what a flood does to the server beside it."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench import apps, harness
from bench.report import Result

ROUNDS = 3
LINES = 1_000_000  # of each of two services
ASKED = 300
FLOOD = """
import sys
line = "a line of a flood, as long as a line of a log may well be: "
for start in range(0, {lines}, 5000):
    sys.stdout.write("".join(f"{{line}}{{number}}\\n" for number in range(start, start + 5000)))
print("the end", flush=True)
__import__("time").sleep(600)
"""
PROCFILE = "one: {python} -u flood.py\ntwo: {python} -u flood.py\n"
BESIDE = "web: uvicorn app:app --port {port} --no-access-log\nflood: {python} flood.py\n"
HONCHO = [sys.executable, "-m", "honcho", "start", "--no-colour"]
OURS = [*harness.DEVSUP, "start", "-f", "Procfile"]


def measure() -> list[Result]:
    if subprocess.run([*HONCHO[:3], "--version"], capture_output=True, check=False).returncode:
        raise harness.BenchError("needs honcho: pip install honcho")
    ours, peer, memory = list[float](), list[float](), list[float]()
    files = {"flood.py": FLOOD.format(lines=LINES), "Procfile": PROCFILE.format(python=sys.executable)}
    with harness.app_folder(files) as folder:
        for number in range(ROUNDS):
            harness.progress(f"output: {number} of {ROUNDS}")
            speed, most = _merge(OURS, folder)
            ours.append(speed)
            memory.append(most)
            peer.append(_merge(HONCHO, folder)[0])
    quiet, beside, beside_peer = _latencies()
    return [
        Result("lines merged a second, beside honcho", "/s", ours, peer, at_least=1.0),
        Result("supervisor's memory while it does", "MiB", memory, way="value", at_most=120),
        Result("latency beside a flood, to that without", "ms", beside, quiet, digits=2),
        Result("latency beside a flood, beside honcho", "ms", beside, beside_peer, digits=2),
    ]


@contextmanager
def _started(words: Sequence[str], folder: Path, out: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, cwd=folder, env=harness.environment(), stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        if process.stdout is not None:
            while process.stdout.read(1 << 20):
                pass
            process.stdout.close()
        process.wait()


def _merge(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Lines a second from the first to the last, and the most memory of the supervisor in MiB."""
    with _started(words, folder) as process:
        about, most, seen, ends = psutil.Process(process.pid), 0, 0, 0
        began = 0.0
        rest = b""
        while ends < 2:
            data = os.read(process.stdout.fileno(), 1 << 20) if process.stdout is not None else b""
            if not data:
                raise harness.BenchError(f"{words[2]} ended before its services")
            began = began or time.perf_counter()
            seen += data.count(b"\n")
            ends += (rest + data).count(b"the end") - rest.count(b"the end")
            rest = data[-20:]
            most = max(most, about.memory_info().rss)
        return seen / (time.perf_counter() - began), most / 2**20


def _latencies() -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of an answer: without a flood, beside one under devsup, and beside one under honcho."""
    found = []
    for words, flood in ((OURS, False), (OURS, True), (HONCHO, True)):
        port = harness.free_port()
        procfile = BESIDE.format(port=port, python=sys.executable)
        files = {"app.py": apps.starlette("v0"), "Procfile": procfile if flood else procfile.partition("flood:")[0]}
        files["flood.py"] = FLOOD.format(lines=10**9)
        with harness.app_folder(files) as folder, _started(words, folder, subprocess.DEVNULL):
            ends = time.monotonic() + harness.PATIENCE
            while harness.ask(port) is None and time.monotonic() < ends:
                time.sleep(harness.STEP)
            found.append([_ask(port) for _ in range(ASKED)])
        harness.progress(f"output: {statistics.median(found[-1]):.2f} ms")
    return found[0], found[1], found[2]


def _ask(port: int) -> float:
    began = time.perf_counter()
    if harness.ask(port) is None:
        raise harness.BenchError("the server beside the flood does not answer")
    return (time.perf_counter() - began) * 1000
