"""Every event goes to everybody who asked for them."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from devsup.events import Event


class Bus:
    """Hands each event to every subscriber, at once and in order; a subscriber never publishes."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._subscribers: list[Callable[[float, str, Event], None]] = []

    def subscribe(self, subscriber: Callable[[float, str, Event], None]) -> None:
        """`subscriber(at, service, event)` is called for each event; `at` is seconds since the epoch."""
        self._subscribers.append(subscriber)

    def publish(self, event: Event) -> None:
        """Tell everyone."""
        at = time.time()
        for subscriber in self._subscribers:
            with suppress(Exception):  # a line that cannot be shown or written must not end the service
                subscriber(at, self.service, event)
