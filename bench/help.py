"""What `devsup --help` costs over an interpreter that does nothing."""

import sys
import time

from bench import harness
from bench.report import Result

RUNS = 15


def measure() -> list[Result]:
    ours: list[float] = []
    peer: list[float] = []
    for number in range(RUNS + 1):
        harness.progress(f"help: {number} of {RUNS}")
        ours.append(_time([*harness.DEVSUP, "--help"]))
        peer.append(_time([sys.executable, "-c", "pass"]))
    # The first of each pays for compiled files and cold caches.
    return [Result("devsup --help over python -c pass", "ms", ours[1:], peer[1:], "difference", at_most=60)]


def _time(command: list[str]) -> float:
    began = time.perf_counter()
    harness.run(command)
    return (time.perf_counter() - began) * 1000
