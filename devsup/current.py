"""What the supervisor knows of one worker."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from devsup.system.memory import oom_kills

if TYPE_CHECKING:
    from devsup import events
    from devsup.events import Exit
    from devsup.system.blackbox import BlackBox
    from devsup.system.listener import Address
    from devsup.system.worker import WorkerHandle

_SENT = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM})
_SETTLED = 1.0  # seconds


@dataclass
class Current:
    """One worker, from its spawn on."""

    generation: int
    spawned: float  # monotonic
    box: BlackBox
    handle: WorkerHandle | None = None
    ready: float | None = None  # monotonic
    server: str = ""  # that it serves by, as far as is known
    listened: bool = False
    refused: events.Refused | None = None
    intended: tuple[str, int] | None = None
    started: anyio.Event = field(default_factory=anyio.Event)  # there is a handle
    serves: anyio.Event = field(default_factory=anyio.Event)  # it is ready
    loaded: bool = False  # the server has loaded the app
    oom_kills: tuple[int, int] = (0, 0)  # of the kernel, when it was spawned
    told: events.WorkerReady | None = None  # once it serves
    announced: bool = False
    forked: bool = False
    changed: frozenset[str] = frozenset()  # files that it is to load anew
    private: set[Address] = field(default_factory=set)  # that it listens on at any free port
    places: dict[Address, str] = field(default_factory=dict)  # which code bound those

    def was_killed(self, ended: Exit, now: float) -> bool:
        """Whether somebody has ended it, a person or a tool: that says nothing of its code, but right after it began to serve."""
        settled = self.ready is None or now - self.ready > _SETTLED
        return settled and ended.signal in _SENT and oom_kills() == self.oom_kills

    @property
    def phase(self) -> str:
        """How far it has come, in words."""
        if self.ready is not None:
            return "while it served"
        if self.loaded:
            return "while its server started up"
        if self.listened:
            return "after it had begun to listen"
        return "while it started"
