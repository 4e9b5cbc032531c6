"""Crashes and hangs as lines for people: the cause, the code, how it came there, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devsup import events
from devsup.show.frames import folded, summary
from devsup.show.text import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devsup.events import Event

_MOST = 5  # threads of a worker that does not end, and requests
_THEN = {
    "warn": "",
    "restart": ": it is started anew",
    "stop": ": it is stopped",
    "debugged": "; it is left alone while somebody debugs it",
    "given up": "; started anew three times, that did not help: it is left as it is",
}


class Failures:
    """Renders them in rich's markup; paths are shown from `folder` on, `linked` makes them links (OSC 8)."""

    def __init__(self, folder: Path, *, linked: bool, verbose: bool) -> None:
        self._folder, self._links, self._verbose = folder, linked, verbose
        self._last: list[str] = []  # stacks that were shown with a stall

    def why(self, diagnosis: events.Diagnosis) -> list[str]:
        """The cause, the code around the place, how it came there, and what to do."""
        lines, place = [f"[red]{plain(diagnosis.text)}[/red]"], diagnosis.place
        if place is not None:
            if f"{short(place.file, self._folder)}:{place.line}" not in diagnosis.cause:
                lines.append(f"  {self._linked_place(place)}")
            width = len(str(diagnosis.code[-1][0])) if diagnosis.code else 0
            for number, text in diagnosis.code:
                at = number == place.line
                line = f"  {'>' if at else ' '} {number:>{width}}  {plain(text)}"
                lines.append(f"[bold]{line}[/bold]" if at else f"[dim]{line}[/dim]")
        if len(diagnosis.frames) > 1:
            lines += self._frames(diagnosis.frames)
        if self._verbose:
            lines += [f"[dim]  {plain(each)}[/dim]" for each in diagnosis.evidence]
        return lines + ([plain(diagnosis.remedy)] if diagnosis.remedy else [])

    def _frames(self, frames: Sequence[events.Place]) -> list[str]:
        lines = []
        for own, group in folded(frames):
            text = f"{self._linked_place(group[0])} {plain(group[0].function)}" if own else f"[dim]{plain(summary(group))}[/dim]"
            lines.append(f"  [dim]·[/dim] {text}")
        return lines

    def _linked_place(self, place: events.Place) -> str:
        text = f"{plain(short(place.file, self._folder))}:{place.line}"
        return f"[link={Path(place.file).as_uri()}]{text}[/link]" if self._links and place.file.startswith("/") else text

    def hanging(self, event: Event) -> list[str]:
        match event:
            case events.StillStarting(seconds=seconds, doing=doing, complaints=said):
                lines = [f"[yellow]starting for {seconds:.0f} s[/yellow]{f': {plain(doing)}' if doing else ''}"]
                return lines + [f"[dim]  it said: {plain(each)}[/dim]" for each in said]
            case events.StartComplained(complaints=said):
                return [
                    "[yellow]it serves, but its start logged errors[/yellow]:",
                    *(f"[dim]  {plain(each)}[/dim]" for each in said),
                ]
            case events.SlowStart(seconds=seconds, parts=parts):
                shares = ", ".join(f"{took:.0f} s {plain(doing)}" for doing, took in parts)
                return [f"the start took {seconds:.1f} s{f': {shares}' if shares else ''}"]
            case events.LoopBlocked(count=count) if count > 1 and not _is_round(count):
                return []
            case events.LoopBlocked(seconds=seconds, doing=doing, requests=requests, frames=frames, count=count):
                serving = f" ({', '.join(map(plain, requests))})" if requests else ""
                times = f", for the {count}th time" if count > 1 else ""
                lines = [f"[yellow]event loop blocked[/yellow] for {seconds:.1f} s {plain(doing)}{serving}{times}"]
                own = next((each for each in frames if each.own), None)
                return lines + ([f"  {self._linked_place(own)}  {plain(own.source)}"] if own is not None and count == 1 else [])
            case events.LoopFree(seconds=seconds):
                return [f"[dim]the event loop turns again, after {seconds:.1f} s[/dim]"]
            case events.NotStopping(stacks=found):
                busy = [each for each in found if each.doing]
                lines = [f"[dim]  {plain(each.name)}: {plain(each.doing)}[/dim]" for each in busy[:_MOST]]
                return ["[red]it does not end[/red]: killed; where it was:", *lines]
            case _:
                return self._working(event)

    def _working(self, event: Event) -> list[str]:
        """What probes have found, and who waits for whom."""
        match event:
            case events.ServiceStalled(reason=reason, action=action, active=active, stacks=found):
                lines = [f"[red]stalled[/red]: {plain(reason)}{_THEN[action]}"]
                lines += [f"  in hand: {', '.join(map(work, active[:_MOST]))}"] if active else []
                return lines + self._own_stacks(found)
            case events.Probed(verdict="failing", reason=reason, probe=probe) if probe != "ready":
                return [f"[yellow]degraded[/yellow]: {plain(reason)}"]
            case events.Probed(verdict="well", probe="ready"):
                return ["[green]ready[/green]"]
            case events.Probed(verdict="well", probe=probe):
                return [f"[green]works again[/green] [dim](probe {plain(probe)})[/dim]"]
            case events.DependencyAwaited(on=on, reason=reason, seconds=seconds, overdue=overdue) if seconds >= 1 or overdue:
                colour = "red" if overdue else "yellow"
                return [f"[{colour}]waits for {plain(on)}[/{colour}], which {plain(reason)} [dim]({seconds:.0f} s)[/dim]"]
            case _:
                return []

    def _own_stacks(self, found: Sequence[events.Stack]) -> list[str]:
        """Where the user's own code stands, if that is elsewhere than it was the last time."""
        lines = [f"  {line}" for line in self.stacks([each for each in found if any(frame.own for frame in each.frames)])]
        before, self._last = self._last, lines
        return lines if lines != before else []

    def stacks(self, found: Sequence[events.Stack]) -> list[str]:
        """The user's own frames of each thread and task, those of libraries folded."""
        lines = []
        for each in found:
            lines.append(f"[bold]{plain(each.name)}[/bold] (pid {each.pid}) {plain(each.doing)}".rstrip())
            lines += self._frames(list(reversed(each.frames)))
        return lines or ["nothing of the user's own code can be seen to run"]

    def unhandled(self, event: events.Unhandled) -> list[str]:
        own = next((each for each in reversed(event.frames) if each.own), None)
        place = f" ({self._linked_place(own)})" if own is not None else ""
        times = f" [dim]({event.count} times)[/dim]" if event.count > 1 else ""
        age = f" after {event.age:.2f} s" if event.age is not None else ""
        what = "thread " if event.where == "thread" else ""
        return [f"[red]{what}{plain(event.name)} failed[/red]{age}: {plain(event.cause)}{place} [dim]#{event.id}[/dim]{times}"]


def _is_round(count: int) -> bool:
    """1, 10, 100 …: what repeats is said ever more rarely."""
    return set(str(count)[1:]) <= {"0"} and str(count)[0] == "1"


def work(each: events.Active) -> str:
    if not each.origin:
        return f"{plain(each.name)} {each.age:.1f} s"
    times = f"{each.count} × " if each.count > 1 else ""
    return f"{times}{plain(each.name)}, from {plain(each.origin)}, {each.age:.1f} s"


def plain(text: str) -> str:
    """Text that is nobody's markup, and holds no control characters of somebody's file name."""
    from rich.markup import escape  # noqa: PLC0415 - loaded with the first line anyway

    return escape("".join(char if char.isprintable() else "?" for char in text))
