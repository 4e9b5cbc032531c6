"""File changes: which folders are watched, when a save has settled, and what a file's content is."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from devsup.system import gitignore, polling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from devsup.system.gitignore import Gitignore
    from devsup.system.inotify import Inotify

    OnBatch = Callable[[set[str]], Awaitable[None]]

SETTLE = 0.008  # seconds without a further change, before saves count as one
_LONGEST = 0.4  # seconds that a stream of changes may put a save off
LONGEST_GIT = 2.0  # seconds that git may pause
_INTERVAL = 1.0  # seconds between looks, where nothing tells of changes
_MOST_FOLDERS = 4000
_MOST_LINKS = 40
_SKIP = frozenset({"node_modules", "__pycache__", "site-packages"})
GONE = "gone"


class Watcher:
    """Watches folders, each without what is below it, so that a virtual environment beside the code costs nothing.

    What git ignores, hidden folders and installed packages are left out, unless they are named by `include` or `open`.
    `matters` makes a function that says which files to look at where nothing tells of changes; `tell` takes a sentence.
    """

    def __init__(self, root: str, matters: Callable[[], Callable[[str], bool]], tell: Callable[[str], None]) -> None:
        self._root, self.matters, self.tell = root, matters, tell
        self._wanted: set[str] = set()
        self._opened: frozenset[str] = frozenset()
        self._git: Gitignore | None = None
        self._more = anyio.Event()
        self.seen = 0.0  # monotonic: when the first change of the last batch was told of

    def include(self, paths: Iterable[str]) -> None:
        """Also watch the folders of these files."""
        self._want({str(Path(path).parent) for path in paths})

    def _want(self, folders: set[str]) -> None:
        self._wanted |= folders
        more, self._more = self._more, anyio.Event()
        more.set()

    def open(self, folders: Iterable[str]) -> None:
        """Also watch these and all that is below them, ignored or not; a file among them stands for its folder."""
        self._opened |= frozenset(folders)
        self.include(path for path in self._opened if not Path(path).is_dir())
        self._want(self._below(self._opened))

    async def run(self, on_batch: OnBatch) -> None:
        """Hand sets of absolute paths that have changed to `on_batch`, until cancelled; an empty set when anything may have."""
        self._git = await anyio.to_thread.run_sync(gitignore.Gitignore, self._root)
        self.include(self._git.exclude)
        await self.walk()
        source, failure = _by_inotify if sys.platform == "linux" else _by_watchfiles, None
        async with anyio.create_task_group() as tasks:
            distant = await anyio.to_thread.run_sync(_remote, self.folders)
            if distant:
                folder, kind = min(distant.items())
                self.tell(f"{folder} is on {kind}, which does not tell of every change: its files are looked at every second.")
                tasks.start_soon(_by_polling, self, on_batch, lambda: list(_remote(self.folders)))
            try:
                await source(self, on_batch)
            except* OSError as group:
                failure = group.exceptions[0]
            self.tell(_limit(failure))
            await _by_polling(self, on_batch, lambda: self.folders)

    async def walk(self) -> bool:
        """Look for all folders that are to be watched: whether there are more than were known."""
        found = await anyio.to_thread.run_sync(self._below, [self._root, *self._opened])
        more = not found <= self._wanted
        self._want(found)
        return more

    def look(self) -> Callable[[str], bool]:
        """What git ignores now, as a function of a path."""
        return self._git.look() if self._git is not None else lambda _: False

    def is_busy(self) -> bool:
        """Whether git is changing files."""
        return self._git is not None and self._git.is_busy()

    async def grew(self, folders: set[str], files: set[str]) -> set[str]:
        """There are new folders, and these files have changed: returns all folders in the new ones that are to be watched."""
        if self._git is not None and any(path.endswith("/.gitignore") or path in self._git.exclude for path in files):
            await self.walk()
        below = await anyio.to_thread.run_sync(self._below, folders) if folders else set[str]()
        if below:
            self._want(below)
        return below

    async def wait_for_more(self) -> None:
        """Until there is more to watch, or to know of it."""
        await self._more.wait()

    @property
    def folders(self) -> list[str]:
        """All that are to be watched."""
        return sorted(folder for folder in self._wanted if Path(folder).is_dir())

    def _below(self, roots: Iterable[str]) -> set[str]:
        found, is_ignored = set[str](), self.look()
        for root in roots:
            if root != self._root and self._is_skipped(*os.path.split(root), is_ignored):
                continue
            for folder, below, _ in os.walk(root):
                found.add(folder)
                below[:] = [name for name in below if not self._is_skipped(folder, name, is_ignored)]
                if len(found) >= _MOST_FOLDERS:
                    break
        return found

    def _is_skipped(self, parent: str, name: str, is_ignored: Callable[[str], bool]) -> bool:
        folder = os.path.join(parent, name)  # noqa: PTH118 - hot
        if any(opened == folder or opened.startswith(folder + os.sep) for opened in self._opened):
            return False
        if name.startswith(".") or name in _SKIP or Path(folder, "pyvenv.cfg").exists():
            return True
        return is_ignored(folder + "/") and not any(folder.startswith(opened + os.sep) for opened in self._opened)


def _remote(folders: list[str]) -> dict[str, str]:
    mounts = Path("/proc/self/mountinfo")
    return polling.remote(folders, mounts.read_text(errors="replace")) if mounts.exists() else {}


def _limit(failure: Exception | None) -> str:
    number = getattr(failure, "errno", None)
    name = {errno.ENOSPC: "max_user_watches", errno.EMFILE: "max_user_instances"}.get(number or 0)
    if name is None:
        return f"The system tells of no changes ({failure}): files are looked at every second instead."
    enough = 524288 if name == "max_user_watches" else 1024
    return (
        f"No more files can be watched (fs.inotify.{name} is reached): they are looked at every second instead. "
        f'Raise it with "sudo sysctl fs.inotify.{name}={enough}".'
    )


async def _by_polling(watcher: Watcher, on_batch: OnBatch, folders: Callable[[], list[str]]) -> None:
    poll, known = polling.Poll(watcher.matters), set[str]()

    async def follow() -> None:
        while True:
            poll.forget()
            await watcher.wait_for_more()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await anyio.to_thread.run_sync(lambda: poll.look(folders()))
        await on_batch(set())
        while True:
            began = time.monotonic()
            files, below = await anyio.to_thread.run_sync(lambda: poll.look(folders()))
            took = time.monotonic() - began
            await watcher.grew(below - known, files)
            known = below
            if files:
                watcher.seen = time.monotonic()
                await on_batch(files)
            await anyio.sleep(max(_INTERVAL, took * 20))  # where looking is slow, it is done less often


async def _by_inotify(watcher: Watcher, on_batch: OnBatch) -> None:
    from devsup.system.inotify import Inotify  # noqa: PLC0415 - Linux only

    with Inotify() as notify:

        async def follow() -> None:
            while True:
                notify.add(set(watcher.folders) - notify.folders)
                await watcher.wait_for_more()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            files, lost = set[str](), True
            while True:
                if lost:
                    await _watch_all(watcher, notify)
                if lost or files:
                    await on_batch(set() if lost else files)
                files, lost = await _settled(watcher, notify)


async def _watch_all(watcher: Watcher, notify: Inotify) -> None:
    """Look until nothing is new: of a folder that came before the one around it was watched nothing has told.

    A checkout that goes on meanwhile is waited for, so that one look sees all of it.
    """
    notify.add(watcher.folders)
    while await watcher.walk() or watcher.is_busy():
        notify.add(watcher.folders)
        with anyio.move_on_after(SETTLE):
            await notify.changes()


async def _settled(watcher: Watcher, notify: Inotify) -> tuple[set[str], bool]:
    """The next changes, with all that follow closely: (files, whether some were lost)."""
    new, folders, lost = await notify.changes()
    files, done, checkout = new, False, False
    watcher.seen = began = latest = time.monotonic()
    while True:
        below = await watcher.grew(folders, new)
        notify.add(below)  # before a look at what is in them: nothing falls between
        files |= {path for folder in below for path in _files_in(folder)}
        if new or folders:
            latest = time.monotonic()  # the look itself may have taken long
        # A checkout pauses now and then: git's lock tells when it is done, so that one reload brings all of it.
        busy = time.monotonic() - latest < LONGEST_GIT and watcher.is_busy()
        checkout = checkout or busy
        if done and not busy:
            return files, lost
        new, folders = set(), set()
        with anyio.move_on_after(SETTLE) as quiet:
            new, folders, lost_more = await notify.changes()
            files, lost, latest = files | new, lost or lost_more, time.monotonic()
        done = quiet.cancelled_caught or (latest - began > _LONGEST and not checkout)


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
                watcher.seen, paths = time.monotonic(), {path for _, path in batch}
                below = await watcher.grew({path for path in paths if Path(path).is_dir()}, paths)
                await on_batch(paths | {path for folder in below for path in _files_in(folder)})
            tasks.cancel_scope.cancel()


def _files_in(folder: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(folder) if entry.is_file()]
    except OSError:  # gone again
        return []


def trail(path: str) -> set[str]:
    """The file itself, and each link on the way to it: a save of any of them brings other content to `path`."""
    real = os.path.realpath(path)
    found, todo = {real}, path.split("/") if real != path else []
    here, links = "", 0
    while todo and links < _MOST_LINKS:
        step = os.path.normpath(f"{here}/{todo.pop(0)}")
        if Path(step).is_symlink():
            links += 1
            found.add(step)
            target = os.readlink(step)  # noqa: PTH115 - a string, to be split
            here, todo = "" if target.startswith("/") else here, [*target.split("/"), *todo]
        else:
            here = step.rstrip("/")
    return found


def digests(paths: Iterable[str]) -> dict[str, str]:
    """The content of each file, as a digest; 'gone' where there is none. A link's content is where it leads."""
    return {path: _digest(path) for path in paths}


