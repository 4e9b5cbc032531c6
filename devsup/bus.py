"""Every event goes to everybody who asked for them."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from devsup.decide import secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devsup.events import Event


_Record = TypeVar("_Record", bound=msgspec.Struct)


class Bus:
    """Hands each event to every subscriber, at once and in order; a subscriber never publishes."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.secrets: tuple[str, ...] = ()  # that no event carries
        self._subscribers: list[Callable[[float, str, Event], None]] = []

    def subscribe(self, subscriber: Callable[[float, str, Event], None]) -> None:
        """`subscriber(at, service, event)` is called for each event; `at` is seconds since the epoch."""
        self._subscribers.append(subscriber)

    @contextmanager
    def heard_by(self, subscriber: Callable[[float, str, Event], None]) -> Iterator[None]:
        """As `subscribe`, until the block ends."""
        self.subscribe(subscriber)
        try:
            yield
        finally:
            self._subscribers.remove(subscriber)

    def publish(self, event: Event) -> None:
        """Tell everyone."""
        at, event = time.time(), self.masked(event)
        for subscriber in [*self._subscribers]:
            with suppress(Exception):  # a line that cannot be shown or written must not end the service
                subscriber(at, self.service, event)

    def hide(self, plain: Any) -> Any:
        """Plain values without the secrets that stand in them."""
        return secrets.masked(plain, self.secrets)

    def masked(self, record: _Record) -> _Record:
        """The record without the secrets that stand in it."""
        plain = msgspec.to_builtins(record)
        hidden = self.hide(plain)
        return record if hidden == plain else msgspec.convert(hidden, type(record))
