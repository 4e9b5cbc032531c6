"""A process that is in the way, as its user should be told of it."""

from __future__ import annotations

import os
import pwd
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devsup.system import owner

if TYPE_CHECKING:
    import psutil

    from devsup.system.owner import Record

_SHOWN = 100
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_AIRPLAY = frozenset({"ControlCenter", "ControlCe", "AirPlayXPCHelper"})  # macOS, on 5000 and 7000


@dataclass(frozen=True)
class Holder:
    """A process; what this user may not see of it is None, or "" for `command` and `parent`.

    `command` is one line with the program's folder left out, `words` are the command line as it is. `age` is in seconds,
    `started` in seconds since the epoch. `devsup` is the supervisor that it is, or whose worker it is.
    """

    pid: int
    command: str
    cwd: str | None
    user: str | None
    age: float | None
    parent: str = ""
    words: tuple[str, ...] = ()
    started: float = 0.0
    devsup: Record | None = None

    @property
    def is_supervisor(self) -> bool:
        """Whether it is a devsup itself."""
        return self.devsup is not None and self.devsup.pid == self.pid


def known(process: psutil.Process) -> Holder:
    """What can be seen of a process. Raises psutil.NoSuchProcess when it has just ended."""
    import psutil  # noqa: PLC0415 - 20 ms, and needed only where somebody is in the way

    words, cwd, user, parent = [], None, None, ""
    with process.oneshot():
        name, started = process.name(), process.create_time()
        with suppress(psutil.AccessDenied):
            user = process.username()
        with suppress(psutil.AccessDenied):
            words = process.cmdline()
        with suppress(psutil.AccessDenied):
            cwd = one_line(process.cwd()) or None
        with suppress(psutil.Error):
            above = process.parent()
            parent = f"{one_line(above.name())} (pid {above.pid})" if above is not None else ""
    program = Path(words[0]).name if words else name
    return Holder(
        pid=process.pid,
        command=one_line(" ".join([program, *words[1:]])),
        cwd=cwd,
        user=user,
        age=max(0.0, time.time() - started),
        parent=parent,
        words=tuple(words),
        started=started,
        devsup=_devsup_of(process),
    )


def _devsup_of(process: psutil.Process) -> Record | None:
    import psutil  # noqa: PLC0415 - as above

    run = ""
    with suppress(psutil.Error):
        run = process.environ().get("DEVSUP_TOKEN", "").partition("-")[0]
    return next((record for record in owner.running() if record.pid == process.pid or record.run == run), None)


def describe(holder: Holder) -> str:
    """One phrase, such as "python main.py (pid 4121, folder ~/app, since 3 min)"; the user only when another."""
    facts = [f"pid {holder.pid}"]
    if holder.user and holder.user != user_name(os.geteuid()):
        facts.append(f"user {holder.user}")
    if holder.cwd:
        facts.append(f"folder {with_tilde(holder.cwd)}")
    if holder.age is not None:
        facts.append(f"since {duration(holder.age)}")
    if holder.parent and not holder.is_supervisor:
        facts.append(f"started by {holder.parent}")
    what = _as_devsup(holder) or _as_airplay(holder) or shortened(with_tilde(holder.command))
    return f"{what} ({', '.join(facts)})"


def _as_devsup(holder: Holder) -> str:
    record = holder.devsup
    if record is None:
        return ""
    program, *rest = record.command
    command = shortened(with_tilde(one_line(" ".join([Path(program).name, *rest]))))
    return f"devsup run {command}" if holder.is_supervisor else f"a worker of devsup run {command}, pid {record.pid}"


def _as_airplay(holder: Holder) -> str:
    if holder.command.partition(" ")[0] not in _AIRPLAY:
        return ""
    return "macOS's AirPlay Receiver, which System Settings, General, AirDrop & Handoff turns off"


def user_name(uid: int) -> str:
    """The name of a user, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def one_line(text: str) -> str:
    """Another program's words, safe for a terminal: no line breaks, no escape sequences."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def with_tilde(text: str) -> str:
    """The user's own folder as he writes it."""
    home = os.path.expanduser("~")  # noqa: PTH111 - in a container the user may have none
    return text if home == "/" else re.sub(rf"(^|[\s=:]){re.escape(home)}(?=[/\s:]|$)", r"\1~", text)


def shortened(text: str) -> str:
    """What fits into a message."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def duration(seconds: float) -> str:
    """In the largest unit that fits: "3 min"."""
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{int(seconds // size)} {unit}"
