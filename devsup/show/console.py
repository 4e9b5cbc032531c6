"""Events as lines for people: what happened, in one line each, quiet where nobody asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from devsup import events
from devsup.show.failures import Failures, plain, work
from devsup.show.text import as_text, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from devsup.events import Event

Level = Literal["quiet", "normal", "verbose"]
_MOST_FILES = 5  # in one report


class Console:
    """Renders events with rich and hands the text on; `write(text, 1 or 2)` must not block. Of one of a team, it is brief."""

    def __init__(
        self, write: Callable[[str, int], None], *, colour: bool, width: int, level: Level, cwd: Path, member: str = ""
    ) -> None:
        self._write, self._level, self._cwd = write, level, cwd
        self._label, self._is_brief = f"{member} › " if member else "devsup ", bool(member) and level != "verbose"
        self._colour, self._width = colour, width
        self._started: events.ServiceStarted | None = None
        self._first = True
        self._restarted = self._refused = False
        self._failures = Failures(cwd, linked=colour, verbose=level == "verbose")

    def __call__(self, _at: float, _service: str, event: Event) -> None:
        """A subscriber of the bus."""
        for line in self._lines(event):
            self._print(line, 2 if isinstance(event, events.Refused) else 1)

    def _print(self, markup: str, target: int) -> None:
        width = max(self._width, 40)
        self._write(as_text([markup], colour=self._colour, width=width, label=self._label), target)

    # -- one event, its lines -----------------------------------------------------------------------------------------

    def _lines(self, event: Event) -> list[str]:
        if self._level == "quiet" and not isinstance(event, _LOUD):
            return []
        match event:
            case events.ServiceStarted():
                self._started, self._first = event, True
                return []
            case events.WorkerReady():
                return self._ready(event)
            case events.Reloaded():
                return self._reloaded(event)
            case events.ReloadWaiting():
                return self._waiting(event)
            case events.SyntaxBroken():
                return self._broken(event)
            case events.WorkerExited():
                return self._exited(event)
            case events.Diagnosed(diagnosis=diagnosis):
                return self._failures.why(diagnosis)
            case events.WorkerFailed() | events.Refused():
                return self._failed(event)
            case events.WorkLost():
                return [_lost(event)]
            case events.DaemonLearned(name=name, origin=origin):
                return [f"[dim]{plain(name)}, from {plain(origin)}, goes on for long: reloads no longer wait for it[/dim]"]
            case (
                events.StillStarting()
                | events.StartComplained()
                | events.SlowStart()
                | events.LoopBlocked()
                | events.LoopFree()
                | events.NotStopping()
                | events.ServiceStalled()
                | events.Probed()
                | events.DependencyAwaited()
            ):
                return self._failures.hanging(event)
            case events.Stacks(stacks=found):
                return self._failures.stacks(found)
            case events.Unhandled():
                return self._failures.unhandled(event)
            case _:
                return self._simple(event)

    def _ready(self, event: events.WorkerReady) -> list[str]:
        if self._first:
            return self._banner(event)
        again, self._restarted = self._restarted, False
        return [f"[green]serving again[/green], pid {event.pid}, ready in {event.seconds:.2f} s"] if again else []

    def _banner(self, event: events.WorkerReady) -> list[str]:
        self._first = False
        started = self._started
        urls = " ".join(map(_linked, event.urls))
        server = "its own server" if event.server == "foreign" else event.server
        lines = [f"{urls}  {plain(server)}, pid {event.pid}, ready in {event.seconds:.2f} s"]
        if not urls:
            lines = [f"runs, pid {event.pid}, and serves no port"]
        if self._is_brief:
            return lines
        if started is not None:
            python = f"Python {event.python} {plain(short(started.interpreter, self._cwd))} ({plain(started.reason)}) · "
            lines.append(f"[dim]{python if event.python else ''}reload: {started.reload}[/dim]")
        if event.routes:
            routes = "1 route" if len(event.routes) == 1 else f"{len(event.routes)} routes"
            lines.append(f"[dim]{routes}{'' if self._level == 'verbose' else ' (--verbose lists them)'}[/dim]")
        if self._level == "verbose":
            lines += [f"[dim]  {plain(route)}[/dim]" for route in event.routes]
        return lines

    def _reloaded(self, event: events.Reloaded) -> list[str]:
        steps = f"waited {event.waited:.2f} s, stopped in {event.stopped:.2f} s, started in {event.started:.2f} s"
        lines = [f"[green]new code[/green] serves after {event.total:.2f} s ({steps})"]
        if self._level == "verbose":
            timeline = " · ".join(f"{step} {seconds * 1000:.0f}" for step, seconds in event.timeline.items())
            lines.append(f"[dim]  ms after the save: {timeline}[/dim]")
        return lines

    def _waiting(self, event: events.ReloadWaiting) -> list[str]:
        held = "; new connections are held" if event.held else ""
        lines = [f"{_waits_for(event.active)}{held} [dim](r reloads now)[/dim]"]
        settings = sorted({f'"{plain(each.stream)}" = "endless"' for each in event.active if each.stream})
        lines.extend(
            f"[dim]  if nobody waits for its end, put streams = {{ {each} }} into devsup.toml[/dim]" for each in settings
        )
        return lines

    def _broken(self, event: events.SyntaxBroken) -> list[str]:
        lines = []
        for file in event.files[:_MOST_FILES]:
            where = f"{plain(short(file.path, self._cwd))}:{file.line}"
            lines.append(f"[red]{plain(file.problem)}[/red] in {where}; the old code keeps serving")
            if file.source:
                lines.append(f"[dim]  {plain(file.source.strip())}[/dim]")
        if len(event.files) > _MOST_FILES:
            lines.append(f"and {len(event.files) - _MOST_FILES} more files that do not compile")
        return lines

    def _exited(self, event: events.WorkerExited) -> list[str]:
        if event.expected or self._refused or (event.served is None and event.exit.code == 0):
            return [f"[dim]worker {event.generation} (pid {event.pid}) ended[/dim]"] if self._level == "verbose" else []
        served = "" if event.served is None else f" after {event.served:.1f} s of service"
        return [f"[red]worker (pid {event.pid}) ended[/red] with {event.exit.text}{served}"]

    def _failed(self, event: events.WorkerFailed | events.Refused) -> list[str]:
        if isinstance(event, events.Refused):
            self._refused = True
            return [f"[red]{plain(event.problem)}[/red] {plain(event.remedy)}"]
        if event.serving:
            return ["[red]the new code did not start[/red]: the old code keeps serving until a save that does"]
        return ["[red]it did not start[/red]" + ("" if event.final else ": save a file to try again")]

    def _simple(self, event: Event) -> list[str]:
        match event:
            case events.ChangeIgnored(path=path, reason=reason, more=more) if not self._is_brief:  # else another may need it
                also = f" and {more} more" if more else ""
                reason = reason.replace("imported it", "imported them") if more else reason
                return [f"[dim]{plain(short(path, self._cwd))}{also} changed; {plain(reason)}: no reload[/dim]"]
            case events.RestartScheduled(delay=delay, crashes=crashes):
                self._restarted = True
                return [f"starting it again in {delay:.2f} s{f' (crash {crashes} within a minute)' if crashes > 1 else ''}"]
            case events.CrashLoop(crashes=crashes):
                return [f"[red]{crashes} crashes within a minute[/red]: waiting for a save"]
            case events.ForkServerReady() | events.ForkServerOff() | events.ForkDoubted() | events.NeverReady():
                return self._forking(event)
            case events.ReloaderOff(name=name):
                return [f"[dim]{plain(name)}'s own reloader is off; devsup reloads, by its rules[/dim]"]
            case events.ForeignServer(command=command):
                return _foreign(command)
            case events.ListenerClosed(url=url):
                return [f"[dim]{plain(url)} is no longer served: closed[/dim]"]
            case events.Status(phase=phase, pid=pid, active=active):
                names = ", ".join(map(work, active)) or "nothing"
                return [f"{phase}, pid {pid}; active: {names}"]
            case events.Stopping():
                return ["[dim]stopping[/dim]"]
            case events.StopWaiting():
                return [_stop_waiting(event)]
            case events.PlaceholderShown(urls=urls, reason=reason) if reason:
                shown = [url for url in urls if not url.startswith("https:")]  # the certificate is the server's
                return [f"[dim]clients of {' '.join(map(_linked, shown))} get 503 with the reason[/dim]"] if shown else []
            case events.Trouble(text=text):
                return [f"[dim]trouble: {plain(text)}[/dim]"]
            case events.Stopped(left=left) if left:
                return [
                    f"[dim]ended {len(left)} leftover process{'es' if len(left) > 1 else ''}: {', '.join(map(str, left))}[/dim]"
                ]
            case _:
                return self._reloading(event)

    def _forking(self, event: Event) -> list[str]:
        match event:
            case events.ForkServerReady(modules=modules, memory=memory, left=left) if self._level == "verbose":
                lines = [f"fork server: {modules} modules, {memory / 2**20:.0f} MiB"]
                lines += [f"  left out: {plain(name)}, because {plain(reason)}" for name, reason in left]
                return [f"[dim]{line}[/dim]" for line in lines]
            case events.ForkServerOff(reason=reason, shown=shown) if shown or self._level == "verbose":
                return [f"[dim]no fork server: {plain(reason)}; reloads start cold[/dim]"]
            case events.ForkDoubted(how=how):
                return [f"[dim]the forked worker ended with {how}: trying a cold start[/dim]"]
            case events.NeverReady(seconds=seconds):
                return [f"[red]the new code was not ready in {seconds:.0f} s[/red]: it is ended; the old code keeps serving"]
            case _:
                return []

    def _reloading(self, event: Event) -> list[str]:
        match event:
            case events.ReloadStarted(files=files):
                names = ", ".join(plain(short(path, self._cwd)) for path in files[:3]) + (
                    f" and {len(files) - 3} more" if len(files) > 3 else ""
                )
                return [f"{names} changed: reload" if files else "reload"]
            case events.ReloadSuspended(files=files):
                return [_suspended(plain(short(path, self._cwd))) for path in files[:_MOST_FILES]]
            case events.FirstAnswer(seconds=seconds) if self._level == "verbose":
                return [f"[dim]  first answer {seconds * 1000:.0f} ms after the save[/dim]"]
            case events.ReloadCancelled(reason=reason):
                return [f"[dim]reload called off: {plain(reason)}[/dim]"]
            case events.StreamLearned():
                return [_learned(event)] if event.decision == "endless" or self._level == "verbose" else []
            case _:
                return _guarding(event)


_LOUD = (
    events.Refused,
    events.SecondListener,
    events.WorkerExited,
    events.WorkerFailed,
    events.Diagnosed,
    events.LoopBlocked,
    events.ServiceStalled,
    events.NotStopping,
    events.Unhandled,
    events.RestartScheduled,
    events.CrashLoop,
    events.SyntaxBroken,
    events.ReloadSuspended,
    events.WorkLost,
    events.Trouble,
)


def _guarding(event: Event) -> list[str]:
    match event:
        case events.SecondListener(url=url, where=where, pid=pid, holder=holder):
            who = f"pid {pid}" if pid is not None else "somebody else"
            remedy = f" End it: kill {pid}" if pid is not None else ""
            return [f"[red]{plain(_localhost(url))} may reach {who} on {plain(where)}[/red]: {plain(holder)}.{remedy}"]
        case events.SecondListenerGone(url=url, where=where):
            return [f"nobody else listens on {plain(where)} any more: {plain(_localhost(url))} reaches this service alone"]
        case events.LeftoversEnded(pids=pids):
            return [f"a devsup was killed here, and left pid {', '.join(map(str, pids))}: ended"]
        case events.BrowserNotOpened(url=url):
            return [f"[dim]{plain(url)} is open in a browser since the first start: not opened again[/dim]"]
        case _:
            return []


def _localhost(url: str) -> str:
    """As people reach it."""
    address = url.partition("//")[2]
    host, _, port = address.rpartition(":")
    return f"localhost:{port}" if host in {"127.0.0.1", "[::1]"} else address


def _waits_for(active: list[events.Active]) -> str:
    requests = _counted([each for each in active if not each.origin], "active request")
    tasks = _counted([each for each in active if each.origin], "background task")
    what = " and ".join(filter(None, (requests, tasks)))
    more = f" and {len(active) - 5} more" if len(active) > 5 else ""
    return f"[yellow]waiting for {what}[/yellow]: {', '.join(map(work, active[:5]))}{more}"


def _stop_waiting(event: events.StopWaiting) -> str:
    what = _waits_for(event.active) if event.active else "[yellow]waiting for the program to end[/yellow]"
    then = f"in {event.left:.0f} s it is killed" if event.left is not None else "not killed while somebody debugs it"
    return f"{what} [dim]({then}; Ctrl-C again kills it now)[/dim]"


def _counted(active: list[events.Active], what: str) -> str:
    many = sum(each.count for each in active)
    return f"{many} {what}{'s' if many > 1 else ''}" if many else ""


def _lost(event: events.WorkLost) -> str:
    if not event.origin:
        detail = f": {plain(event.detail)}" if event.detail else ""
        return f"[red]lost[/red]: {plain(event.name)} after {event.age:.1f} s{detail}"
    tasks = "1 background task" if event.count == 1 else f"{event.count} background tasks"
    return f"[red]{tasks} lost[/red]: {plain(event.name)}, from {plain(event.origin)}, after {event.age:.1f} s"


def _foreign(command: str) -> list[str]:
    lines = ["[dim]devsup is not inside this server: it watches the port, and clients are refused during a restart[/dim]"]
    return [*lines, f"[dim]  to reload it on saves: [/dim]{plain(command)}"] if command else lines


def _learned(event: events.StreamLearned) -> str:
    route = plain(event.route)
    if event.decision == "work":
        return f"[dim]{route} streams answers that end: reloads wait for it[/dim]"
    undo = f'put streams = {{ "{route}" = "work" }} into devsup.toml'
    return f"[dim]{route} streams without end: reloads no longer wait for it (if they must, {undo})[/dim]"


def _suspended(name: str) -> str:
    why = f"[yellow]{name} changes whenever the app starts[/yellow], which would reload it for ever"
    return f"{why}: no reload for it until another file is saved, or r [dim](--ignore {name} ends this)[/dim]"


def _linked(url: str) -> str:
    """A link, where rich's markup can say it: an IPv6 address has brackets."""
    return f"[bold]{plain(url)}[/bold]" if "[" in url else f"[link={url}][bold]{url}[/bold][/link]"
