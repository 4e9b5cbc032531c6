"""What a smoke check has found: one outcome a check, gathered in rounds."""

from __future__ import annotations

from typing import Literal

import msgspec

from devsup.events.values import Diagnosis, Place

Verdict = Literal["passed", "failed", "slow", "skipped"]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long the runs of a scenario took, in seconds; `budgets` are what was allowed, by "mean", "median", "p95" or "max"."""

    runs: int
    errors: int
    min: float
    max: float
    mean: float
    median: float
    p95: float
    deviation: float
    budgets: dict[str, float] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one check. `code` is the exit code that it asks for where it has not passed.

    `text` is one line: what was found. `seconds` is how long it took. `request` is what was sent ("GET /items"), `lines` what the
    service printed meanwhile, `alone` the command that runs this check by itself. `place` is where in the user's code it went
    wrong, if that is known; so is the `diagnosis`.
    """

    name: str
    service: str
    verdict: Verdict
    text: str
    seconds: float = 0.0
    code: int = 1
    request: str = ""
    lines: list[str] = []
    alone: str = ""
    place: Place | None = None
    diagnosis: Diagnosis | None = None
    latency: Latency | None = None

    @property
    def is_bad(self) -> bool:
        """Whether the whole check fails by it."""
        return self.verdict in {"failed", "slow"}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One start of the services, to their end. `phases` are its parts and their seconds, in order."""

    outcomes: list[Outcome]
    phases: dict[str, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of a `devsup check`. `began` is in seconds since the epoch; `code` is the exit code."""

    command: str
    began: float
    seconds: float
    rounds: list[Round]
    code: int

    @property
    def outcomes(self) -> list[Outcome]:
        """Those of all rounds."""
        return [outcome for each in self.rounds for outcome in each.outcomes]
