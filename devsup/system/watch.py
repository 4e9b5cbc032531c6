"""File changes: which folders are watched, when a save has settled, and what a file's content is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from devsup.errors import DevsupError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from devsup.system.inotify import Inotify

    OnBatch = Callable[[set[str]], Awaitable[None]]

SETTLE = 0.008  # seconds without a further change, before saves count as one
_LONGEST = 0.4  # seconds that a stream of changes may put a save off
_MOST_FOLDERS = 4000
_SKIP = frozenset({"node_modules", "__pycache__", "site-packages"})
GONE = "gone"


class Watcher:
    """Watches folders, each without what is below it, so that a virtual environment beside the code costs nothing."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._wanted: set[str] = set()
        self._more = anyio.Event()

    def include(self, paths: Iterable[str]) -> None:
        """Also watch the folders of these files."""
        folders = {str(Path(path).parent) for path in paths} - self._wanted
        if folders:
            self._wanted |= folders
            self._more.set()

    async def run(self, on_batch: OnBatch) -> None:
        """Hand sets of absolute paths that have changed to `on_batch`, until cancelled; an empty set when anything may have."""
        source = _by_inotify if sys.platform == "linux" else _by_watchfiles
        self._wanted |= await anyio.to_thread.run_sync(_folders_below, self._root)
        try:
            await source(self, on_batch)
        except (OSError, ExceptionGroup) as exc:
            found = [exc] if isinstance(exc, OSError) else [each for each in exc.exceptions if isinstance(each, OSError)]
            if not found:
                raise
            problem = f"The files in {self._root} are not watched any more: {found[0]}."
            remedy = 'Raise the limit with "sudo sysctl fs.inotify.max_user_watches=524288", or run with --reload off.'
            raise DevsupError(problem, remedy) from exc

    async def wait_for_more(self) -> None:
        """Until `include` has named new folders."""
        await self._more.wait()
        self._more = anyio.Event()

    @property
    def folders(self) -> list[str]:
        """All that are to be watched."""
        return sorted(folder for folder in self._wanted if Path(folder).is_dir())


async def _by_inotify(watcher: Watcher, on_batch: OnBatch) -> None:
    from devsup.system.inotify import Inotify  # noqa: PLC0415 - Linux only

    with Inotify() as notify:

        async def follow() -> None:
            while True:
                await watcher.wait_for_more()
                notify.add(set(watcher.folders) - notify.folders)

        async with anyio.create_task_group() as tasks:
            notify.add(watcher.folders)
            tasks.start_soon(follow)
            await on_batch(set())
            while True:
                files, lost = await _settled(watcher, notify)
                if lost or files:
                    await on_batch(set() if lost else files)


async def _settled(watcher: Watcher, notify: Inotify) -> tuple[set[str], bool]:
    """The next changes, with all that follow closely: (files, whether some were lost)."""
    files, folders, lost = await notify.changes()
    with anyio.move_on_after(_LONGEST):
        while True:
            for folder in folders:
                if not _is_skipped(*os.path.split(folder)):
                    below = await anyio.to_thread.run_sync(_folders_below, folder)
                    watcher.include(str(Path(each, "_")) for each in below)
                    files |= {path for each in below for path in _files_in(each)}
            with anyio.move_on_after(SETTLE) as quiet:
                more, folders, lost_more = await notify.changes()
                files, lost = files | more, lost or lost_more
            if quiet.cancelled_caught:
                break
    return files, lost


async def _by_watchfiles(watcher: Watcher, on_batch: OnBatch) -> None:
    import watchfiles  # noqa: PLC0415 - not on Linux

    while True:
        stop = anyio.Event()

        async def follow(stop: anyio.Event) -> None:
            await watcher.wait_for_more()
            stop.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, stop)
            await on_batch(set())
            async for batch in watchfiles.awatch(*watcher.folders, watch_filter=None, step=20, stop_event=stop, recursive=False):
                paths = {path for _, path in batch}
                watcher.include(str(Path(path, "_")) for path in paths if Path(path).is_dir())
                await on_batch(paths)
            tasks.cancel_scope.cancel()


def _folders_below(root: str) -> set[str]:
    found = set()
    for folder, below, _ in os.walk(root):
        found.add(folder)
        below[:] = [name for name in below if not _is_skipped(folder, name)]
        if len(found) >= _MOST_FOLDERS:
            break
    return found


def _files_in(folder: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(folder) if entry.is_file()]
    except OSError:  # gone again
        return []


def _is_skipped(folder: str, name: str) -> bool:
    return name.startswith(".") or name in _SKIP or Path(folder, name, "pyvenv.cfg").exists()


def digests(paths: Iterable[str]) -> dict[str, str]:
    """The content of each file, as a digest; 'gone' where there is none."""
    return {path: _digest(path) for path in paths}


def _digest(path: str) -> str:
    import hashlib  # noqa: PLC0415 - a worker is spawned before it is needed

    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return GONE


def newer_than(folders: Iterable[str], at: float) -> set[str]:
    """The files in these folders that were last written at or after `at` (seconds since the epoch)."""
    found = set()
    for path in (path for folder in folders for path in _files_in(folder)):
        try:
            if Path(path).stat().st_mtime >= at:
                found.add(path)
        except OSError:
            continue
    return found


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
