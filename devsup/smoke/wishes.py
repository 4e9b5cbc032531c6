"""What is wanted: the checks that there are for each service, those of the config among them, and which of them; for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from devsup.config.source import guess
from devsup.config.values import BUILT_IN
from devsup.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from devsup.config import Check, Service

# What no service should print. Each begins with the letters themselves, which are found ten times as fast as a choice.
ERRORS = (
    r"Traceback \(most recent call last\):",
    *(rf"{level}(?<![^\s\[|:]{level})(?=[ \t\]|:])" for level in ("ERROR", "CRITICAL", "FATAL")),
    *(rf"\[{level} *\]" for level in ("error", "critical", "fatal")),
    *(rf"level={level}\b" for level in ("error", "critical", "fatal")),
    *(rf'"{key}": ?"(?:error|critical|fatal|ERROR|CRITICAL|FATAL)"' for key in ("level", "levelname", "severity")),
)


class Named(NamedTuple):
    """A check of a service; one that every service has is without a `check`, unless the config has one of that name."""

    service: str
    name: str
    check: Check | None


class Names:
    """Those that are wanted: of these services, and with `only` of these names alone, as NAME or SERVICE.NAME.

    `more` are names that each service has besides. Raises UsageError for a name that there is not.
    """

    def __init__(self, services: Mapping[str, Service], only: Iterable[str], more: Sequence[str] = ()) -> None:
        self._all = [each for name, service in services.items() for each in _of(name, service, more)]
        self._only = set(only)
        known = dict.fromkeys(name for each in self._all for name in (each.name, f"{each.service}.{each.name}"))
        for name in self._only:
            if name not in known:
                plain = ", ".join(dict.fromkeys(each.name for each in self._all))
                raise UsageError(f"--only {name}: there is no such check.", f"{guess(name, known)}The checks are {plain}.")

    def of(self, service: str) -> dict[str, Named]:
        """By name."""
        return {each.name: each for each in self._all if each.service == service and self._is_wanted(each)}

    def has(self, service: str, name: str) -> bool:
        """Whether this one is to be told of."""
        return name in self.of(service)

    def _is_wanted(self, named: Named) -> bool:
        return not self._only or not self._only.isdisjoint({named.name, f"{named.service}.{named.name}"})


class Wishes(NamedTuple):
    """How to check: seconds to stay up, and seconds until all must be ready."""

    names: Names
    hold: float
    timeout: float


def looked_for(service: Service) -> list[tuple[str, str]]:
    """The expressions to look for in what it prints, each after the name of its check."""
    found = [] if "log" in service.checks else [("log", each) for each in ERRORS]
    for name, check in service.checks.items():
        found += [(name, each) for each in (*check.never, *([check.log] if check.log else []))]
    return found


def _of(name: str, service: Service, more: Sequence[str]) -> Iterator[Named]:
    yield from (Named(name, each, service.checks.get(each)) for each in BUILT_IN)
    yield from (Named(name, f"probe-{each}", None) for each in service.probes if each != "ready")
    yield from (Named(name, each, check) for each, check in service.checks.items() if each not in BUILT_IN)
    yield from (Named(name, each, None) for each in more if each not in service.checks)
