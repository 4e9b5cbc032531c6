"""The event log: one JSON object a line in `.devsup/events.jsonl`, so that what happened can be read afterwards."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from devsup.events import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from devsup.events import Event

_LARGEST = 5 << 20  # bytes, then the log moves to events.jsonl.1


@contextmanager
def event_log(folder: Path) -> Iterator[Callable[[float, str, Event], None] | None]:
    """A subscriber that appends every event to `folder`/.devsup/events.jsonl, until the block ends; None where that cannot be."""
    path = folder / ".devsup" / "events.jsonl"
    try:
        path.parent.mkdir(exist_ok=True)
        (path.parent / ".gitignore").write_text("*\n")
        if path.exists() and path.stat().st_size > _LARGEST:
            path.replace(path.with_suffix(".jsonl.1"))
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    with os.fdopen(fd, "ab", buffering=0) as file:

        def append(at: float, service: str, event: Event) -> None:
            with suppress(OSError):  # a full disk must not stop the service
                file.write(to_json(at, service, event) + b"\n")

        yield append
