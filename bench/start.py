"""Time from the command to the first answer."""

from pathlib import Path

from bench import apps, harness
from bench.report import Result

RUNS = 9


def measure() -> list[Result]:
    ours: list[float] = []
    peer: list[float] = []
    with harness.app_folder({"app.py": apps.starlette("v0")}) as folder:
        for number in range(RUNS + 1):
            harness.progress(f"start: {number} of {RUNS}")
            ours.append(_start([*harness.DEVSUP, "run", "uvicorn", "app:app"], folder))
            peer.append(_start(["uvicorn", "app:app", "--reload"], folder))
    # The first of each pays for compiled files and cold caches.
    return [Result("command to first answer", "ms", ours[1:], peer[1:], at_most=1.15)]


def _start(command: list[str], folder: Path) -> float:
    port = harness.free_port()
    with harness.Server([*command, "--port", str(port)], folder) as server:
        return (server.wait_for(port, b"v0") - server.spawned) * 1000
