"""What the event streams of one route have shown: whether a reload is to wait for their end."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
from msgspec.structs import replace

_LONG = 60.0  # seconds: a stream this old, and twice as old as any that has ended by itself, is no answer


class Seen(msgspec.Struct, frozen=True):
    """`longest`: seconds that the longest took to end by itself; 0: none has. `endless`: one that was cut has come back."""

    longest: int = 0
    endless: bool = False

    @property
    def decision(self) -> Literal["", "work", "endless"]:
        """'endless', 'work', or '' where nothing is known yet."""
        if self.endless:
            return "endless"
        return "work" if self.longest else ""


def ended(seen: Seen, age: float) -> Seen:
    """A stream ended by itself at this age: such streams are answers, whatever was thought before."""
    return Seen(longest=max(seen.longest, math.ceil(age), 1))


def came_back(seen: Seen, age: float) -> Seen:
    """A stream was cut at this age, and its client is back: EventSource does that, also where an answer was cut too early."""
    is_answer = seen.longest and age < max(_LONG, 2 * seen.longest)
    return seen if is_answer else replace(seen, endless=True)
