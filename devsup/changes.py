"""From saved files to facts: which saves matter, whether their content is new, and whether it compiles.

`baseline` holds the content that the worker has (or will have) loaded: everything known when it was spawned. What differs from
it is `dirty`; when nothing is dirty any more, the user has undone the change and a reload would bring nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from devsup import events
from devsup.decide.triggers import Loaded, Rules, judge
from devsup.decide.vocabulary import Changed, Unchanged
from devsup.errors import DevsupError
from devsup.system import watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from devsup.events import Bus

    Compile = Callable[[list[str]], Awaitable[list[events.BrokenFile]]]

_UVICORN_DEFAULTS = (".*", ".py[cod]", ".sw.*", "~*")  # ours cover them


class Changes:
    """The watch of one service. `put` takes the facts; `compile` asks the worker's own interpreter."""

    def __init__(self, rules: Rules, bus: Bus, put: Callable[[Changed | Unchanged], None], compile_: Compile) -> None:
        self.rules = self._own_rules = rules
        self.loaded = Loaded()
        self.dirty: set[str] = set()
        self._bus, self._put, self._compile = bus, put, compile_
        self._watcher = watch.Watcher(rules.root)
        self._baseline: dict[str, str] = watch.digests(rules.exact)
        self._seen: dict[str, str] = {}
        self._named: set[str] = set()
        self._spawned_at = 0.0
        self._lock = anyio.Lock()  # one look at a time: each is compared with the one before

    async def run(self) -> None:
        """Watch until cancelled."""
        self._watcher.include(self.rules.exact)
        try:
            await self._watcher.run(self._consider)
        except DevsupError as exc:  # what runs goes on without it
            self._bus.publish(events.Trouble(text=str(exc)))

    def spawned(self, at: float) -> None:
        """A worker starts now (seconds since the epoch): it will load what is on disk."""
        self._baseline.update(self._seen)
        self._seen.clear()
        self.dirty.clear()
        self._spawned_at = at

    def foreign(self) -> None:
        """The worker has no agent: only globs and env files reload it."""
        self.loaded = Loaded(running=True)
        if self.dirty:
            self.dirty = {path for path in self.dirty if self._matters(path)}
            if not self.dirty:
                self._put(Unchanged())

    def failed(self) -> None:
        """No worker runs: any watched file may be the one that mends it."""
        self.loaded = Loaded()

    def follow(self, dirs: list[str], includes: list[str], excludes: list[str]) -> None:
        """Keep the rules of the app's own reloader: its folders narrow, its includes add, its excludes win."""
        root = os.path.realpath(self.rules.root)
        only = tuple(folder for folder in map(os.path.realpath, dirs) if folder != root)
        self.rules = replace(
            self._own_rules,
            only=only,
            watch=(*self._own_rules.watch, *(glob for glob in includes if glob != "*.py")),
            ignore=(*self._own_rules.ignore, *(glob for glob in excludes if glob not in _UVICORN_DEFAULTS)),
        )

    async def learned(self, paths: Iterable[str], folders: Iterable[str]) -> None:
        """The worker has imported these files, and packages in these folders (all so far)."""
        files = frozenset(os.path.realpath(path) for path in paths)
        packages = frozenset(os.path.realpath(folder) for folder in folders)
        async with self._lock:
            new = files - self._baseline.keys()
            self.loaded = Loaded(files, packages, running=True)
            self._watcher.include(files)
            known = await anyio.to_thread.run_sync(watch.older_than, new, self._spawned_at)
            self._baseline.update(known)
            # Saved while the worker booted: what it has loaded of them nobody knows.
            late = {path for path in new - known.keys() if path.startswith(self.rules.root + os.sep)}
            self._seen.update(await anyio.to_thread.run_sync(watch.digests, late))
            # What was saved before anybody knew what matters is looked at again.
            had, self.dirty = bool(self.dirty), {path for path in self.dirty | late if self._matters(path)}
            if had and not self.dirty:
                self._put(Unchanged())
            if self.dirty:  # only now is there surely somebody who can compile it
                await self._announce()

    async def _consider(self, batch: set[str]) -> None:
        async with self._lock:
            await self._consider_batch(batch)

    def _matters(self, path: str) -> bool:
        return judge(path, self.rules, self.loaded) == "reload"

    async def _consider_batch(self, batch: set[str]) -> None:
        if not batch:  # the watch begins, or has lost events: look at all that is known, and at what is new on disk
            batch = self._baseline.keys() | await anyio.to_thread.run_sync(
                watch.newer_than, self._watcher.folders, self._spawned_at
            )
        batch = {os.path.realpath(path) for path in batch}
        verdicts = {path: judge(path, self.rules, self.loaded) for path in batch}
        candidates = {path for path, verdict in verdicts.items() if verdict == "reload"}
        if not self.loaded.running:
            await self._consider_broken(candidates)
            return
        for path in sorted(path for path, verdict in verdicts.items() if verdict == "name"):
            self._name(path)
        before = set(self.dirty)
        found = await anyio.to_thread.run_sync(watch.digests, candidates | before)
        moved = {path for path in found if self._is_news(path, found[path])}
        self.dirty = {path for path in found if self._differs(path, found[path])}
        self._seen.update(found)
        if self.dirty and (moved & self.dirty):
            await self._announce()
        elif before and not self.dirty:
            self._put(Unchanged())

    async def _consider_broken(self, candidates: set[str]) -> None:
        found = await anyio.to_thread.run_sync(watch.digests, candidates)
        changed = {path for path, digest in found.items() if self._seen.get(path, self._baseline.get(path)) != digest}
        self._seen.update(found)
        if changed:
            self.dirty |= changed
            self._put(Changed())

    def _is_news(self, path: str, digest: str) -> bool:
        return self._seen.get(path, self._baseline.get(path)) != digest

    def _differs(self, path: str, digest: str) -> bool:
        if digest == watch.GONE and path not in self._baseline and path not in self.loaded.files:
            return False  # came and went
        return self._baseline.get(path) != digest

    async def _announce(self) -> None:
        broken = await self._compile(
            [path for path in sorted(self.dirty) if path.endswith(".py") and self._seen.get(path) != watch.GONE]
        )
        if broken:
            self._bus.publish(events.SyntaxBroken(files=broken, serving=True))
            self._put(Unchanged("a changed file does not compile"))
        else:
            self._put(Changed())

    def _name(self, path: str) -> None:
        if path not in self._named and os.path.exists(path):  # noqa: PTH110 - once per file
            self._named.add(path)
            self._bus.publish(events.ChangeIgnored(path=path, reason="the app has not imported it"))
