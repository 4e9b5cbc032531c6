"""A worker's whole tree of processes, and its end: nothing of it is left behind."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import anyio

from devsup.system.keeper import marked

GRACE = 0.2  # seconds that leftovers have to end by themselves
PATIENCE = 1.0  # seconds that leftovers have between TERM and KILL


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; False when none of it is there."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill(group: int, token: str) -> None:
    """End all of it at once."""
    signal_group(group, signal.SIGKILL)
    for pid in _carrying(token):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


async def end_leftovers(group: int, token: str) -> list[int]:
    """After the main process has gone: TERM, then KILL, for whatever of the worker still runs. Returns who had to be ended."""
    with anyio.move_on_after(GRACE):  # helpers that end with their parent, such as multiprocessing's
        await _until_gone(group, token)
        return []
    left = await anyio.to_thread.run_sync(_carrying, token)
    signal_group(group, signal.SIGTERM)
    for pid in left:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    with anyio.move_on_after(PATIENCE):
        await _until_gone(group, token)
        return left
    kill(group, token)
    with anyio.move_on_after(PATIENCE):
        await _until_gone(group, token)
    return left


async def _until_gone(group: int, token: str) -> None:
    while await anyio.to_thread.run_sync(_is_left, group, token):  # noqa: ASYNC110
        await anyio.sleep(0.02)  # there is no event for the end of a process that is not our child


def _is_left(group: int, token: str) -> bool:
    return signal_group(group, 0) or bool(_carrying(token))


def _carrying(token: str) -> list[int]:
    """Who carries exactly this token: entries of an environment end with a NUL."""
    return marked(f"{token}\0")
