"""The ports that the project's commands are sure to serve, and who is there already."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from devsup import guard
from devsup.decide.addresses import intended, meet
from devsup.doctor.finding import Finding
from devsup.errors import UsageError
from devsup.system import ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devsup.doctor.project import Project, Run
    from devsup.system.ports import Listener, Port

_HERE = "127.0.0.1"
_EVERY = "0.0.0.0"  # noqa: S104 - to see whether it could be bound


def free(project: Project) -> Iterator[Finding]:
    """Whether each can be had, or by whom it is held."""
    wanted: dict[int, Run] = {}
    for run in project.possible:
        for host, port in _addresses(run):
            other = wanted.setdefault(port, run)
            if other is run:
                yield _port(run, host, port)
            else:
                text = f"Services {other.name} and {run.name} both want port {port}."
                yield Finding("ports", "fail", text, "Give one of them another, in its command and as its port.")
    if not wanted:
        yield Finding("ports", "ok", "No command and no config names a port.")


def _addresses(run: Run) -> list[tuple[str, int]]:
    """What the command is sure to serve, and what the config names besides."""
    known = intended(_command(run), run.environ) if run.words else []
    return [*known, *((_HERE, port) for port in run.service.port if port not in {each for _, each in known})]


def _command(run: Run) -> Sequence[str]:
    return run.words if isinstance(run.command, UsageError) else run.command


def _port(run: Run, host: str, number: int) -> Finding:
    port = ports.look(number)
    found = [each for each in port.listeners if meet(host, each.address.host)]
    taken = guard.TakenError((host, number), found, _command(run), str(run.folder))
    if found and taken.is_copy and all(holder.devsup is not None for holder in taken.holders):
        return Finding("ports", "ok", f"{run.label}port {number} is served: {_owner(found)}.")
    if found:
        return Finding("ports", "fail", f"{run.label}{taken.problem}", taken.remedy)
    problem = _bound(host, number)
    if isinstance(problem, PermissionError):
        text = f"{run.label}port {number} is for root alone."
        return Finding("ports", "fail", text, "Choose one from 1024 on, such as 8000.")
    if problem is not None and problem.errno == errno.EADDRNOTAVAIL:
        return Finding(
            "ports", "fail", f"{run.label}{host} is no address of this machine.", "Use one that it has: --host 127.0.0.1"
        )
    if problem is not None and problem.errno == errno.EADDRINUSE:
        return Finding("ports", "fail", f"{run.label}{taken.problem}", taken.remedy)
    return Finding("ports", "ok", f"{run.label}port {number} is free.{_waiting(port)}")


def _owner(found: Sequence[Listener]) -> str:
    return "; ".join(each.describe() for each in found)


def _bound(host: str, port: int) -> OSError | None:
    """Why it cannot be bound, as servers bind: with SO_REUSEADDR."""
    host = {"": _EVERY, "*": _EVERY, "localhost": _HERE}.get(host, host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with suppress(socket.gaierror), socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except socket.gaierror:
            return None
        except OSError as exc:
            return exc
    return None


def _waiting(port: Port) -> str:
    """What is left of connections keeps nobody away, although it looks as if somebody were there."""
    waiting = port.connections.get("time_wait", 0)
    if not waiting:
        return ""
    were = "1 connection in TIME_WAIT has" if waiting == 1 else f"{waiting} connections in TIME_WAIT have"
    return f" {were} ended; the kernel remembers that for a minute, and it keeps no server from the port."
