"""The end of what holds a port, for `devsup port --free` and `--take-over`: who, whether that may be, and what came of it."""

from __future__ import annotations

import os
import sys
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import click
import psutil

from devsup.decide.ending import Suspect, refusal
from devsup.errors import DevsupError
from devsup.system import ending, holder, ports

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devsup.guard import TakenError
    from devsup.system.owner import Record

_DEVSUP_PATIENCE = 12.0  # seconds; it lets running requests end first
_FREE_WITHIN = 2.0  # seconds; until the kernel has closed the sockets of who has ended


@dataclass(frozen=True)
class Target:
    """Somebody to end: his whole tree, himself first; or the reason not to."""

    holder: holder.Holder
    tree: list[psutil.Process]
    refusal: str


def targets(holders: Iterable[holder.Holder]) -> list[Target]:
    """Whom to end for these holders: for the worker of a devsup, that devsup, which would start it again."""
    found: dict[int, Target] = {}
    for each in holders:
        one = each
        try:
            if each.devsup is not None and not each.is_supervisor:
                one = holder.known(psutil.Process(each.devsup.pid))
            suspect = Suspect(*astuple(ending.facts(one.pid)))
            why = refusal(suspect, os.getpid(), holder.user_name(os.geteuid()))
            found[one.pid] = Target(one, ending.tree(one.pid), why)
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def show(found: Iterable[Target]) -> list[str]:
    """What will be ended, a line each, whom they have started indented."""
    lines = []
    for each in found:
        lines.append(holder.describe(each.holder))
        for process in each.tree[1:]:
            try:
                lines.append(f"  {holder.shortened(holder.one_line(' '.join(process.cmdline())))} (pid {process.pid})")
            except psutil.Error:
                continue
    return lines


def end(found: Iterable[Target]) -> ending.Ended:
    """End them; says what takes longer than a moment."""
    asked, killed, left = list[int](), list[int](), list[int]()
    for each in found:
        patience = _DEVSUP_PATIENCE if each.holder.is_supervisor else ending.PATIENCE
        done = ending.end(each.tree, patience)
        asked += done.asked
        killed += done.killed
        left += done.left
    return ending.Ended(asked, killed, left)


def is_free(number: int) -> bool:
    """Whether nobody listens on the port, or soon nobody does."""
    return ending.until(lambda: not ports.look(number).listeners, _FREE_WITHIN)


def from_owner(record: Record) -> None:
    """End the devsup that runs this very service: whoever asks to take over means it."""
    done = end(targets([holder.known(psutil.Process(record.pid))]))
    if done.left:
        raise DevsupError(f"devsup (pid {record.pid}) did not end.", f"End it yourself: kill -9 {record.pid}")


def from_strangers(taken: TakenError) -> None:
    """End who holds the port: asked first, but for an older copy of this very command."""
    found = targets(taken.holders)
    refused = [each for each in found if each.refusal]
    if not found or refused or not all(each.holders for each in taken.listeners):
        reasons = [f"{holder.describe(each.holder)} is not ended: {each.refusal}." for each in refused]
        raise DevsupError(" ".join([taken.problem, *reasons]), taken.remedy)
    if not taken.is_copy and not agreed(found):
        raise taken
    number = taken.address[1]
    if end(found).left or not is_free(number):
        raise DevsupError(f"Port {number} is still held.", f"See who has it: devsup port {number}")


def agreed(found: Iterable[Target]) -> bool:
    """Ask the user; without a terminal nobody agrees."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for line in show(found):
        click.echo(f"  {line}", err=True)
    return click.confirm("End it?", err=True)
