"""`devsup status`: how every service stands; and a wait for it, for scripts."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from devsup.cli.options import Duration, in_colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devsup.client import Client

_SLACK = 10.0  # seconds beyond a wait, for the answer


@click.command()
@click.argument("services", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option(
    "--wait", type=click.Choice(["started", "ready", "completed"]), help="Until all are; ends with 1 when one cannot be."
)
@click.option("--timeout", type=Duration(), metavar="TIME", default="60s", help="Longest wait, such as 30s. Default: 60s.")
def status(services: tuple[str, ...], as_json: bool, wait: str | None, timeout: float) -> None:
    """Show how SERVICES stand; all of them without a name. Ends with 0 when all are ready or completed, else with 1."""
    from devsup.client import client, is_there
    from devsup.system.ending import until

    began = time.monotonic()
    service = services[0] if services else None
    if wait:  # `devsup start & devsup status --wait ready`: it may not even be up
        until(lambda: is_there(service), timeout)
    with client(service) as asking:
        sys.exit(report(asking, services, wait, max(0.0, timeout - (time.monotonic() - began)), as_json=as_json))


def report(asking: Client, services: Sequence[str], wait: str | None, timeout: float, *, as_json: bool = False) -> int:
    """Show how these stand once they are so far, or cannot be; returns the exit code."""
    from devsup.show.table import services_table

    query = {"wait": wait, "timeout": timeout} if wait else {}
    found = asking.get("/v1/services", limit=timeout + _SLACK, service=list(services), **query)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        colour = in_colour()
        click.echo(services_table(found, colour=colour), nl=False, color=True)
    late = _late(found, wait or "ready")
    if wait and late:
        click.echo(f"devsup: not {wait}: {'; '.join(late)}", err=True)
    return 1 if late else 0


def _late(found: Sequence[dict[str, Any]], wanted: str) -> list[str]:
    """Those that are not so far, and why."""
    so_far = {"ready": {"ready", "completed"}, "completed": {"completed"}}
    late = [each for each in found if (not each["pid"] if wanted == "started" else each["state"] not in so_far[wanted])]
    late = [each for each in late if not (wanted == "started" and each["state"] == "completed")]
    return [f"{each['name']} is {each['state']}{': ' + each['reason'] if each['reason'] else ''}" for each in late]
