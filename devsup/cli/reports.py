"""What a smoke check tells, and to whom: the terminal, scripts, files for CI."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devsup.cli.options import in_colour

if TYPE_CHECKING:
    from devsup.events import Outcome, Report
    from devsup.launch import Options
    from devsup.smoke import Names


def write(report: Report, junit: Path | None, voice: Voice) -> None:
    """The files that were asked for. Raises UsageError for one that cannot be written."""
    from devsup.errors import UsageError

    if junit is not None:
        from devsup.show.junit import as_junit

        try:
            junit.parent.mkdir(parents=True, exist_ok=True)
            junit.write_bytes(as_junit(report, voice.base))
        except OSError as exc:
            raise UsageError(f"{junit} cannot be written: {exc.strerror}.", "Name another file with --junit.") from exc
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from devsup.show.github import annotations, summary

        root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
        voice.say(annotations(report, root), err=voice.is_json)
        if path := os.environ.get("GITHUB_STEP_SUMMARY"):
            with suppress(OSError), Path(path).open("a", encoding="utf-8", errors="replace") as file:
                file.write(summary(report, voice.base))


class Voice:
    """Tells what is found, as it is found on a terminal or with --verbose, else what is bad, and the sum.

    Where nobody reads it any more, it is silent: the exit code and the files still tell.
    """

    def __init__(self, services: list[Options], names: Names, *, as_json: bool, verbose: bool) -> None:
        from devsup.show.checks import Checks

        self.verbose, self.is_json = verbose and not as_json, as_json
        self.base = services[0].project
        self._is_live = sys.stdout is not None and sys.stdout.isatty()
        self._is_rewritten = sys.stderr is not None and sys.stderr.isatty() and not verbose and not as_json
        self._round = ""
        several, width = len(services) > 1, shutil.get_terminal_size().columns if self._is_live else 0
        labels = [f"{each.name}.{name}" if several else name for each in services for name in names.of(each.name)]
        self._checks = Checks(self.base, colour=in_colour(), width=width, several=several, names=labels)

    def say(self, text: str, *, err: bool = False) -> None:
        """Print it as it is."""
        try:
            click.echo(text, nl=False, err=err, color=True)
        except OSError:  # as said; and the interpreter shall not try again when it ends
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2 if err else 1)

    def begin(self, number: int, repeat: int) -> None:
        """Another round."""
        self._round = f"round {number} of {repeat}: " if repeat > 1 else ""

    def progress(self, phase: str, limit: float) -> None:
        """What is done now, on a line that the next one overwrites."""
        if self._is_rewritten:
            self.say(f"\r\x1b[2K  … {self._round}{phase}{f', up to {limit:.3g} s' if limit >= 1 else ''}", err=True)

    def clear(self) -> None:
        """The line is free for others."""
        if self._is_rewritten:
            self.say("\r\x1b[2K", err=True)

    def outcome(self, outcome: Outcome) -> None:
        """One check is done."""
        if not self.is_json and (self._is_live or self.verbose or outcome.is_bad):
            self.clear()
            self.say(self._checks.outcome(outcome))

    def conclude(self, report: Report) -> None:
        """All are."""
        from devsup.show.checks import as_json

        self.clear()
        if self.is_json:
            self.say(f"{as_json(report)}\n")
        else:
            self.say(self._checks.latencies(report.rounds) + self._checks.summary(report))
