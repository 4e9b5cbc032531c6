"""python -m bench [reload] [start] [check] [rps] [idle] [help] [output] [--json FILE], or peers: measures, and exits with 0."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bench import check, harness, help, idle, output, peers, reload, report, rps, start  # noqa: A004 -- named as it is asked for

BENCHMARKS: dict[str, Callable[[], list[report.Result]]] = {
    "reload": reload.measure,
    "start": start.measure,
    "check": check.measure,
    "rps": rps.measure,
    "idle": idle.measure,
    "help": help.measure,
    "output": output.measure,
}

EPILOG = "`python -m bench peers` sets every reloader side by side, with options of its own: `python -m bench peers --help`."


def main() -> None:
    if sys.argv[1:2] == ["peers"]:
        peers.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="devsup beside uvicorn, as ratios in one run.", epilog=EPILOG
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all of them by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to this file")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    # Ended from outside, the blocks that hold servers must still be left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    measured: dict[str, list[report.Result]] = {}
    notes: dict[str, str] = {}
    try:
        for name in arguments.names or BENCHMARKS:
            try:
                measured[name] = BENCHMARKS[name]()
            except harness.BenchError as error:
                notes[name] = str(error)
            harness.progress("")
            print(report.table(name, measured[name]) if name in measured else f"{name}  NOT MEASURED: {notes[name]}")
            print(flush=True)
    except KeyboardInterrupt:
        harness.progress("")
        print("interrupted; every server it had started is ended", file=sys.stderr)
    if arguments.json is not None:
        report.write(arguments.json, measured, notes)


if __name__ == "__main__":
    main()
