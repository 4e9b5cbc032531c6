"""`devsup stacks`: where every thread and task of a running service stands."""

from __future__ import annotations

import json
from pathlib import Path

import click

from devsup.cli.options import in_colour


@click.command()
@click.argument("service", required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def stacks(service: str | None, as_json: bool) -> None:
    """Show where every thread and asyncio task of SERVICE stands, the user's own code first.

    It runs under a devsup of this folder, or is the only one of this machine. Nothing is stopped for it.
    """
    import msgspec

    from devsup import events
    from devsup.client import client, find, path_of
    from devsup.show.failures import Failures
    from devsup.show.text import as_text

    record = find(service, anywhere=True)
    with client(service, anywhere=True) as asking:
        names = [service] if service else asking.get("/v1")["services"]
        answers = {name: asking.get(path_of(name, "stacks")) for name in names}
    if as_json:
        found = [{"service": name, "stacks": answer} for name, answer in answers.items()]
        click.echo(json.dumps(found if len(found) > 1 else found[0], indent=2))
        return
    colour = in_colour()
    failures = Failures(Path(record.project), linked=colour, verbose=False)
    for name, answer in answers.items():
        lines = failures.stacks([msgspec.convert(each, events.Stack) for each in answer])
        click.echo(as_text(lines, colour=colour, label=f"{name} › " if len(answers) > 1 else ""), nl=False, color=True)
