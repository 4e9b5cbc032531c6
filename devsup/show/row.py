"""The last row of the terminal: how every service stands, in as many characters as there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devsup.show.table import COLOURS, span
from devsup.show.text import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from devsup.status import Status

_QUIET = frozenset({"ready", "completed", "stopped"})


def status_row(statuses: Iterable[Status], active: Mapping[str, int], *, now: float, width: int, colour: bool) -> str:
    """One row; those that need a look come first where not all fit."""
    ordered = sorted(statuses, key=lambda each: each.state in _QUIET)
    parts = [_part(each, active.get(each.service, 0), now) for each in ordered]
    shown, left = list[str](), width - 1
    for number, (plain, markup) in enumerate(parts):
        rest = len(parts) - number
        if len(plain) + 3 + (7 if rest > 1 else 0) > left:
            shown.append(f"[dim]+ {rest}[/dim]")
            break
        shown.append(markup)
        left -= len(plain) + 3
    return as_text([" [dim]·[/dim] ".join(shown)], colour=colour, width=10_000).rstrip("\n")


def _part(status: Status, active: int, now: float) -> tuple[str, str]:
    """As it is counted, and as it is shown."""
    words = [] if status.state == "ready" else [status.state, span(now - status.since)]
    if status.state in {"completed", "stopped"}:
        words = [status.state]
    generation = f".{status.generation}" if status.generation > 1 else ""
    words += [f"{active} active"] if active else []
    words += ["reload waits"] if status.reloading else []
    words += [f"prompts: devsup attach {status.service}"] if status.prompting else []
    name, rest = f"{status.service}{generation}", f" {' '.join(words)}" if words else ""
    colour = COLOURS.get(status.state, "cyan")
    return f"● {name}{rest}", f"[{colour}]●[/{colour}] {name}[dim]{rest}[/dim]"
