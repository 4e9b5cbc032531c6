"""When a closed gate may end a WebSocket."""

from __future__ import annotations

import asyncio
import importlib
import time
import types
from typing import Any

websocket: Any = importlib.import_module("devsup_agent.active.websocket")


def test_between_two_messages_that_came_at_once_it_is_not_idle() -> None:
    """The second one waits in the server's queue, where nobody sees it."""

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.receive", "text": "one"}

    async def send(_message: dict[str, Any]) -> None:
        pass

    async def talk() -> None:
        socket = websocket.WebSocket(types.SimpleNamespace(changed=None), "/ws", receive, send)
        await socket.send({"type": "websocket.accept"})
        await socket.receive()
        assert socket.busy(time.monotonic())
        await socket.send({"type": "websocket.send", "text": "ONE"})
        socket.asks()
        now = time.monotonic()
        assert not socket.busy(now)
        assert not socket.may_end(now, grace_over=False)
        assert socket.next_change(now) == websocket.QUIET
        assert socket.may_end(now + websocket.QUIET, grace_over=False)
        assert socket.may_end(now, grace_over=True)

    asyncio.run(talk())
