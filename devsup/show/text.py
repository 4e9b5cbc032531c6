"""Rich's markup as text."""

from __future__ import annotations

import io
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.text import Text

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
# What colours and titles are made of, for those that are no terminal.
SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_UNLIMITED = 10_000  # columns, where no terminal is in the way


def as_text(lines: Iterable[str], *, colour: bool, width: int = 200, label: str = "") -> str:
    """Lines of markup, each after a label, for a terminal with or without colour."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that the first worker need not wait for
    from rich.text import Text  # noqa: PLC0415 - as above

    # Not rich's capture, which still writes to the terminal: that may be gone by now.
    text = io.StringIO()
    console = Console(file=text, force_terminal=colour, no_color=not colour, width=width, highlight=False)
    for line in lines:
        console.print(Text.assemble((label, "bold cyan"), Text.from_markup(line, emoji=False)), soft_wrap=True)
    return text.getvalue()


def as_table(
    head: Sequence[str], rows: Sequence[Sequence[str | Text]], *, colour: bool, width: int = 0, whole: Iterable[str] = ()
) -> str:
    """Columns under their heads, but for those that are empty; `whole` ones are never broken. Width 0: as wide as it is."""
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    out = io.StringIO()
    console = Console(file=out, force_terminal=colour, no_color=not colour, width=width or _UNLIMITED, highlight=False)
    filled = [number for number in range(len(head)) if any(str(row[number]) for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number in filled:
        table.add_column(head[number], overflow="fold", no_wrap=head[number] in whole)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell := row[number], str) else cell for number in filled))
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def short(path: str, folder: Path) -> str:
    """A path as the user would write it in this folder."""
    relative, home = os.path.relpath(path or ".", folder), os.path.expanduser("~")  # noqa: PTH111 - the user may have none
    if not relative.startswith(".."):
        return relative
    return "~" + path.removeprefix(home) if path.startswith(home + "/") else path


def painted(name: str, number: int) -> str:
    """A service's name in a colour of its own."""
    return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{name}\x1b[0m"
