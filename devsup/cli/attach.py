"""`devsup attach`: the terminal of a service, here."""

from __future__ import annotations

import os
import select
import sys
import termios
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devsup.client import Client

_LEAVE = b"\x1d"  # Ctrl-]


@click.command()
@click.argument("service", required=False)
def attach(service: str | None) -> None:
    """Give SERVICE this terminal: what it prints is shown, what is typed is its own. Ctrl-] leaves.

    Without a name: the one that prompts (pdb, input), or the only one.
    """
    from devsup.client import client, path_of
    from devsup.errors import UsageError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("devsup attach needs a terminal.", f"See its output alone: devsup logs -f {service or ''}".rstrip())
    with client(service) as asking:
        name = service or _prompting(asking)
        asking.post(path_of(name, "input"))  # whether it has a terminal at all
        click.echo(f"devsup: attached to {name}; Ctrl-] leaves", err=True)
        with _raw():
            has_left = _exchange(asking, name)
    click.echo(f"\ndevsup: left {name}, which goes on" if has_left else "\ndevsup: it has ended", err=True)


def _prompting(asking: Client) -> str:
    from devsup.errors import UsageError

    found = asking.get("/v1/services")
    named = [each["name"] for each in found if each["prompting"]] or [each["name"] for each in found]
    if len(named) > 1:
        raise UsageError(f"Several services could be meant: {', '.join(named)}.", f"Name one: devsup attach {named[0]}")
    return str(named[0])


@contextmanager
def _raw() -> Iterator[None]:
    """Every key goes to the service at once, Ctrl-C too; lines still end as this terminal needs it."""
    before = termios.tcgetattr(0)
    raw = termios.tcgetattr(0)
    raw[0] &= ~(termios.ICRNL | termios.IXON)
    raw[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
    try:
        termios.tcsetattr(0, termios.TCSADRAIN, raw)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _exchange(asking: Client, name: str) -> bool:
    """Until Ctrl-], or the end of devsup; whether it was the former."""
    import threading

    from devsup.client import path_of
    from devsup.errors import DevsupError

    ended, tell = os.pipe()

    def show() -> None:
        with suppress(Exception), asking.output(name) as pieces:
            for piece in pieces:
                os.write(1, piece)
        with suppress(OSError):  # nobody waits for it any more
            os.write(tell, b"x")

    threading.Thread(target=show, daemon=True).start()
    try:
        while True:
            ready, _, _ = select.select([0, ended], [], [])
            data = os.read(0, 4096) if 0 in ready else b""
            before, leaves, _ = data.partition(_LEAVE)
            if before:
                with suppress(DevsupError):  # it is between two lives
                    asking.post(path_of(name, "input"), before)
            if leaves or not data:
                return bool(leaves)
    finally:
        os.close(tell)
        os.close(ended)
