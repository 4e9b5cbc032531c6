"""python -m bench peers: every reloader side by side, in one run."""

import argparse
import json
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import harness, plot, report
from bench.cases import BASE, CASES, Facts, Measured, samples
from bench.roster import PEERS, Peer, install, reason


def main(words: Sequence[str]) -> None:
    arguments = _arguments(words)
    # A shell's background job ignores Ctrl-C, and so would all that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    measured: dict[str, Measured] = {}
    packages: dict[str, list[str]] = {}
    try:
        peers, absent = _installed([peer for peer in PEERS if peer.name in arguments.peers], packages)
        for name in arguments.cases:
            measured[name] = _measure(name, peers, arguments.saves)
            measured[name].failed |= absent
            harness.progress("")
            print(f"{_table(name, measured[name])}\n", flush=True)
    except KeyboardInterrupt:
        harness.progress("")
        print("interrupted; every server it had started is ended", file=sys.stderr)
    if arguments.json is not None:
        _write(arguments.json, measured, packages)
    if arguments.plot is not None:
        plot.write(arguments.plot, {name: _medians(measured[name].facts) for name in plot.PROGRAMS if name in measured})


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench peers", description="Every reloader side by side.")
    names = [peer.name for peer in PEERS]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all of them by default")
    parser.add_argument("--peer", dest="peers", action="append", metavar="NAME", help=f"repeatable; of {', '.join(names)}")
    parser.add_argument("--saves", type=int, metavar="N", help="in each case that saves more than once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the cases light and heavy as SVG")
    arguments = parser.parse_args(words)
    arguments.cases = arguments.cases or list(CASES)
    arguments.peers = arguments.peers or names
    if unknown := [name for name in arguments.cases if name not in CASES]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if unknown := [name for name in arguments.peers if name not in names]:
        parser.error(f"no peer {', '.join(unknown)}; there are {', '.join(names)}")
    return arguments


def _installed(peers: Sequence[Peer], packages: dict[str, list[str]]) -> tuple[list[Peer], dict[str, str]]:
    """Those that can be run, and why others can not."""
    absent = {}
    for peer in peers:
        try:
            packages[peer.name] = install(peer).split()
        except (harness.BenchError, OSError) as error:
            absent[peer.name] = f"not installed: {reason(error)}"
    return [peer for peer in peers if peer.name not in absent], absent


def _measure(name: str, peers: Sequence[Peer], saves: int | None) -> Measured:
    case = CASES[name]
    try:
        return case.measure(peers, saves or case.saves)
    except harness.BenchError as error:
        return Measured(notes=[f"NOT MEASURED: {reason(error)}"])


def _table(name: str, measured: Measured) -> str:
    """One line a peer, then what is demanded of devsup, then the rest."""
    parts = [f"{name}: {CASES[name].title}"]
    if measured.facts:
        parts.append(report.columns(_rows(measured.facts, CASES[name].ratio)))
    parts += [f"{peer}  FAILED: {why}" for peer, why in measured.failed.items()]
    if measured.results:
        parts.append(report.table("demanded", measured.results))
    return "\n".join([*parts, *measured.notes])


def _rows(facts: dict[str, Facts], ratio: str) -> list[list[str]]:
    """What is not a list of samples, and last the ratio of one column to that of `uvicorn --reload`."""
    head = [column for column, value in next(iter(facts.values())).items() if not isinstance(value, list)]
    rows = [["", *head], *([peer, *(_cell(columns[each]) for each in head)] for peer, columns in facts.items())]
    if ratio and BASE in facts:
        (base,) = samples(facts[BASE][ratio])
        rows[0].append(f"x {BASE}")
        for row, columns in zip(rows[1:], facts.values(), strict=True):
            (ours,) = samples(columns[ratio])
            row.append(f"{ours / base:.2f}")
    return rows


def _cell(value: float | str | list[float]) -> str:
    """About three digits."""
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return str(value)


def _medians(facts: dict[str, Facts]) -> dict[str, float]:
    return {peer: statistics.median(samples(columns["all ms"])) for peer, columns in facts.items()}


def _write(file: Path, measured: dict[str, Measured], packages: dict[str, list[str]]) -> None:
    cases = {
        name: {
            "title": CASES[name].title,
            "peers": each.facts,
            "failed": each.failed,
            "results": [result.record() for result in each.results],
            "notes": each.notes,
        }
        for name, each in measured.items()
    }
    content = {"surroundings": report.surroundings(), "packages": packages, "cases": cases}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
