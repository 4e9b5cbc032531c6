"""The limits of the machine: file watches, open files, room on the disks."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from devsup.doctor.finding import Finding, counted
from devsup.system.meeting import runtime_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devsup.doctor.project import Project

LIMITS = Path("/proc/sys/fs/inotify")

_WATCHES, _INSTANCES, _FILES = 65536, 128, 1024
_PLENTY = 4096  # files
_SPARE = 1000  # watches: what an editor takes of a small project
_MIB = 1 << 20
_LITTLE, _ENOUGH = 100 * _MIB, 1024 * _MIB


def inotify(project: Project) -> Iterator[Finding]:
    """Whether there are enough watches for the project's folders: without, devsup looks at every file once a second."""
    if sys.platform != "linux":
        yield Finding("inotify", "ok", "Not needed: this system tells of changed files without limits.")
        return
    most, instances = (int((LIMITS / name).read_text()) for name in ("max_user_watches", "max_user_instances"))
    used, open_ = _in_use()
    needed = len(project.files.folders)
    is_short = most - used < (needed if most >= _WATCHES else 2 * needed + _SPARE)
    if is_short:
        text = f"Of {most:,} inotify watches {used:,} are in use, and this project has {counted(needed, 'folder')}."
        yield Finding("inotify", "warn", text, f"sudo sysctl fs.inotify.max_user_watches={max(524_288, 2 * most)}")
    if instances < _INSTANCES or open_ >= instances:
        text = f"This user may have {counted(instances, 'inotify instance')}, and has {open_}: editors and servers take one each."
        yield Finding("inotify", "warn", text, f"sudo sysctl fs.inotify.max_user_instances={max(512, 2 * instances)}")
    elif not is_short:
        yield Finding("inotify", "ok", f"{most:,} watches, {used:,} in use; {counted(needed, 'folder')} here.")


def _in_use() -> tuple[int, int]:
    """The watches and instances that this user's processes have, as far as they can be seen."""
    watches = instances = 0
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if not process.name.isdigit() or process.stat().st_uid != os.getuid():
                continue
            for entry in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(entry.readlink()) == "anon_inode:inotify":
                        instances += 1
                        text = (process / "fdinfo" / entry.name).read_text()
                        watches += sum(line.startswith("inotify ") for line in text.splitlines())
    return watches, instances


def descriptors(_project: Project) -> Iterator[Finding]:
    """How many files a program may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    if soft != infinite and soft < _FILES:
        possible = _PLENTY if hard == infinite else min(_PLENTY, hard)
        text = f"A program may have {soft} files open, and each connection is one."
        remedy = f"ulimit -n {possible}" if possible >= _FILES else f"sudo prlimit --pid $$ --nofile={_PLENTY}"
        yield Finding("descriptors", "warn", text, remedy)
    else:
        yield Finding("descriptors", "ok", f"{'Any number of' if soft == infinite else f'{soft:,}'} files may be open at once.")


def disk(project: Project) -> Iterator[Finding]:
    """Room for logs and what the programs write, and whether devsup may write beside the project."""
    seen, plenty = set[int](), list[str]()
    for folder in (str(project.folder), tempfile.gettempdir(), runtime_folder()):
        device = Path(folder).stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(folder).free
        if free < _ENOUGH:
            text = f"Only {free // _MIB:,} MiB are free for {folder}."
            remedy = f"See what takes the room: du -xh -d 2 {shlex.quote(folder)} | sort -h | tail"
            yield Finding("disk", "fail" if free < _LITTLE else "warn", text, remedy)
        else:
            plenty.append(f"{free / 2**30:.1f} GiB are free for {folder}")
    state = project.folder / ".devsup"
    place = state if state.exists() else project.folder
    is_writable = os.access(place, os.W_OK) and place.is_dir()
    if not is_writable:
        text = f"{place} cannot be written, so what devsup keeps goes to {runtime_folder()}, and there is no log."
        yield Finding("disk", "warn", text, f"See whose it is: ls -ld {shlex.quote(str(place))}")
    if plenty and is_writable:
        yield Finding("disk", "ok", f"{', '.join(plenty)}.")
