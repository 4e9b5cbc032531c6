"""`devsup port`: who listens on a port, and the end of it."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from devsup.cli.options import in_colour
from devsup.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devsup.system.ports import Port
    from devsup.take_over import Target


@click.command()
@click.argument("ports", metavar="PORT…", nargs=-1, required=True, type=click.IntRange(1, 65535))
@click.option("--free", is_flag=True, help="End what listens there, with all that it has started: asks first.")
@click.option("--yes", "-y", is_flag=True, help="With --free: do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def port(ports: tuple[int, ...], free: bool, yes: bool, as_json: bool) -> None:
    """Show who listens on PORT, on any address; with --free, end it.

    Exits with 0, and after --free with 1 where a port is not free now.
    """
    from devsup.show.ports import as_text
    from devsup.system.ports import as_record, look

    if yes and not free:
        raise UsageError("--yes answers the question of --free.", f"devsup port {ports[0]} --free --yes")
    records, free_now = [], []
    for number in dict.fromkeys(ports):
        found = look(number)
        outcome = _freed(found, yes=yes, quiet=as_json) if free else {}
        records.append({**as_record(found), **outcome})
        free_now.append(outcome.get("free", True))
    if as_json:
        click.echo(json.dumps({"ports": records}, indent=2))
    elif not free:
        colour = in_colour()
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        click.echo(as_text(records, colour=colour, width=width), nl=False, color=True)
    sys.exit(0 if all(free_now) else 1)


def _freed(found: Port, *, yes: bool, quiet: bool) -> dict[str, Any]:
    """End the holders of one port, and tell what came of it."""
    from devsup import take_over

    def say(text: str) -> None:
        if not quiet:
            click.echo(f"devsup: {text}")

    number = found.number
    if not found.listeners:
        say(f"Port {number} is free.")
        return _outcome(free=True)
    targets = take_over.targets(holder for each in found.listeners for holder in each.holders)
    reasons = _reasons(found, targets)
    if reasons:
        say(f"Nothing on port {number} was ended. {' '.join(reasons)}")
        return _outcome(free=False, refused=reasons)
    if not yes and not _agreed(targets, number, quiet=quiet):
        say(f"Nothing on port {number} was ended.")
        return _outcome(free=False)
    done = take_over.end(targets)
    free = take_over.is_free(number)
    ended = [*done.asked, *done.killed]
    killed = f"; killed, because they did not listen: {_listed(done.killed)}" if done.killed else ""
    say(f"Ended {'1 process' if len(ended) == 1 else f'{len(ended)} processes'}: {_listed(ended)}{killed}.")
    say(f"Port {number} is free." if free else f"Port {number} is still held. See by whom: devsup port {number}")
    return _outcome(free=free, ended=ended, killed=done.killed)


def _outcome(*, free: bool, **more: Any) -> dict[str, Any]:
    return {"free": free, "ended": [], "killed": [], "refused": [], **more}


def _reasons(found: Port, targets: Sequence[Target]) -> list[str]:
    """Why these are not ended; with one of many the port would not be free, so all stay."""
    reasons = [f"Pid {each.holder.pid} is not ended: {each.refusal}." for each in targets if each.refusal]
    unseen = [each for each in found.listeners if not each.holders]
    return reasons + [f"{each.address.where} is held by {each.describe()}." for each in unseen]


def _agreed(targets: Sequence[Target], number: int, *, quiet: bool) -> bool:
    from devsup import take_over

    if quiet or sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("Nothing was ended: there is nobody to ask.", f"devsup port {number} --free --yes")
    click.echo(f"On port {number}:")
    return take_over.agreed(targets)


def _listed(pids: Sequence[int]) -> str:
    return ", ".join(map(str, pids))
