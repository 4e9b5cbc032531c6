"""The end of what holds a port, for `devsup port --free` and `--take-over`: who, whether that may be, and what came of it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
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
        with suppress(psutil.NoSuchProcess):
            one = each
            if each.devsup is not None and not each.is_supervisor:
                one = holder.known(psutil.Process(each.devsup.pid))
            tree = ending.tree(one.pid, one.started)
            suspect = Suspect(*astuple(ending.facts(one.pid)))
            found[one.pid] = Target(one, tree, refusal(suspect, os.getpid(), holder.user_name(os.geteuid())))
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
    """End them, one after the other."""
    done = [ending.end_devsup(each.tree) if each.holder.is_supervisor else ending.end(each.tree) for each in found]
    return ending.Ended(
        [pid for each in done for pid in each.asked],
        [pid for each in done for pid in each.killed],
        [pid for each in done for pid in each.left],
    )


def is_free(number: int) -> bool:
    """Whether nobody listens on the port, or soon nobody does."""
    return ending.until(lambda: not ports.look(number).listeners, _FREE_WITHIN)


def from_owner(record: Record) -> None:
    """End the devsup that runs this very service: whoever asks to take over means it. Raises DevsupError where it stays."""
    with suppress(psutil.NoSuchProcess):
        found = targets([holder.known(psutil.Process(record.pid))])
        _check(found, f"devsup (pid {record.pid}) runs this service.", "Stop it yourself.")
        if end(found).left:
            raise DevsupError(f"devsup (pid {record.pid}) did not end.", f"End it yourself: kill -9 {record.pid}")


def from_strangers(taken: TakenError) -> None:
    """End who holds the port: asked first, but for an older copy of this very command. Raises DevsupError where one stays."""
    found = targets(taken.holders)
    if not all(each.holders for each in taken.listeners):
        raise taken
    _check(found, taken.problem, taken.remedy)
    if not taken.is_copy and not agreed(found):
        raise taken
    if end(found).left:
        raise DevsupError(f"Port {taken.address[1]} is still held.", f"See who has it: devsup port {taken.address[1]}")


def _check(found: Iterable[Target], problem: str, remedy: str) -> None:
    reasons = [f"{holder.describe(each.holder)} is not ended: {each.refusal}." for each in found if each.refusal]
    if reasons:
        raise DevsupError(" ".join([problem, *reasons]), remedy)


def agreed(found: Iterable[Target]) -> bool:
    """Ask the user; without a terminal nobody agrees."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for line in show(found):
        click.echo(f"  {line}", err=True)
    return click.confirm("End it?", err=True)
