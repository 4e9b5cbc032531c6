"""Who listens on a TCP port."""

import os
import pwd
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_ANY_4, _ANY_6 = "0.0.0.0", "::"  # noqa: S104 - compared with, never bound
_MAPPED = "::ffff:"  # an IPv4 address on an IPv6 socket
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"
_SHOWN = 100
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Holder:
    """The process that listens on a port; what this user may not see of it is None, or "" for `command`.

    `command` is one line with the program's folder left out. `age` is in seconds.
    """

    pid: int | None
    command: str
    cwd: str | None
    user: str | None
    age: float | None


def holder(port: int, host: str = "") -> Holder | None:
    """Who listens on TCP `port`, or None when nobody visible does.

    With a `host`, only a listener that would get its connections: on one of its addresses or on all of them.
    Without one, any address of either family. Of several processes, the one on the nearest address is told, then the
    one that has started the others: it would start them again.
    """
    import psutil  # noqa: PLC0415 - 20 ms, and needed only once a port is taken

    try:
        table = list(_listeners())
    except psutil.AccessDenied:  # macOS gives the whole table to root alone
        table = list(_listeners_by_process())
    wanted = _addresses(port, host)
    found = [(address, pid) for address, listening, pid in table if listening == port]
    found.sort(key=lambda each: (each[1] is None, each[1] or 0))
    if wanted is not None:
        found = sorted((each for each in found if each[0] in wanted), key=lambda each: wanted.index(each[0]))
    for address, pid in found:
        with suppress(psutil.NoSuchProcess):
            if pid is None:
                return Holder(None, "", None, _owner(port), None)
            return _known(_outermost(psutil.Process(pid), address, port))
    return None


def listening(group: int) -> list[str]:
    """URLs of the TCP listeners of the processes in a process group."""
    import psutil  # noqa: PLC0415 - 20 ms, and needed for programs without an agent only

    found = set()
    for process in psutil.process_iter(["pid"]):
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group:
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        host, port = connection.laddr
                        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
                        found.add(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    return sorted(found)


def describe(holder: Holder) -> str:
    """One phrase, such as "python main.py (pid 4121, folder ~/app, since 3 min)"; the user only when another."""
    if holder.pid is None:
        return f"a process of user {holder.user}" if holder.user else "a process of another user"
    facts = [f"pid {holder.pid}"]
    if holder.user and holder.user != _user_name(os.geteuid()):
        facts.append(f"user {holder.user}")
    if holder.cwd:
        facts.append(f"folder {_with_tilde(holder.cwd)}")
    if holder.age is not None:
        facts.append(f"since {_duration(holder.age)}")
    return f"{_shortened(_with_tilde(holder.command))} ({', '.join(facts)})"


def _addresses(port: int, host: str) -> list[str] | None:
    """The local addresses that a listener for `host` may have, nearest first; None means any."""
    if host in {"", _ANY_4, _ANY_6}:
        return None
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError:
        return None
    has_4 = any("." in address for address in found)
    # A listener on :: mostly takes IPv4 too; one on 0.0.0.0 never takes IPv6.
    return [*found, *([_ANY_4] if has_4 else []), _ANY_6]


def _listeners() -> Iterator[tuple[str, int, int | None]]:
    """Address, port and pid of every TCP listener; the pid is None for processes that this user may not see."""
    import psutil  # noqa: PLC0415 - as in holder

    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr:
            yield each.laddr.ip.removeprefix(_MAPPED), each.laddr.port, each.pid


def _listeners_by_process() -> Iterator[tuple[str, int, int]]:
    """Address, port and pid of the TCP listeners of every process that this user may see."""
    import psutil  # noqa: PLC0415 - as in holder

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN and each.laddr:
                    yield each.laddr.ip.removeprefix(_MAPPED), each.laddr.port, process.pid


def _outermost(process: "psutil.Process", address: str, port: int) -> "psutil.Process":
    """The farthest ancestor that listens there too, such as a supervisor; else the process itself."""
    import psutil  # noqa: PLC0415 - as in holder

    def listens(parent: psutil.Process) -> bool:
        listeners = [each.laddr for each in parent.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        return (address, port) in {(each.ip.removeprefix(_MAPPED), each.port) for each in listeners}

    for parent in reversed(process.parents()):
        with suppress(psutil.Error):
            if listens(parent):
                return parent
    return process


def _known(process: "psutil.Process") -> Holder:
    import psutil  # noqa: PLC0415 - as in holder

    words, cwd, user = [], None, None
    with process.oneshot():
        name, started = process.name(), process.create_time()
        with suppress(psutil.AccessDenied):
            user = process.username()
        with suppress(psutil.AccessDenied):
            words = process.cmdline()
        with suppress(psutil.AccessDenied):
            cwd = process.cwd() or None
    program = Path(words[0]).name if words else name
    return Holder(process.pid, _one_line(" ".join([program, *words[1:]])), cwd, user, max(0.0, time.time() - started))


def _owner(port: int) -> str | None:
    """The user of a listener whose process cannot be seen; Linux alone tells, and only if it is one user."""
    uids = set()
    for table in _TABLES:
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    uids.add(int(fields[7]))
    return _user_name(uids.pop()) if len(uids) == 1 else None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _one_line(text: str) -> str:
    """Another program's words, safe for a terminal: no line breaks, no escape sequences."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _with_tilde(text: str) -> str:
    home = str(Path.home())
    return text if home == "/" else re.sub(rf"(^|[\s=:]){re.escape(home)}(?=[/\s:]|$)", r"\1~", text)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _duration(seconds: float) -> str:
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{int(seconds // size)} {unit}"
