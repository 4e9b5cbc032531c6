"""`devsup config`: what is in effect, and where each value comes from."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("--file", "-f", metavar="FILE", type=click.Path(path_type=Path), help="This file, or a Procfile, not the nearest.")
@click.option("--all", "defaults", is_flag=True, help="Also what is not set, with its default.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: all values, and where each was set.")
@click.option("--schema", is_flag=True, help="The JSON Schema of devsup.toml, for editors.")
def config(file: Path | None, defaults: bool, as_json: bool, schema: bool) -> None:
    """Check the config, and print what is in effect as TOML, each line with the place where it was set.

    Values of variables whose names say that they are secret are left out. Exits with 2 where the config is wrong.
    """
    if schema:
        from devsup.config.schema import schema as make_schema

        click.echo(json.dumps(make_schema(), indent=2))
        return
    from devsup import config as configs
    from devsup.config.writing import as_record, as_toml
    from devsup.errors import UsageError

    found = configs.load_file(file) if file else configs.load(Path.cwd())
    if found.path is None:
        raise UsageError(f"There is no devsup.toml in {Path.cwd()} or above.", "Let devsup write one: devsup init")
    if as_json:
        click.echo(json.dumps(as_record(found), indent=2, ensure_ascii=False))
    else:
        click.echo(as_toml(found, defaults=defaults), nl=False)
