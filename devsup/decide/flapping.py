"""When a loop is broken: of crashes, and of reloads that the service itself brings about.

Crashes are judged by rate, because rate is the only sign that needs no knowledge of the cause. A rate says nothing about saves:
people save often, and programs that save for them wait for each reload. What an app writes while it starts changes after each
spawn, and each time as long after it. A file that did is suspect, and the agent notes what the next worker writes: that decides.

Only where no agent can know (a foreign program, or one that runs another program as it starts) the reload waits a moment: then
the spawn no longer follows the save, and a person's next save falls outside the start, which clears the file. What follows the
spawn even then is the app's.
"""

from __future__ import annotations

import msgspec

WINDOW = 60.0  # seconds
TOO_MANY = 3
_PATIENT = 5  # as TOO_MANY, where the user has asked for restarts
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 30.0  # seconds
_JITTER = 0.2  # of a delay: what fell together should not rise together


def add(crashes: tuple[float, ...], at: float) -> tuple[float, ...]:
    """The crashes of the last minute, with this one; monotonic times."""
    return (*(crash for crash in crashes if at - crash < WINDOW), at)


def is_loop(crashes: tuple[float, ...], *, patient: bool = False) -> bool:
    """Whether to stop trying."""
    return len(crashes) >= (_PATIENT if patient else TOO_MANY)


def back_off(crashes: int, at: float = 0.0) -> float:
    """Seconds to wait after the n-th crash, at that time; its fraction is as good as chance."""
    delay = min(_LONGEST_DELAY, float(_FIRST_DELAY * 4 ** (crashes - 1)))
    return delay * (1 + _JITTER * (at * 1000 % 1))


START = 1.0  # seconds after it is ready in which a worker still starts
_SUSPECT, _CERTAIN = 2, 6  # generations in a row
_PAUSE = 2.0  # seconds in which a person has time to save again; more with each generation
_SAME = 0.3  # seconds by which the same moment of two starts may differ; and a tenth of the start


class Write(msgspec.Struct, frozen=True):
    """A file that changed `offset` seconds after a generation's spawn, while that started.

    So it has for `rows` generations in a row; in the last `alike` of them, at the same moment.
    """

    generation: int
    offset: float
    rows: int = 1
    alike: int = 1


def add_write(past: Write | None, generation: int, offset: float) -> Write:
    """What is known of a file once it has changed while this generation started."""
    if past is not None and past.generation == generation:
        return past  # the first counts: a reload follows it
    if past is None or past.generation != generation - 1:
        return Write(generation, offset)
    alike = past.alike + 1 if abs(past.offset - offset) <= _SAME + 0.1 * offset else 1
    return Write(generation, offset, past.rows + 1, alike)


def is_suspect(write: Write, generation: int) -> bool:
    """Whether it is worth knowing who wrote, in this generation, which follows the write or saw it."""
    return write.rows >= _SUSPECT and write.generation >= generation - 1


def pause(write: Write, wrote: bool | None) -> float | None:  # noqa: FBT001 - a fact
    """Seconds that a reload waits, once the worker has started; None for ever, because the app would bring about the next.

    `wrote`: whether the worker was seen to write the file; None where that cannot be known.
    """
    if write.rows <= _SUSPECT or wrote is False:
        return 0.0
    if wrote or write.alike >= _CERTAIN:
        return None
    return START + _PAUSE * (write.alike - _SUSPECT) if write.alike > _SUSPECT else 0.0
