"""Files that tell of no change: looked at every second or so, by their times and sizes alone."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Stamp = tuple[int, int, int]

_RECENT = 3.0  # seconds; some file systems keep times in steps of two: what was just saved may be saved again unseen
# Changes that other machines (or the host of this one) make there raise no event here.
_REMOTE = frozenset("9p afs ceph cifs drvfs fakeowner fuse lustre nfs nfs4 prl_fs smb2 smb3 smbfs vboxsf virtiofs vmhgfs".split())


class Poll:
    """Compares with the look before. `matters` makes a function that says whether a path is worth a look."""

    def __init__(self, matters: Callable[[], Callable[[str], bool]]) -> None:
        self._matters = matters
        self._listed: dict[str, tuple[Stamp, list[str], list[str]]] = {}
        self._files: dict[str, Stamp | None] = {}
        self._young: set[str] = set()

    def look(self, folders: Iterable[str]) -> tuple[set[str], set[str]]:
        """(files that are new, changed or gone; the folders in these folders)."""
        below, matters = set[str](), self._matters()
        found: dict[str, Stamp | None] = {}
        for folder in folders:
            files, inner = self._entries(folder, matters)
            below.update(inner)
            found.update((path, _stamp(path)) for path in files)
        before, self._files = self._files, found
        changed = {path for path in before.keys() | found if before.get(path) != found.get(path)}
        young = time.time_ns() - _RECENT * 1e9
        self._young = {path for path in self._young | changed if (found.get(path) or (0,))[0] > young} if before else set()
        return changed | self._young, below

    def _entries(self, folder: str, matters: Callable[[str], bool]) -> tuple[list[str], list[str]]:
        stamp = _stamp(folder)
        if stamp is None:
            self._listed.pop(folder, None)
            return [], []
        if folder not in self._listed or self._listed[folder][0] != stamp or stamp[0] > time.time_ns() - _RECENT * 1e9:
            known = set(self._listed[folder][1]) if folder in self._listed else set()
            files, inner = list[str](), list[str]()
            for entry in _listing(folder):
                if entry.is_dir():
                    inner.append(entry.path)
                elif entry.path in known or matters(entry.path):
                    files.append(entry.path)
            self._listed[folder] = stamp, files, inner
        return self._listed[folder][1:]

    def forget(self) -> None:
        """Other files may matter now."""
        self._listed.clear()


def _listing(folder: str) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - for each file, every second
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def remote(folders: Iterable[str], mounts: str) -> dict[str, str]:
    """Those folders that lie on a file system which does not tell of every change, and its type; `mounts` is a mountinfo."""
    types = dict[str, str]()
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if rest:
            point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
            types[point] = rest.split(" ")[0]
    found = {}
    for folder in folders:
        kind = next((types[str(each)] for each in (Path(folder), *Path(folder).parents) if str(each) in types), "")
        if kind in _REMOTE or kind.startswith("fuse."):
            found[folder] = kind
    return found
