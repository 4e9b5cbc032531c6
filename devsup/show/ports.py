"""Who listens on a port, as a table for people."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_COLUMNS = ("address", "pid", "command", "folder", "user", "since", "connections", "devsup service")
_UNLIMITED = 10_000  # columns, where no terminal is in the way


def as_text(ports: Sequence[Mapping[str, Any]], *, colour: bool, width: int) -> str:
    """One table for all the records (`devsup port --json`), and a line for each port that nobody listens on."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that --json need not wait for
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    out = io.StringIO()
    console = Console(file=out, force_terminal=colour, no_color=not colour, width=width or _UNLIMITED, highlight=False)
    rows = [row for each in ports for row in _rows(each)]
    if rows:
        filled = [number for number, _ in enumerate(_COLUMNS) if any(row[number] for row in rows)]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number in filled:
            table.add_column(_COLUMNS[number], overflow="fold", no_wrap=_COLUMNS[number] in {"address", "pid", "since"})
        for row in rows:
            table.add_row(*(Text(row[number]) for number in filled))
        console.print(table)
    for each in ports:
        for line in _notes(each):
            console.print(Text(line), soft_wrap=True)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _rows(port: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for listener in port["listeners"]:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(listener["connections"].items()))
        for holder in listener["holders"]:
            service = holder["devsup"]
            owner = f"{service['service']} in {service['project']}, pid {service['pid']}" if service is not None else ""
            facts = (holder["command"], holder["cwd"] or "", holder["user"] or "", holder["since"], counts, owner)
            yield (listener["address"], str(holder["pid"]), *facts)
        if not listener["holders"]:
            yield (listener["address"], "?", listener["says"], "", listener["user"] or "", "", counts, "")


def _notes(port: Mapping[str, Any]) -> Iterator[str]:
    number, waiting = port["port"], port["connections"].get("time_wait", 0)
    if not port["listeners"]:
        yield f"Port {number} is free: nobody listens there."
    if waiting and not port["listeners"]:
        were = "1 connection in TIME_WAIT is one that has" if waiting == 1 else f"{waiting} connections in TIME_WAIT have"
        yield f"{were} ended; the kernel remembers for a minute, and that keeps no server from the port."
    elif port["connections"]:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(port["connections"].items()))
        yield f"Connections from port {number}, which no listener has: {counts}."
    if len(port["listeners"]) > 1:
        yield f"{len(port['listeners'])} listeners: which of them a client of localhost:{number} reaches depends on the client."
