"""What a supervisor costs while nobody saves and nobody asks: CPU, wake-ups, memory."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import apps, harness
from bench.report import Result

SECONDS = 20.0
SETTLE = 4.0


@dataclass(frozen=True)
class Cost:
    """One supervisor over the time that was measured."""

    cpu_percent: float
    wakeups: float  # voluntary context switches a second, of the thread that has most
    all_wakeups: float  # of all its threads together
    memory: float  # MiB, resident
    helpers: float  # MiB of its other processes that are not the server


def measure() -> list[Result]:
    if sys.platform != "linux":
        raise harness.BenchError("needs /proc: only on Linux")
    ours_port, peer_port = harness.free_port(), harness.free_port()
    server = ["uvicorn", "app:app"]
    files = {"app.py": apps.starlette("v0")}
    blind = [sys.executable, "-c", f"import devsup.guard; devsup.guard.INTERVAL = {1e6}; from devsup.cli import main; main()"]
    with harness.app_folder(files) as ours_folder, harness.app_folder(files) as peer_folder:
        ours = _watch([*harness.DEVSUP, "run", *server, "--port", str(ours_port)], ours_folder, ours_port)
        without = _watch([*blind, "run", *server, "--port", str(ours_port)], ours_folder, ours_port)
        peer = _watch([*server, "--port", str(peer_port), "--reload"], peer_folder, peer_port)
    return [
        Result("supervisor, CPU", "%", [ours.cpu_percent], [peer.cpu_percent], "value", at_most=0.3, digits=2),
        Result("wake-ups of its busiest thread", "/s", [ours.wakeups], [peer.wakeups], "value", at_most=1, digits=2),
        Result("wake-ups of all its threads", "/s", [ours.all_wakeups], [peer.all_wakeups], "value", digits=2),
        Result("without the guard: CPU", "%", [without.cpu_percent], [peer.cpu_percent], "value", digits=2),
        Result(
            "without the guard: wake-ups of all its threads", "/s", [without.all_wakeups], [peer.all_wakeups], "value", digits=2
        ),
        Result("supervisor, memory", "MiB", [ours.memory], [peer.memory], "ratio"),
        Result("its helpers, memory", "MiB", [ours.helpers], [peer.helpers], "value"),
    ]


def _watch(command: list[str], folder: Path, port: int) -> Cost:
    with harness.Server(command, folder) as server:
        server.wait_for(port, b"v0")
        harness.progress(f"idle: {' '.join(command[-6:])}, {SECONDS:.0f} s")
        time.sleep(SETTLE)
        began, cpu, switches = time.perf_counter(), _cpu_seconds(server.pid), _switches(server.pid)
        time.sleep(SECONDS)
        passed, cpu_after, after = time.perf_counter() - began, _cpu_seconds(server.pid), _switches(server.pid)
        rates = [(count - switches.get(thread, 0)) / passed for thread, count in after.items()]
        return Cost(
            cpu_percent=100 * (cpu_after - cpu) / passed,
            wakeups=max(rates),
            all_wakeups=sum(rates),
            memory=psutil.Process(server.pid).memory_info().rss / 2**20,
            helpers=_helpers(server.pid),
        )


def _cpu_seconds(pid: int) -> float:
    """User and system time, from behind the command's name, which may hold anything."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _switches(pid: int) -> dict[str, int]:
    """Voluntary context switches by thread."""
    counts = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                counts[task.name] = int(line.split()[1])
    return counts


def _helpers(pid: int) -> float:
    """Memory of what else it keeps running; the server is known by its command line."""
    total = 0.0
    for process in harness.descendants(pid):
        try:
            line = " ".join(process.cmdline())
            if "uvicorn" not in line and "multiprocessing.spawn" not in line:
                total += process.memory_info().rss / 2**20
        except psutil.Error:
            continue
    return total
