"""`devsup doctor`: the checks in their order. What one cannot find out is a warning, never a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from devsup.decide import secrets
from devsup.doctor import bytecode, code, environment, leftovers, machine, packages, ports, pythons
from devsup.doctor.finding import Finding, Verdict
from devsup.doctor.project import Project
from devsup.system.holder import one_line

__all__ = ["CHECKS", "Finding", "Project", "Verdict", "examine"]

CHECKS: tuple[tuple[str, Callable[[Project], Iterator[Finding]]], ...] = (
    ("versions", pythons.versions),
    ("config", environment.configs),
    ("interpreter", pythons.interpreters),
    ("app", code.apps),
    ("syntax", code.syntax),
    ("packages", packages.packages),
    ("environment", environment.environment),
    ("ports", ports.free),
    ("bytecode", bytecode.stale),
    ("inotify", machine.inotify),
    ("descriptors", machine.descriptors),
    ("disk", machine.disk),
    ("leftovers", leftovers.leftovers),
    ("devsups", leftovers.devsups),
)


def examine(project: Project) -> Iterator[Finding]:
    """What each check finds, as it finds it; without secrets, and safe for a terminal."""
    for name, check in CHECKS:
        try:
            for each in check(project):
                yield _plain(each, project.secrets)
        except Exception as exc:  # noqa: BLE001 - as said
            found = Finding(name, "warn", f"This could not be found out: {type(exc).__name__}: {exc}.")
            yield _plain(found, secrets.values(os.environ))


def _plain(finding: Finding, hidden: tuple[str, ...]) -> Finding:
    return replace(
        finding, text=one_line(secrets.mask(finding.text, hidden)), remedy=one_line(secrets.mask(finding.remedy, hidden))
    )
