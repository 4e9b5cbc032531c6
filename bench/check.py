"""Time of a whole check of a trivial app, beside what people do by hand: start the server, ask it once, stop it."""

import signal
import subprocess
import time
from pathlib import Path

from bench import apps, harness
from bench.report import Result

RUNS = 9
HOLD = 1.0  # seconds, which are not counted


def measure() -> list[Result]:
    ours: list[float] = []
    peer: list[float] = []
    with harness.app_folder({"app.py": apps.starlette("v0")}) as folder:
        for number in range(RUNS + 1):
            harness.progress(f"check: {number} of {RUNS}")
            ours.append(_checked(folder))
            peer.append(_by_hand(folder))
    # The first of each pays for compiled files and cold caches.
    return [Result("check, less its hold", "ms", ours[1:], peer[1:], at_most=1.5)]


def _checked(folder: Path) -> float:
    began = time.perf_counter()
    words = [*harness.DEVSUP, "check", "--hold", f"{HOLD}s", "uvicorn", "app:app"]
    done = subprocess.run(
        words, cwd=folder, env=harness.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    seconds = time.perf_counter() - began - HOLD
    if done.returncode != 0:
        raise harness.BenchError(f"devsup check failed: {done.stdout.decode(errors='replace')}")
    return seconds * 1000


def _by_hand(folder: Path) -> float:
    """As a script would, but that asks as soon as that can be: uvicorn, curl, TERM, and the end."""
    port = harness.free_port()
    with harness.Server(["uvicorn", "app:app", "--port", str(port)], folder) as server:
        server.wait_for(port, b"v0")
        harness.run(["curl", "-s", f"http://{harness.HOST}:{port}/"])
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(harness.PATIENCE)
        return (time.perf_counter() - server.spawned) * 1000
