"""`devsup init`: a devsup.toml from what the project's files say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from devsup.errors import UsageError

if TYPE_CHECKING:
    from devsup.discover.found import Found

_NAME, _LOCAL = "devsup.toml", "devsup.local.toml"


@click.command()
@click.option("--force", is_flag=True, help="Also where there is a devsup.toml: it is written over.")
def init(force: bool) -> None:
    """Look at the project in this folder, and write a devsup.toml with the servers that are found.

    What it looks at: Procfile, manage.py, FastAPI, Starlette and Flask apps, the scripts of pyproject.toml, "dev" in
    package.json. Nothing of the project is run.
    """
    from devsup.config import load_file
    from devsup.discover import discover

    folder = Path.cwd()
    path = folder / _NAME
    if not force:
        _refuse_to_overwrite(path)
    found = discover(folder)
    if not found:
        remedy = f'Write it by hand, [services.web] and command = "…", into {_NAME}, or put devsup run before your command.'
        raise UsageError(f"Nothing that serves was found in {folder}.", remedy)
    path.write_text(_text(found), "utf-8")
    load_file(path)
    for each in found:
        click.echo(f"devsup: found {each.name}: {each.keys['command']}  ({each.why})")
    click.echo(f"devsup: wrote {_NAME}. Look through it, then start all: devsup start")
    if _ignore_local(folder / ".gitignore"):
        click.echo(f"devsup: added {_LOCAL} to .gitignore: that file is each developer's own.")


def _refuse_to_overwrite(path: Path) -> None:
    from devsup.config import load

    there = path if path.exists() else load(path.parent).path
    if there and there.parent == path.parent:
        raise UsageError(f"{there} is there already.", "See what it says: devsup config. Write a new one: devsup init --force")


def _text(found: list[Found]) -> str:
    from devsup.config.source import dotted, quoted
    from devsup.config.writing import literal

    lines = ['# Written by "devsup init". All keys, with their defaults: devsup config --all']
    for each in found:
        lines += ["", f"[{dotted(('services', each.name))}]  # {each.why}"]
        lines += [f"{quoted(key)} = {literal(value)}" for key, value in each.keys.items()]
    return "\n".join([*lines, ""])


def _ignore_local(path: Path) -> bool:
    """Whether the line had to be added; without a .gitignore there is nothing to keep."""
    if not path.is_file():
        return False
    text = path.read_text("utf-8")
    if any(line.strip().strip("/") == _LOCAL for line in text.splitlines()):
        return False
    path.write_text(f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{_LOCAL}\n", "utf-8")
    return True
