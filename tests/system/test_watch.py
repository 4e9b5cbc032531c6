"""No save is missed: neither in folders that come while the watch begins, nor after the kernel has lost events."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from devsup.system import watch

LIMIT = 20.0


async def until_seen(root: Path, act: Callable[[], None], expected: Callable[[], set[str]]) -> None:
    """Watch `root`, `act` once the watch has begun, and wait until all that is `expected` was told of."""
    seen, troubles, began, begun = set[str](), list[str](), time.time(), anyio.Event()
    watcher = watch.Watcher(str(root), lambda: lambda _: True, troubles.append)

    async def on_batch(batch: set[str]) -> None:
        seen.update(batch or watch.newer_than(watcher.folders, began - 1.0))
        begun.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.run, on_batch)
        with anyio.fail_after(LIMIT):
            await begun.wait()
            act()
            while not expected() <= seen:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert troubles == []


def test_folders_that_come_while_the_watch_begins(tmp_path: Path) -> None:
    files: set[str] = set()
    begun, over = threading.Event(), threading.Event()

    def make() -> None:
        while not over.is_set() and len(files) < 1000:
            file = tmp_path / f"outer{len(files)}" / "inner" / "module.py"
            file.parent.mkdir(parents=True)
            file.write_text("")
            files.add(str(file))
            begun.set()

    maker = threading.Thread(target=make)
    maker.start()
    begun.wait(LIMIT)

    def enough() -> None:
        over.set()
        maker.join()

    try:
        anyio.run(until_seen, tmp_path, enough, lambda: files)
    finally:
        enough()


@pytest.mark.skipif(sys.platform != "linux", reason="the queue is inotify's")
def test_folders_that_the_kernel_told_of_in_vain(tmp_path: Path) -> None:
    late = tmp_path / "late" / "module.py"

    def overflow() -> None:
        """More than the kernel keeps, while nobody reads."""
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for number in range(limit // 2 + 1):  # each is created and closed
            (tmp_path / f"{number}.txt").touch()
        late.parent.mkdir()
        late.write_text("")

    anyio.run(until_seen, tmp_path, overflow, lambda: {str(late)})
