"""Whether a thread runs, or is kept from it by others."""

from __future__ import annotations

from pathlib import Path

import anyio


async def waited_for_core(pid: int, thread: int, seconds: float) -> bool:
    """Whether a thread has spent most of the next `seconds` in wait for a core; false where the system does not tell."""
    before = _waited(pid, thread)
    await anyio.sleep(seconds)
    after = _waited(pid, thread)
    return before is not None and after is not None and after - before > seconds / 2


def _waited(pid: int, thread: int) -> float | None:
    try:
        return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None
