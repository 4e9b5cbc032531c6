"""Who listens on a port, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devsup.show.text import as_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_COLUMNS = ("address", "pid", "command", "folder", "user", "since", "connections", "devsup service")


def as_text(ports: Sequence[Mapping[str, Any]], *, colour: bool, width: int) -> str:
    """One table for all the records (`devsup port --json`), and a line for each port that nobody listens on."""
    rows = [row for each in ports for row in _rows(each)]
    shown = as_table(_COLUMNS, rows, colour=colour, width=width, whole={"address", "pid", "since"}) if rows else ""
    return shown + "".join(f"{line}\n" for each in ports for line in _notes(each))


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
