"""What a devsup has said, in lines for an assertion that fails."""

from __future__ import annotations

import signal
from typing import Any

Event = dict[str, Any]

_LONGEST = 100  # characters of an event's field in a short story


def shown(event: Event, *, short: bool) -> list[str]:
    """The lines of a story that it makes."""
    if event["event"] == "Line":
        return [event["line"]]
    fields = {key: value for key, value in event.items() if key not in {"at", "event", "service"}}
    if short:
        fields = {key: value for key, value in fields.items() if value and isinstance(value, str | int) and key != "tail"}
    text = " ".join(f"{key}={repr(value)[: _LONGEST if short else None]}" for key, value in fields.items())
    more = [*reason(event), *filter(None, [hint(event)])] if short else []
    return [f"devsup {event['service']} {event['event']} {text}".rstrip(), *more]


def reason(event: Event) -> list[str]:
    """Why the program does not serve, if this event tells it."""
    match event:
        case {"event": "Diagnosed", "diagnosis": why}:
            at = why["place"]["line"] if why["place"] else None
            code = [f"  {'>' if number == at else ' '} {number}  {text}" for number, text in why["code"]]
            return [why["cause"] if why["sure"] else f"Probably: {why['cause']}", *code, *filter(None, [why["remedy"]])]
        case {"event": "SyntaxBroken", "files": files}:
            return [f"{each['path']}:{each['line']} does not compile: {each['problem']}" for each in files]
        case {"event": "Refused", "problem": problem, "remedy": remedy}:
            return [f"{problem} {remedy}".rstrip()]
        case {"event": "NeverReady", "seconds": seconds}:
            return [f"It was not ready within {seconds:g} s."]
        case _:
            return []


def hint(event: Event) -> str:
    """How far a start has come, if this event tells it: the best that there is where there is no reason."""
    match event:
        case {"event": "WorkerExited", "exit": how, "expected": False}:
            ended = f"exit code {how['code']}" if how["signal"] is None else signal.Signals(how["signal"]).name
            return f"Its process ended: {ended}."
        case {"event": "StillStarting", "seconds": seconds, "doing": doing}:
            return f"It has been starting for {seconds:.0f} s: {doing or 'where, cannot be told'}."
        case {"event": "Probed", "probe": "ready", "reason": text} if text:
            return f"Its ready probe: {text}."
        case _:
            return ""
