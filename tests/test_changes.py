"""What the processes of a worker tell of their imports, and what is made of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import anyio

from devsup.bus import Bus
from devsup.changes import Changes
from devsup.decide.triggers import Rules
from devsup.events import BrokenFile, Event, SyntaxBroken


def changes_of(root: Path, told: list[Event]) -> Changes:
    """Of a project whose files do not compile."""

    async def compiles(paths: list[str]) -> list[BrokenFile]:
        return [BrokenFile(path=path, line=1, problem="broken", source="") for path in paths]

    bus = Bus("app")
    bus.subscribe(lambda _at, _service, event: told.append(event))
    return Changes(Rules(str(root)), bus, lambda _fact: None, compiles, root / "writes")


def test_each_process_of_a_generation_adds_to_what_is_imported(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("common.py", "lazy.py", "other.py")]
    for path in paths:
        path.write_text("")
    common, lazy, other = map(str, paths)

    async def tell() -> list[frozenset[str]]:
        changes, found = changes_of(tmp_path, []), []
        changes.spawned(1, 0.0)
        for generation, process, files in ((1, 10, [common, lazy]), (1, 11, [common, other]), (0, 9, [])):
            await changes.learned(generation, process, files, [])
            found.append(changes.loaded.files)
        changes.spawned(2, 0.0)
        await changes.learned(2, 12, [common], [])
        return [*found, changes.loaded.files]

    assert anyio.run(tell) == [{common, lazy}, {common, lazy, other}, {common, lazy, other}, {common}]


def test_a_file_that_does_not_compile_is_named_once_though_many_processes_import(tmp_path: Path) -> None:
    path, told = tmp_path / "main.py", list[Event]()
    path.write_text("")

    async def tell() -> None:
        changes = changes_of(tmp_path, told)
        changes.spawned(1, 0.0)
        path.write_text("broken(")
        os.utime(path, (time.time() + 1.0,) * 2)  # while it boots
        for process in (10, 11, 12):
            await changes.learned(1, process, [str(path)], [])

    anyio.run(tell)
    assert [type(event) for event in told] == [SyntaxBroken]
