"""The control API: HTTP on a Unix socket of the user's own. Nothing of it is imported, or runs, until somebody connects."""

from __future__ import annotations

import os
import socket
from importlib import import_module
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from devsup.team import Team

_BACKLOG = 64


async def serve(path: str, team: Team, *, task_status: TaskStatus[None]) -> None:
    """Answer on the socket at `path` until cancelled."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101 - as in meeting
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        task_status.started()
        await anyio.wait_readable(sock)
        server = await anyio.to_thread.run_sync(import_module, "devsup.control.server")  # 150 ms, not on the loop
        await server.answer(sock, team)
    finally:
        sock.close()
