"""Whether memory that was looked at again and again is stable, or goes on growing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Sample = tuple[float, int]  # seconds, bytes

_PARTS = 4
_LEAST = 32 << 20  # bytes of growth in all: caches fill up, and pools
_STEADILY = 0.1  # of that, in each part


def leak(samples: Sequence[Sample]) -> float | None:
    """Bytes a second, where it has grown by much, in every part of the time, up to the end; None where it is stable."""
    if len(samples) <= _PARTS:
        return None
    began, ended = samples[0], samples[-1]
    grown, passed = ended[1] - began[1], ended[0] - began[0]
    if grown < _LEAST or passed <= 0:
        return None
    bounds = [began[0] + passed * part / _PARTS for part in range(_PARTS + 1)]
    sizes = [_at(samples, bound) for bound in bounds]
    if any(later - earlier < grown * _STEADILY for earlier, later in pairwise(sizes)):
        return None
    return grown / passed


def _at(samples: Sequence[Sample], moment: float) -> int:
    return min(samples, key=lambda sample: abs(sample[0] - moment))[1]