def _digest(path: str) -> str:
    import hashlib  # noqa: PLC0415 - a worker is spawned before it is needed

    file = Path(path)
    try:
        content = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
    except OSError:
        return GONE
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def newer_than(folders: Iterable[str], at: float) -> set[str]:
    """The files in these folders that were last written at or after `at` (seconds since the epoch)."""
    found = set()
    for path in (path for folder in folders for path in _files_in(folder)):
        try:
            if Path(path).lstat().st_mtime >= at:
                found.add(path)
        except OSError:
            continue
    return found


def newer_of(paths: Iterable[str], at: float) -> dict[str, str]:
    """Digests of those files that were last written at or after `at` (seconds since the epoch)."""
    return digests(path for path in paths if (_written(path) or 0.0) >= at)


def older_than(paths: Iterable[str], at: float) -> dict[str, str]:
    """Digests of those files that were last written before `at` (seconds since the epoch): what was loaded after it is this."""
    return digests(path for path in paths if (_written(path) or at) < at)


def written_last(paths: Iterable[str]) -> float | None:
    """When the newest of these files was written, in seconds since the epoch; None where none is there."""
    return max((at for at in map(_written, paths) if at is not None), default=None)


def _written(path: str) -> float | None:
    try:
        return Path(path).lstat().st_mtime
    except OSError:
        return None
