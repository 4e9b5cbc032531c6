"""Who waits for whom: a team's services start as soon as what they depend on is so far, and end in the reverse order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

Condition = Literal["started", "ready", "completed"]
Blocked = tuple[str, Condition, str]  # the name of who is not so far, what is waited for, and why it is not


class Standing(Protocol):
    """How a service stands, as of status.Status."""

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def is_up(self) -> bool: ...


def is_met(condition: Condition, standing: Standing) -> bool:
    """Whether what depends on it may start."""
    match condition:
        case "started":
            return standing.pid is not None or standing.state == "completed"
        case "ready":
            return standing.is_up
        case "completed":
            return standing.state == "completed"


def unmet(depends_on: Mapping[str, Condition], standings: Mapping[str, Standing]) -> Blocked | None:
    """The first dependency that is not so far; None where all are."""
    for name, condition in depends_on.items():
        if not is_met(condition, standings[name]):
            return name, condition, why(condition, standings[name])
    return None


def why(condition: Condition, standing: Standing) -> str:
    """Why a dependency is not so far, in words."""
    match standing.state:
        case "waiting":
            return standing.reason or "has not begun"
        case "starting" if not standing.reason:
            return "still runs" if condition == "completed" else "is starting"
        case "failed":
            return f"has failed: {standing.reason}"
        case state:
            return f"is {state}: {standing.reason}" if standing.reason else f"is {state}"


def dependents(name: str, depends_on: Mapping[str, Mapping[str, Condition]]) -> set[str]:
    """Those that depend on it directly."""
    return {other for other, needed in depends_on.items() if name in needed}
