"""File changes: which folders are watched, when a save has settled, and what a file's content is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from devsup.errors import DevsupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

SETTLE = 20  # ms without a further change, before a save counts as whole
_LONGEST = 400  # ms that a stream of changes may put a save off
_MOST_FOLDERS = 4000
_SKIP = frozenset({"node_modules", "__pycache__", "site-packages"})
GONE = "gone"


class Watcher:
    """Watches folders, each without what is below it, so that a virtual environment beside the code costs nothing."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._extra: set[str] = set()
        self._watched: set[str] | None = None  # None: not yet looked
        self._changed_folders = anyio.Event()

    def include(self, paths: Iterable[str]) -> None:
        """Also watch the folders of these files."""
        folders = {str(Path(path).parent) for path in paths}
        self._extra |= folders
        if self._watched is not None and folders - self._watched:
            self._changed_folders.set()

    async def batches(self) -> AsyncIterator[set[str]]:
        """Sets of absolute paths that have changed; an empty set after the watch itself was set up anew."""
        import watchfiles  # noqa: PLC0415 - slower to import than a worker is to spawn

        while True:
            self._changed_folders = stop = anyio.Event()
            folders = await anyio.to_thread.run_sync(self._folders)
            self._watched = set(folders)
            try:
                changes = watchfiles.awatch(
                    *folders, watch_filter=None, debounce=_LONGEST, step=SETTLE, stop_event=stop, recursive=False, ignore_permission_denied=True
                )
                yield set()
                async for batch in changes:
                    paths = {path for _, path in batch}
                    yield paths
                    if any(os.path.isdir(path) and path not in self._watched for path in paths):  # noqa: PTH112 - hot
                        stop.set()
            except OSError as exc:
                problem = f"The files in {self._root} cannot be watched: {exc}."
                remedy = "Raise the limit with \"sudo sysctl fs.inotify.max_user_watches=524288\", or run with --reload off."
                raise DevsupError(problem, remedy) from exc

    def _folders(self) -> list[str]:
        found = {folder for folder in self._extra if Path(folder).is_dir()}
        for folder, below, _ in os.walk(self._root):
            found.add(folder)
            below[:] = [name for name in below if not _is_skipped(folder, name)]
            if len(found) >= _MOST_FOLDERS:
                break
        return sorted(found)


def _is_skipped(folder: str, name: str) -> bool:
    return name.startswith(".") or name in _SKIP or Path(folder, name, "pyvenv.cfg").exists()


def digests(paths: Iterable[str]) -> dict[str, str]:
    """The content of each file, as a digest; 'gone' where there is none."""
    return {path: _digest(path) for path in paths}


def _digest(path: str) -> str:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return GONE


def older_than(paths: Iterable[str], at: float) -> dict[str, str]:
    """Digests of those files that were last written before `at` (seconds since the epoch): what was loaded after it is this."""
    found = {}
    for path in paths:
        try:
            if Path(path).stat().st_mtime < at:
                found[path] = _digest(path)
        except OSError:
            continue
    return found
