"""Linux's own file events, without a poll: watchfiles looks every few milliseconds, this wakes when something was written."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING, Self

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLOSED = 0x8  # after writing
_MOVED_FROM, _MOVED_TO, _CREATED, _DELETED = 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _ONLY_FOLDERS, _IS_FOLDER = 0x4000, 0x8000, 0x01000000, 0x40000000
_MASK = _CLOSED | _MOVED_FROM | _MOVED_TO | _CREATED | _DELETED | _ONLY_FOLDERS
_HEADER = struct.Struct("iIII")


class Inotify:
    """Watches folders, each without what is below it. Raises OSError where the kernel's limits are reached."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._folders: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    @property
    def folders(self) -> set[str]:
        """What is watched."""
        return set(self._folders.values())

    def add(self, folders: Iterable[str]) -> None:
        """Watch these too; a folder that is gone by now is passed over."""
        for folder in folders:
            try:
                self._folders[self._checked(self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _MASK))] = folder
            except OSError as exc:
                if exc.errno in {errno.ENOSPC, errno.ENOMEM}:
                    raise

    async def changes(self) -> tuple[set[str], set[str], bool]:
        """Wait for the next: (files, new folders, whether events were lost)."""
        await anyio.wait_readable(self._fd)
        return self.read()

    def read(self) -> tuple[set[str], set[str], bool]:
        """What there is now, as `changes` gives it."""
        files, folders, lost = set[str](), set[str](), False
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return files, folders, lost
        at = 0
        while at < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, at)
            name = data[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0")
            at += _HEADER.size + length
            lost = lost or bool(mask & _OVERFLOW)
            if mask & _IGNORED:
                self._folders.pop(watch, None)
            elif watch in self._folders and name:
                path = os.path.join(self._folders[watch], os.fsdecode(name))  # noqa: PTH118 - hot
                if not mask & _IS_FOLDER:
                    # A file that was only opened for writing is not written yet: its close will tell.
                    files.update([path] if mask & ~_CREATED & _MASK or _is_linked(path) else [])
                elif mask & (_CREATED | _MOVED_TO):
                    folders.add(path)
        return files, folders, lost


def _is_linked(path: str) -> bool:
    """Created whole, by a link: there is no close to wait for."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_nlink > 1 or (found.st_mode & 0o170000) == 0o120000
