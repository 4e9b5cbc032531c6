"""The gate of a process that begins to accept while its siblings let nothing new in."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

agents: Any = importlib.import_module("devsup_agent.agent")
sockets: Any = importlib.import_module("devsup_agent.sockets")


@pytest.fixture
def agent() -> Iterator[Any]:
    yield agents.Agent()
    sockets.gate.set()


def test_answers_and_commands_move_the_gate_in_the_order_in_which_they_came(agent: Any) -> None:
    agent._obey({"op": "reply", "id": 1, "held": True}, [])
    assert not sockets.gate.is_set()
    agent._obey({"op": "open_gate"}, [])
    assert sockets.gate.is_set()
    agent._obey({"op": "reply", "id": 2, "held": True}, [])
    agent._obey({"op": "reply", "id": 3, "held": False}, [])
    assert sockets.gate.is_set()


def test_an_answer_about_something_else_does_not_move_it(agent: Any) -> None:
    agent._obey({"op": "reply", "id": 1, "held": True}, [])
    agent._obey({"op": "reply", "id": 2, "released": True}, [])
    assert not sockets.gate.is_set()
