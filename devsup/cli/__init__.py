"""The command line; the only place that exits."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

import devsup

# Verb -> the module that has it.
_VERBS = {
    "run": "run",
    "start": "start",
    "check": "check",
    "status": "status",
    "logs": "logs",
    "reload": "tell",
    "restart": "tell",
    "stop": "tell",
    "down": "tell",
    "requests": "requests",
    "stacks": "stacks",
    "attach": "attach",
    "port": "port",
    "init": "init",
    "config": "config",
    "doctor": "doctor",
}


class _Commands(click.Group):
    """Loads a verb's module when the verb is used: `--help` of one stays fast."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = getattr(import_module(f"devsup.cli.{_VERBS[cmd_name]}"), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(devsup.__version__, prog_name="devsup")
def cli() -> None:
    """Run development servers: one listener per port, reloads that wait for the running requests, nothing left behind.

    Put "devsup run" in front of the command you already use:

    \b
      devsup run uvicorn main:app --port 8000
      devsup run python main.py
      devsup run main:app

    \b
    Several services, from devsup.toml or a Procfile?

    \b
      devsup start
      devsup status

    \b
    Does it start, answer, and stay up?

    \b
      devsup check main:app
      devsup doctor

    \b
    Somebody holds the port?

    \b
      devsup port 8000
      devsup port 8000 --free

    \b
    Something hangs?

    \b
      devsup requests
      devsup stacks
    """  # noqa: D301 - click looks for the character, which keeps the lines apart


def main() -> None:
    """The entry point."""
    if sys.platform == "win32":
        click.echo("devsup runs on Linux and macOS; on Windows, run it inside WSL.", err=True)
        sys.exit(2)
    if os.getpid() == 1:
        from devsup.system.init import stand_in

        code = stand_in()
        if code is not None:
            sys.exit(code)
    from devsup.errors import DevsupError

    try:
        cli(prog_name="devsup")
    except DevsupError as exc:
        click.echo(f"devsup: {exc}", err=True)
        sys.exit(exc.exit_code)
