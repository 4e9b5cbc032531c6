"""`devsup stacks`: where every thread and task of a running service stands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devsup.errors import DevsupError

if TYPE_CHECKING:
    from devsup.system.owner import Record


@click.command()
@click.argument("service", required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def stacks(service: str | None, as_json: bool) -> None:
    """Show where every thread and asyncio task of SERVICE stands, the user's own code first.

    It runs under a devsup of this folder, or is the only one of this machine. Nothing is stopped for it.
    """
    import anyio
    import msgspec

    from devsup import events
    from devsup.show.failures import Failures
    from devsup.show.text import as_text
    from devsup.system.link import ask
    from devsup.system.meeting import folder_of

    record = _choose(service)
    answer = anyio.run(ask, folder_of(record.run), record.run, "stacks")
    if answer is None:
        raise DevsupError(f"The devsup of {record.service} (pid {record.pid}) does not answer.", f"See it: ps -fp {record.pid}")
    if as_json:
        click.echo(json.dumps({"service": record.service, "stacks": answer["stacks"]}, indent=2))
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    found = [msgspec.convert(each, events.Stack) for each in answer["stacks"]]
    lines = Failures(lambda path: os.path.relpath(path, record.project), linked=colour, verbose=False).stacks(found)
    click.echo(as_text(lines, colour=colour), nl=False, color=True)


def _choose(service: str | None) -> Record:
    """The run that is meant. Raises DevsupError where that is not one."""
    from devsup.system import owner

    here, found = Path.cwd().resolve(), [each for each in owner.running() if service in {None, each.service}]
    near = [each for each in found if here.is_relative_to(each.project)] or found
    if len(near) == 1:
        return near[0]
    what = f"service {service}" if service else "service"
    if not near:
        raise DevsupError(f"No {what} runs under devsup.", "Start one: devsup run COMMAND")
    names = ", ".join(f"{each.service} in {each.project}" for each in near)
    raise DevsupError(f"{len(near)} services run: {names}.", f"Name one, in its folder: devsup stacks {near[0].service}")
