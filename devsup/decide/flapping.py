"""When a service that keeps dying is left alone: by rate, because rate is the only sign that needs no knowledge of the cause."""

from __future__ import annotations

WINDOW = 60.0  # seconds
TOO_MANY = 3
_FIRST_DELAY = 0.25  # seconds


def add(crashes: tuple[float, ...], at: float) -> tuple[float, ...]:
    """The crashes of the last minute, with this one; monotonic times."""
    return (*(crash for crash in crashes if at - crash < WINDOW), at)


def is_loop(crashes: tuple[float, ...]) -> bool:
    """Whether to stop trying."""
    return len(crashes) >= TOO_MANY


def back_off(crashes: int) -> float:
    """Seconds to wait after the n-th crash."""
    return float(_FIRST_DELAY * 4 ** (crashes - 1))
