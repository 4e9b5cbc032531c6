"""`devsup logs`: what services have printed, also after their end."""

from __future__ import annotations

import re
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devsup.cli.options import Duration, in_colour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devsup.system.logs import Line

_TAIL = 200  # lines, where nobody says how many
_LOOKS = 1000  # milliseconds between looks, where the system does not tell


@click.command()
@click.argument("services", nargs=-1)
@click.option("--follow", "-f", is_flag=True, help="Go on with what they print from now on.")
@click.option("--since", type=Duration(), metavar="TIME", help="From so long ago on, such as 10m.")
@click.option("--grep", metavar="REGEX", help="Only lines in which this occurs.")
@click.option(
    "--lines", "-n", type=click.IntRange(min=0), metavar="N", help="At most the last N. Default: 200; all with --since."
)
@click.option("--timestamps", "-t", is_flag=True, help="Show when each line was printed.")
def logs(
    services: tuple[str, ...], follow: bool, since: float | None, grep: str | None, lines: int | None, timestamps: bool
) -> None:
    """Show what SERVICES have printed, in the order of time; of all without a name."""
    from devsup.system import logs as files

    found = _files(services)
    wanted = _pattern(grep)
    width = max(map(len, found))
    colour = in_colour()
    names = {name: _name(name.ljust(width), number if colour else None) for number, name in enumerate(found)}

    def show(line: Line) -> None:
        if wanted is None or wanted.search(line.text):
            stamp = f"{line.stamp} " if timestamps else ""
            click.echo(f"{stamp}{names[line.service] if len(found) > 1 else ''}{line.text}")

    with closing(files.Reader(found)) as reader:
        last = lines if lines is not None or since is not None or grep else _TAIL
        for line in reader.history(time.time() - since if since is not None else 0.0, last):
            show(line)
        with suppress(KeyboardInterrupt):
            for line in reader.follow(lambda: _changes(next(iter(found.values())).parent)) if follow else ():
                show(line)


def _pattern(grep: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(grep) if grep else None
    except re.error as exc:
        raise click.UsageError(f"--grep is {grep!r}, which is no regular expression: {exc}") from exc


def _changes(folder: Path) -> Iterator[object]:
    import watchfiles

    return watchfiles.watch(folder, debounce=100, step=20, rust_timeout=_LOOKS, yield_on_timeout=True, raise_interrupt=True)


def _name(text: str, number: int | None) -> str:
    from devsup.show.text import painted

    return f"{text} | " if number is None else painted(f"{text} | ", number)


def _files(services: tuple[str, ...]) -> dict[str, Path]:
    """The log file of each service, of the nearest project. Raises DevsupError where there is none."""
    from devsup.errors import DevsupError, UsageError

    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        found = {path.stem: path for path in sorted((folder / ".devsup" / "logs").glob("*.log"))}
        if found:
            break
    else:
        raise DevsupError(f"Nothing has been logged in {here}, or above it.", 'Start something: "devsup run COMMAND".')
    for name in services:
        if name not in found:
            raise UsageError(f"There is no log of {name}; there are: {', '.join(found)}.", f"devsup logs {next(iter(found))}")
    return {name: found[name] for name in services or found}
