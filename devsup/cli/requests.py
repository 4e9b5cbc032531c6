"""`devsup requests`: what is active now."""

from __future__ import annotations

import json

import click

from devsup.cli.options import in_colour


@click.command()
@click.argument("services", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def requests(services: tuple[str, ...], as_json: bool) -> None:
    """Show the requests, streams and WebSockets that SERVICES have in hand, how old they are, and where their code stands."""
    from devsup.client import client
    from devsup.show.table import requests_table

    with client(services[0] if services else None) as asking:
        found = asking.get("/v1/requests", service=list(services))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    colour = in_colour()
    click.echo(requests_table(found, colour=colour), nl=False, color=True)
