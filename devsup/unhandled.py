"""Exceptions that nobody caught while the process lives on: of requests and of threads, counted by their signature."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from devsup import events
from devsup.decide.rules.case import as_place, one_line
from devsup.decide.stacks import visible
from devsup.explain import project, raised, sourced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devsup.bus import Bus
    from devsup.current import Current
    from devsup.launch import Plan

_FRAMES = 20


class Unhandled:
    """Tells of them; `id` is unique within this run."""

    def __init__(self, plan: Plan, bus: Bus) -> None:
        self._project, self._bus = project(plan), bus
        self._numbers, self._seen = itertools.count(1), Counter[tuple[str, str, int]]()

    def look(self, current: Current) -> None:
        """Tell of the threads that have died before there was a link."""
        for each in current.box.read().exceptions:
            if each.get("where") == "thread":
                self.tell(current.generation, each)

    def tell(self, generation: int, message: Mapping[str, Any]) -> None:
        """One exception, as the agent describes it."""
        try:
            self._tell(generation, message)
        except Exception as exc:  # noqa: BLE001 - what cannot be told must not end the service
            self._bus.publish(events.Trouble(text=f"an exception of {message.get('name')} cannot be told: {exc!r}"))

    def _tell(self, generation: int, message: Mapping[str, Any]) -> None:
        message = self._bus.hide(dict(message))
        chain = raised(message["chain"])
        if not chain:
            return
        last = chain[-1]
        frames = [as_place(each, own=self._project.is_own(each.file)) for each in visible(last.frames)[-_FRAMES:]]
        at = next((each for each in reversed(frames) if each.own), frames[-1] if frames else None)
        signature = (last.type, at.file if at is not None else "", at.line if at is not None else 0)
        self._seen[signature] += 1
        first = last.message.partition("\n")[0]
        told = events.Unhandled(
            generation=generation,
            id=str(next(self._numbers)),
            where=message["where"],
            name=one_line(message["name"]),
            cause=one_line(f"{last.name}: {first}" if first else last.name),
            frames=sourced(frames),
            age=message.get("age"),
            count=self._seen[signature],
        )
        self._bus.publish(told)
