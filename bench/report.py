"""What was measured, whether it meets the target, as a table and as JSON."""

import json
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from bench import harness

Way = Literal["ratio", "paired", "difference", "value"]


@dataclass(frozen=True)
class Result:
    """Samples of devsup and of its peer, and one number: of their medians, or the median of each pair's ratio."""

    name: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    way: Way = "ratio"
    at_most: float | None = None
    at_least: float | None = None
    digits: int = 1

    @property
    def number(self) -> float:
        ours = statistics.median(self.ours)
        if self.way == "value" or not self.peer:
            return ours
        if self.way == "paired":
            return statistics.median(ours / peer for ours, peer in zip(self.ours, self.peer, strict=True))
        peer = statistics.median(self.peer)
        if self.way == "difference":
            return ours - peer
        return ours / peer if peer else float("inf")

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"

    @property
    def verdict(self) -> str:
        if self.at_most is not None:
            return "PASS" if self.number <= self.at_most else "SLOW"
        if self.at_least is not None:
            return "PASS" if self.number >= self.at_least else "SLOW"
        return ""

    def row(self) -> list[str]:
        is_ratio = self.way in {"ratio", "paired"}
        number = f"{self.number:.2f}x" if is_ratio else f"{self.number:.{self.digits}f} {self.unit}"
        return [self.name, self._median(self.ours), self._median(self.peer), number, self.target, self.verdict]

    def record(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "way": self.way,
            "number": self.number,
            "target": self.target,
            "verdict": self.verdict,
            "devsup": list(self.ours),
            "peer": list(self.peer),
        }

    def _median(self, samples: Sequence[float]) -> str:
        return f"{statistics.median(samples):.{self.digits}f} {self.unit}" if samples else ""


def table(title: str, results: Iterable[Result]) -> str:
    """Medians in columns; the spread of the samples is in the JSON."""
    return columns([[title, "devsup", "peer", "number", "target", ""], *(result.row() for result in results)])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as text; all but the first column to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def surroundings() -> dict[str, object]:
    """What the numbers depend on."""
    versions = {}
    for package in ("devsup", "uvicorn", "starlette", "watchfiles", "httptools", "uvloop"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": len(harness.cores()),
        "versions": versions,
    }


def write(file: Path, measured: dict[str, list[Result]], notes: dict[str, str]) -> None:
    content = {
        "surroundings": surroundings(),
        "results": {name: [result.record() for result in results] for name, results in measured.items()},
        "not_measured": notes,
    }
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
