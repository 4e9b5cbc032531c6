"""Idle connections between two workers: the old one has let go of them, the new one is not there yet."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devsup.system.link import Link


class Connections:
    """Descriptors of accepted connections of which nobody reads. What a client sends meanwhile waits in the kernel."""

    def __init__(self) -> None:
        self._kept: list[int] = []

    def keep(self, fds: list[int]) -> None:
        """Own these from now on."""
        self._kept += fds

    async def give(self, link: Link) -> None:
        """All of them are that worker's."""
        fds, self._kept = self._kept, []
        await link.send_all("connections", fds)
        for fd in fds:
            os.close(fd)

    def take(self) -> set[socket.socket]:
        """All of them are the caller's."""
        fds, self._kept = self._kept, []
        return {socket.socket(fileno=fd) for fd in fds}

    def close(self) -> None:
        """Nobody will want them."""
        for connection in self.take():
            connection.close()
