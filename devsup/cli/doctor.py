"""`devsup doctor`: what could keep the project from running, line by line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from devsup.cli.options import in_colour


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--python", metavar="PYTHON", help="Interpreter or virtual environment. Default: VIRTUAL_ENV, .venv, PATH.")
@click.option("--cwd", type=click.Path(file_okay=False, path_type=Path), help="Folder to look at.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def doctor(command: tuple[str, ...], as_json: bool, python: str | None, cwd: Path | None) -> None:
    """Look for what could keep COMMAND, or the app MODULE:APP, from running; without words, the services of devsup.toml.

    Each line is ok, warn or fail, with what to do. The app is imported, and nothing else of the project is run. Exits with 1
    where something fails.
    """
    from msgspec import to_builtins

    from devsup.cli.services import folder
    from devsup.doctor import Project, examine
    from devsup.errors import UsageError
    from devsup.show.findings import as_text, summary

    project = Project(folder(cwd), command, python)
    if python is not None and isinstance(project.runs[0].found, UsageError):
        raise project.runs[0].found
    found, colour = [], in_colour()
    for each in map(to_builtins, examine(project)):
        found.append(each)
        if not as_json:
            click.echo(as_text(each, colour=colour), nl=False, color=True)
    is_well = all(each["verdict"] != "fail" for each in found)
    if as_json:
        click.echo(json.dumps({"ok": is_well, "findings": found}, indent=2, ensure_ascii=False))
    else:
        click.echo(summary(found), nl=False)
    sys.exit(0 if is_well else 1)
