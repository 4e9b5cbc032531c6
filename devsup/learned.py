"""What devsup learns about a service's program while it runs, kept in `.devsup/learned.json` for the next run."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from devsup.decide import streams

if TYPE_CHECKING:
    from pathlib import Path

_BACK = 30.0  # seconds after the new worker is ready, in which an EventSource has reconnected
_MOST = 200  # routes, and daemons; where nobody tells what varies in a path, each is one of its own


class Facts(msgspec.Struct, omit_defaults=True):
    """What is known of one service; a new kind of fact is a new field with a default."""

    streams: dict[str, streams.Seen] = {}
    daemons: list[str] = []  # background tasks that outlived their grace: 'module:qualified name'


class Learned:
    """The facts of one service. Without a folder that can be written they last as long as this run."""

    def __init__(self, folder: Path, service: str) -> None:
        self._path, self._service = folder / ".devsup" / "learned.json", service
        self.facts = self._read().get(service, Facts())
        self._cut: dict[str, tuple[int, float]] = {}  # route -> the last generation in which one was cut, and its age

    def decisions(self) -> dict[str, str]:
        """'work' or 'endless' by route."""
        return {route: seen.decision for route, seen in self.facts.streams.items()}

    def stream(self, route: str, what: str, age: float, generation: int, served: float) -> bool:
        """Take in that a stream began, ended by itself, or was cut; whether that changes a decision.

        `age` is the stream's, `served` how long the worker of this generation has been ready; both in seconds.
        """
        before = seen = self.facts.streams.get(route, streams.Seen())
        if what == "cut":
            oldest = max(age, self._cut[route][1]) if self._cut.get(route, (0, 0.0))[0] == generation else age
            self._cut[route] = (generation, oldest)
        elif what == "ended":
            seen = streams.ended(seen, age)
        elif route in self._cut and self._cut[route][0] != generation:
            cut_in, cut_age = self._cut.pop(route)
            if cut_in == generation - 1 and served < _BACK:
                seen = streams.came_back(seen, cut_age)
        if seen != before:
            self.facts.streams.pop(route, None)  # the newest stand last
            self.facts.streams[route] = seen
            self.keep()
        return seen.decision != before.decision

    def daemon(self, target: str) -> bool:
        """Take in that a background task of this name outlived its grace; whether that is news."""
        if target in self.facts.daemons:
            return False
        self.facts.daemons.append(target)
        self.keep()
        return True

    def keep(self) -> None:
        """Write the facts, beside what other runs of devsup in this folder have written meanwhile."""
        beside = self._path.with_name(f"learned.json.{os.getpid()}")
        with suppress(OSError, ValueError):  # a disk that is full, a path that is no text
            others = self._read()
            mine, theirs = self.facts, others.get(self._service, Facts())
            merged = [each for each in theirs.streams.items() if each[0] not in mine.streams] + list(mine.streams.items())
            mine.streams = dict(merged[-_MOST:])
            mine.daemons = [*(each for each in theirs.daemons if each not in mine.daemons), *mine.daemons][-_MOST:]
            data = msgspec.json.encode({**others, self._service: self.facts})
            beside.write_bytes(msgspec.json.format(data, indent=1) + b"\n")
            beside.replace(self._path)

    def _read(self) -> dict[str, Facts]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Facts])
        except (OSError, msgspec.MsgspecError):  # none yet, or of another version
            return {}
