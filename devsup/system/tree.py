"""A worker's whole tree of processes, and its end: nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import sys

import anyio

from devsup.system import keeper

GRACE = 0.5  # seconds that leftovers have to end by themselves
PATIENCE = 1.0  # seconds that leftovers have between TERM and KILL


class Tree:
    """The processes of one worker, whose main process leads the group and carries the token."""

    def __init__(self, group: int, token: str) -> None:
        self._group = group
        self._token = f"{token}\0"  # exactly this one: entries of an environment end with a NUL
        self._known: dict[int, str] = {}
        self._since = keeper.start_of(group)

    def members(self) -> dict[int, str]:
        """Pid and start time of all that run, of those that were seen earlier too: their parents may be gone by now."""
        self._known = {**keeper.running(self._known, [self._group]), **keeper.members(self._token, [self._group], self._since)}
        return self._known

    def signal_group(self, number: int) -> bool:
        """Signal the process group; False when none of it is there."""
        try:
            os.killpg(self._group, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def kill(self) -> None:
        """End all of it at once."""
        keeper.send(signal.SIGKILL, self.members(), [self._group])

    async def until_group_gone(self) -> None:
        """Wait for the end of every process that a signal to the group has reached."""
        while await anyio.to_thread.run_sync(self._group_runs):  # noqa: ASYNC110
            await anyio.sleep(0.02)  # there is no event for the end of a process that is not our child

    async def end(self) -> list[int]:
        """After the main process has gone: TERM, then KILL, for whatever still runs. Returns who had to be ended."""
        if await self._gone(GRACE):  # helpers that end with their parent, such as multiprocessing's
            return []
        left = dict(self._known)
        keeper.send(signal.SIGTERM, left, [self._group])
        if not await self._gone(PATIENCE):
            await anyio.to_thread.run_sync(self.kill)
            await self._gone(PATIENCE)
        return sorted(left)

    async def _gone(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            while await anyio.to_thread.run_sync(self._runs):  # noqa: ASYNC110
                await anyio.sleep(0.02)  # as above
            return True
        return False

    def _runs(self) -> bool:
        return bool(self.members()) or self._group_runs()

    def _group_runs(self) -> bool:
        if sys.platform != "linux":
            return self.signal_group(0)
        return self.signal_group(0) and any(each.group == self._group for each in keeper.processes().values())
