"""The base of all events, and their form on disk."""

from __future__ import annotations

import json
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=lambda name: name):
    """Base of all events. In JSON the class name stands under `event`."""


def to_json(at: float, service: str, event: Event) -> bytes:
    """One line of the event log."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    record = {"at": round(at, 6), "service": service, **fields}
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:  # a file name that is no UTF-8
        return json.dumps(record).encode()
