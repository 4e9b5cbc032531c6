"""From saved files to facts: which saves matter, whether their content is new, and whether it compiles.

`baseline` holds the content that the worker has (or will have) loaded: everything known when it was spawned. What differs from
it is `dirty`; when nothing is dirty any more, the user has undone the change and a reload would bring nothing.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from devsup import events
from devsup.decide.triggers import Loaded, Rules, Verdict, adopted, fixed, judge
from devsup.decide.vocabulary import Changed, Unchanged
from devsup.own_writes import OwnWrites
from devsup.system import watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from anyio.abc import TaskGroup

    from devsup.bus import Bus

    Compile = Callable[[list[str]], Awaitable[list[events.BrokenFile]]]

_MOST_NAMED = 3  # lines for one batch


class Changes:
    """The watch of one service. `put` takes the facts; `compile` asks the worker's own interpreter."""

    def __init__(
        self, rules: Rules, bus: Bus, put: Callable[[Changed | Unchanged], None], compile_: Compile, notes: Path
    ) -> None:
        rules = replace(rules, exact=frozenset().union(*map(watch.trail, rules.exact)))
        self.rules = self._own_rules = rules
        self.loaded = Loaded()
        self.dirty: set[str] = set()
        self._bus, self._put, self._compile = bus, put, compile_
        self._watcher = watch.Watcher(rules.root, lambda: lambda path: self._judge()(path) != "ignore", self._tell)
        self._baseline: dict[str, str] = watch.digests(rules.exact)
        self._seen: dict[str, str] = {}
        self._named: set[str] = set()
        self._spawned_at = 0.0
        self._generation = 0
        self._told: dict[int, Loaded] = {}  # by process of the current generation
        self._own = OwnWrites(notes)
        self._suspended: set[str] = set()
        self._held: set[str] = set()  # what waits for the end of the start
        self._paused = anyio.CancelScope()
        self._tasks: TaskGroup | None = None
        self.marks: dict[str, float] = {}  # monotonic: the last save's way through here
        self._lock = anyio.Lock()  # one look at a time: each is compared with the one before

    async def run(self) -> None:
        """Watch until cancelled."""
        self._watcher.include(self.rules.exact)
        self._open()
        async with anyio.create_task_group() as self._tasks:
            await self._watcher.run(self._consider)

    def _tell(self, text: str) -> None:
        self._bus.publish(events.Trouble(text=text))

    def _open(self) -> None:
        folders = {*self.rules.only, *(fixed(glob, self.rules.root) for glob in self.rules.watch)} - {""}
        self._watcher.open(folders)

    def spawned(self, generation: int, passed: float) -> None:
        """A worker was started, so many seconds ago: it loads what is on disk."""
        self._generation = generation
        self._told.clear()
        self._baseline.update(self._seen)
        self._seen.clear()
        self.dirty.clear()
        self.marks = {}
        self._spawned_at = time.time() - passed
        self._own.spawned(generation, time.monotonic() - passed)
        self._held = set()
        self._paused.cancel()

    def environment(self) -> dict[str, str]:
        """What a worker that starts now gets besides its own."""
        return self._own.environment()

    def ready(self) -> None:
        """The worker serves."""
        self._own.started()
        self._reload_for(self._held)

    def foreign(self) -> None:
        """The worker has no agent: only globs and env files reload it."""
        self.loaded = Loaded(running=True)
        if self.dirty:
            self.dirty = self._that_matter(self.dirty)
            if not self.dirty:
                self._put(Unchanged())

    def failed(self) -> None:
        """No worker runs: any watched file may be the one that mends it."""
        self.loaded = replace(self.loaded, running=False)
        self._own.started()
        self._reload_for(self._held)

    def follow(self, dirs: list[str], includes: list[str], excludes: list[str]) -> None:
        """Keep the rules of the app's own reloader; its names are relative to the folder that the command runs in."""
        root = Path(self.rules.root)
        folders = tuple(os.path.realpath(root / folder) for folder in dirs)
        globs = tuple(f"{root / glob}/" if (root / glob).is_dir() else glob for glob in includes)
        self.rules = adopted(self._own_rules, folders, globs, tuple(excludes))
        self._open()

    async def learned(self, generation: int, process: int, paths: Iterable[str], folders: Iterable[str]) -> None:
        """A process of the worker has imported these files, and packages in these folders (all so far)."""
        files = frozenset().union(*map(watch.trail, paths))
        packages = frozenset(os.path.realpath(folder) for folder in folders)
        async with self._lock:
            if generation != self._generation:
                return
            first = not self._told
            self._told[process] = Loaded(files, packages)
            files = frozenset().union(*(each.files for each in self._told.values()))
            packages = frozenset().union(*(each.packages for each in self._told.values()))
            new = files - self._baseline.keys()
            self.loaded = Loaded(files, packages, running=True)
            self._watcher.include(files)
            known = await anyio.to_thread.run_sync(watch.older_than, new, self._spawned_at)
            self._baseline.update(known)
            # Saved while the worker booted: what it has loaded of them nobody knows.
            unsure = files if first else new  # of the others the watch tells
            inside = {path for path in unsure if path.startswith(self.rules.root + os.sep)}
            found = await anyio.to_thread.run_sync(watch.newer_of, inside - known.keys(), self._spawned_at)
            late = {path for path, digest in found.items() if self._is_news(path, digest)}
            self._seen.update(found)
            self._own.saw(late)
            # What was saved before anybody knew what matters is looked at again.
            before, self.dirty = self.dirty, self._that_matter(self.dirty | late)
            if before and not self.dirty:
                self._put(Unchanged())
            if self.dirty and (first or late or self.dirty - before):  # only now is there surely somebody who can compile it
                await self._announce(self.dirty)

    async def _consider(self, batch: set[str]) -> None:
        async with self._lock:
            await self._consider_batch(batch)

    def _judge(self) -> Callable[[str], Verdict]:
        rules, loaded, is_ignored = self.rules, self.loaded, self._watcher.look()
        return lambda path: judge(path, rules, loaded, is_ignored)

    def _that_matter(self, paths: set[str]) -> set[str]:
        verdict = self._judge()
        return {path for path in paths if verdict(path) == "reload"}

    async def _consider_batch(self, batch: set[str]) -> None:
        everything = not batch
        if everything:  # the watch begins, or has lost events: look at all that is known, and at what is new on disk
            batch = self._baseline.keys() | await anyio.to_thread.run_sync(
                watch.newer_than, self._watcher.folders, self._spawned_at
            )
        before = set(self.dirty) if self.loaded.running else set()
        settled = time.monotonic()
        named, found = await anyio.to_thread.run_sync(self._look, batch, before)
        while everything and self._watcher.is_busy() and time.monotonic() - settled < watch.LONGEST_GIT:
            await anyio.sleep(watch.SETTLE)  # a checkout that began meanwhile is seen as a whole
            named, found = await anyio.to_thread.run_sync(self._look, batch, before)
        moved = {path for path in found if self._is_news(path, found[path])}
        self._own.saw(moved)
        self._mark(moved, settled)
        if not self.loaded.running:
            self._seen.update(found)
            self.dirty |= moved
            self._reload_for(moved)
            return
        self._name(named)
        self.dirty = {path for path in found if self._differs(path, found[path])}
        self._seen.update(found)
        if moved & self.dirty:
            await self._announce(moved & self.dirty)
        elif before and not self.dirty:
            self._put(Unchanged())

    def _mark(self, moved: set[str], settled: float) -> None:
        saved = watch.written_last(moved)
        if saved is not None:
            seen = self._watcher.seen
            self.marks = {"saved": min(seen, time.monotonic() - (time.time() - saved)), "seen": seen, "settled": settled}

    def _look(self, batch: set[str], before: set[str]) -> tuple[list[str], dict[str, str]]:
        """Which of the batch are to be named, and the contents of those that may reload."""
        verdict = self._judge()
        verdicts = {path: verdict(path) for path in batch}
        candidates = {path for path in batch if verdicts[path] == "reload"}
        return sorted(path for path in batch if verdicts[path] == "name"), watch.digests(candidates | before)

    def _is_news(self, path: str, digest: str) -> bool:
        return self._seen.get(path, self._baseline.get(path)) != digest

    def _differs(self, path: str, digest: str) -> bool:
        if digest == watch.GONE and path not in self._baseline and path not in self.loaded.files:
            return False  # came and went
        return self._baseline.get(path) != digest

    async def _announce(self, moved: set[str]) -> None:
        broken = await self._compile(
            [path for path in sorted(self.dirty) if path.endswith(".py") and self._seen.get(path) != watch.GONE]
        )
        self.marks["compiled"] = time.monotonic()
        if broken:
            self._held = set()
            self._paused.cancel()
            self._bus.publish(events.SyntaxBroken(files=broken, serving=True))
            self._put(Unchanged("a changed file does not compile"))
        else:  # meanwhile another worker may have loaded them
            self._reload_for(moved & self.dirty)

    def _reload_for(self, moved: set[str]) -> None:
        """At once, unless it looks as if the worker itself brought it about."""
        if not moved:
            return
        pause = self._own.pause(moved)
        self._held = moved if pause == math.inf else set()
        if pause is None:
            self._suspend(moved)
        elif not pause or self._tasks is None:
            self._put(Changed())
        elif pause < math.inf:
            self._paused.cancel()
            self._paused = anyio.CancelScope()
            self._tasks.start_soon(self._reload_after, pause, self._paused)

    async def _reload_after(self, seconds: float, scope: anyio.CancelScope) -> None:
        with scope:
            await anyio.sleep(seconds)
            if self.dirty:
                self._put(Changed())

    def _suspend(self, paths: set[str]) -> None:
        new = sorted(paths - self._suspended)
        if new:
            self._suspended.update(new)
            self._bus.publish(events.ReloadSuspended(files=new))

    def _name(self, paths: list[str]) -> None:
        new = [path for path in paths if path not in self._named and os.path.exists(path)]  # noqa: PTH110 - once per file
        self._named.update(new)
        shown = new if len(new) <= _MOST_NAMED else new[:1]
        for path in shown:
            more = len(new) - len(shown)
            self._bus.publish(events.ChangeIgnored(path=path, reason="the app has not imported it", more=more))
