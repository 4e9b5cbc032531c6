"""What earlier runs of devsup have left, and the devsups that run in this project now."""

from __future__ import annotations

import os
import re
import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from devsup.doctor.asking import OURS
from devsup.doctor.finding import Finding, first, listed
from devsup.system import holder, keeper, owner
from devsup.system.meeting import runtime_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from devsup.doctor.project import Project
    from devsup.system.owner import Record

_RUN = re.compile(r"devsup-[0-9a-f]{16}|devsup-check-(\d+)-\w+")  # of a check it has the pid
_CONTROL = "control"  # the socket of a run's that is there as long as it runs
_YOUNG = 10.0  # seconds in which a devsup has said who it is


class Marked(NamedTuple):
    """A process that a devsup has started: the run that it belongs to, and where that has its sockets."""

    pid: int
    run: str
    folder: str


def leftovers(project: Project) -> Iterator[Finding]:
    """Workers whose devsup is gone, other processes of such, and folders."""
    orphans: dict[str, list[int]] = {}
    for each in _orphans():
        orphans.setdefault(each.run, []).append(each.pid)
    found = []
    for record in _stale(project):
        workers = {int(pid) for pid, start in record.workers.items() if keeper.lives(int(pid), start)}
        pids = sorted(workers.union(orphans.pop(record.run.partition(".")[0], [])))
        if pids:
            text = f"Service {record.service} of a devsup that was killed (pid {record.pid}) still runs: {_described(pids)}."
            found.append(Finding("leftovers", "warn", text, f"The next devsup start ends it. To end it now: {_kill(pids)}"))
    found += [
        Finding("leftovers", "warn", f"A {_kind(run)} that is gone has left {_described(pids)}.", _kill(pids))
        for run, pids in orphans.items()
    ]
    yield from first(found)
    folders = _dead_folders()
    if folders and not found:
        text = f"No process is left of earlier runs. What they left on the disk does no harm: {listed(folders)}."
        yield Finding("leftovers", "ok", text, f"rm -r {' '.join(map(shlex.quote, folders))}")
    elif not found:
        yield Finding("leftovers", "ok", "Nothing is left of earlier runs.")


def devsups(project: Project) -> Iterator[Finding]:
    """Those that run in this project."""
    records: dict[int, list[Record]] = {}
    for record in owner.running():
        if record.project == str(project.folder) or record.config == str(project.config.path or "?"):
            records.setdefault(record.pid, []).append(record)
    for pid, several in records.items():
        services = ", ".join(dict.fromkeys(each.service for each in several))
        since = holder.duration(max(0.0, time.time() - several[0].since))
        urls = " ".join(dict.fromkeys(url for each in several for url in each.urls))
        on = f", on {urls}" if urls else ""
        yield Finding("devsups", "ok", f"A devsup runs here, pid {pid}, since {since}: {services}{on}. See: devsup status")
    if not records:
        yield Finding("devsups", "ok", "No devsup runs in this project.")


def _kind(run: str) -> str:
    return "devsup doctor" if run.startswith(OURS) else "devsup"


def _stale(project: Project) -> Iterator[Record]:
    """Of owners of this project's services that ended without a word."""
    places = [project.folder / ".devsup", Path(runtime_folder(), f"devsup-{os.getuid()}")]
    for path in [path for place in places if place.is_dir() for path in sorted(place.glob("*.json"))]:
        record = owner.read(path)
        if record is not None and record.is_visible and not record.is_running and record.project == str(project.folder):
            yield record


def _orphans() -> Iterator[Marked]:
    """Processes of this user whose devsup is gone, but for what was opened for the user: that was meant to stay."""
    table = keeper.processes()
    above, pid = set[int](), os.getppid()
    while pid in table and pid not in above:  # the shell that has called us, and so on: nobody is to end these
        above.add(pid)
        pid = table[pid].parent
    runs = {record.run.partition(".")[0] for record in owner.running()}
    marked = [each for each in map(_marked, table.keys() - above) if each is not None]
    sockets = _sockets()
    found = [each for each in marked if each.run not in runs and not _has_owner(each, sockets)]
    kept = keeper.running({each.pid: table[each.pid].start for each in found})
    yield from (each for each in found if each.pid in kept)


def _marked(pid: int) -> Marked | None:
    """What its environment says of it; None for one of another user, or in a container, whose devsup is not seen from here."""
    with suppress(OSError):
        place = Path("/proc", str(pid))
        if place.stat().st_uid != os.getuid() or (place / "ns/pid").readlink() != Path("/proc/self/ns/pid").readlink():
            return None
        said = dict(entry.partition(b"=")[::2] for entry in (place / "environ").read_bytes().split(b"\0"))
        token, link = os.fsdecode(said.get(b"DEVSUP_TOKEN", b"")), os.fsdecode(said.get(b"DEVSUP_LINK", b""))
        run = token.partition("-")[0]
        return Marked(pid, run if run.startswith(OURS) else run.partition(".")[0], str(Path(link).parent)) if run else None
    return None


def _has_owner(process: Marked, sockets: frozenset[str]) -> bool:
    """Whether its devsup runs, or is a doctor that asks.

    Its folder may be elsewhere than ours would be, and who has cleaned the project has taken its record.
    """
    doctor = re.fullmatch(rf"{OURS}(\d+)\..*", process.run)
    if doctor is not None:
        return keeper.start_of(int(doctor[1])) != 0
    return f"{process.folder}/{_CONTROL}" in sockets


def _sockets() -> frozenset[str]:
    """The paths of all Unix sockets that some process has open, where the system tells."""
    with suppress(OSError):
        return frozenset(line.rpartition(" ")[2] for line in Path("/proc/net/unix").read_text(errors="replace").splitlines())
    return frozenset()


def _owners(folder: Path) -> Iterator[Record]:
    with suppress(OSError):
        for link in folder.glob("owner*"):
            record = owner.read(link.readlink())
            if record is not None:
                yield record


def _dead_folders() -> list[str]:
    """Of this user's runs that have ended without a word: no owner in them that runs, or could, where it is not seen."""
    found, sockets = [], _sockets()
    for base in sorted({runtime_folder(), "/tmp"}):  # noqa: S108 - as owner.running
        for folder in sorted(Path(base).glob("devsup-*")):
            with suppress(OSError):
                about = folder.lstat()
                name = _RUN.fullmatch(folder.name)
                is_ours = about.st_uid == os.getuid() and name is not None
                is_held = name is not None and name[1] is not None and Path("/proc", name[1]).exists()
                is_held = is_held or any(record.is_running or not record.is_visible for record in _owners(folder))
                is_held = is_held or f"{folder}/{_CONTROL}" in sockets
                if is_ours and not is_held and time.time() - about.st_mtime > _YOUNG:
                    found.append(str(folder))
    return found


def _described(pids: Iterable[int]) -> str:
    import psutil  # noqa: PLC0415 - 20 ms, and mostly there are none

    said = []
    for pid in pids:
        with suppress(psutil.Error):
            said.append(holder.describe(holder.known(psutil.Process(pid))))
    return listed(said) or "processes that have just ended"


def _kill(pids: Iterable[int]) -> str:
    return f"kill {' '.join(map(str, pids))}"
