"""What is imported is what any process of the current generation has imported."""

from __future__ import annotations

from pathlib import Path

import anyio

from devsup.changes import Changes
from devsup.decide.triggers import Rules
from devsup.events import BrokenFile, Bus


def test_each_process_adds_to_what_is_imported(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("common.py", "lazy.py", "other.py")]
    for path in paths:
        path.write_text("")
    common, lazy, other = map(str, paths)

    async def compiles(_paths: list[str]) -> list[BrokenFile]:
        return []

    async def told() -> list[frozenset[str]]:
        changes = Changes(Rules(str(tmp_path)), Bus("app"), lambda _fact: None, compiles, tmp_path / "writes")
        found = []
        changes.spawned(1, 0.0)
        for generation, process, files in ((1, 10, [common, lazy]), (1, 11, [common, other]), (0, 9, [])):
            await changes.learned(generation, process, files, [])
            found.append(changes.loaded.files)
        changes.spawned(2, 0.0)
        await changes.learned(2, 12, [common], [])
        return [*found, changes.loaded.files]

    assert anyio.run(told) == [{common, lazy}, {common, lazy, other}, {common, lazy, other}, {common}]
