"""How much memory the processes of a service hold while it is checked, and what these processes are."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from devsup.decide.growth import Sample
    from devsup.smoke.subject import Subject

_EVERY = 0.2  # seconds between two looks
_NAME = 60  # characters of a command


class Memory:
    """Looks at all services. `samples` are (seconds, bytes of all processes), by service; `names` are commands by pid."""

    def __init__(self, subjects: list[Subject]) -> None:
        self._subjects = subjects
        self.samples: dict[str, list[Sample]] = {each.name: [] for each in subjects}
        self.names: dict[int, str] = {}

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await anyio.sleep(_EVERY)

    async def look(self) -> None:
        """Once."""
        for subject in self._subjects:
            supervisor = subject.member.supervisor
            handle = supervisor.current.handle if supervisor is not None else None
            if handle is not None:
                held = await anyio.to_thread.run_sync(self._held, handle.tree.members)
                self.samples[subject.name].append((time.monotonic(), held))

    def _held(self, members: Callable[[], Iterable[int]]) -> int:
        import psutil  # noqa: PLC0415 - 20 ms, in a thread

        held = 0
        for pid in members():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                held += process.memory_info().rss
                if pid not in self.names:
                    self.names[pid] = " ".join(process.cmdline())[:_NAME]
        return held
