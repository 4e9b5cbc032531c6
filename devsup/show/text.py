"""Rich's markup as text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def as_text(lines: Iterable[str], *, colour: bool, width: int = 200, label: str = "") -> str:
    """Lines of markup, each after a label, for a terminal with or without colour."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that the first worker need not wait for
    from rich.text import Text  # noqa: PLC0415 - as above

    # Not rich's capture, which still writes to the terminal: that may be gone by now.
    text = io.StringIO()
    console = Console(file=text, force_terminal=colour, no_color=not colour, width=width, highlight=False)
    for line in lines:
        console.print(Text.assemble((label, "bold cyan"), Text.from_markup(line)), soft_wrap=True)
    return text.getvalue()
