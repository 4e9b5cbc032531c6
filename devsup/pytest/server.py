"""`DevServer`: a devsup of one's own, its events and its output, and what it is asked and told."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from devsup.pytest.story import Event, hint, reason, shown

if TYPE_CHECKING:
    from devsup.client import Client

LIMIT = 20.0  # seconds for what is waited for
_PATIENCE, _AT_ONCE = 8.0, 2.0  # seconds after the first Ctrl-C (by default devsup gives a program 5), and the second
_ASKS_AGAIN = 0.02  # seconds between two looks at what is active
_SETTLED, _SETTLES = 0.1, 1.0  # seconds without another line, and the most that these are waited for
_STARTS = {"WorkerReady", "WorkerFailed", "CrashLoop", "Refused", "Stopped"}  # what a start ends in
_ENDS = {"Reloaded", "WorkerFailed", "NeverReady"}  # and a reload
_EVENT = '{"at":'
_UP = {"ready", "degraded", "stalled", "draining"}


class DevServer:
    """A devsup in a process of its own, and all that it and its program say.

    `events` are devsup's own and, with the name "Line", what the program prints: dicts as of `--log-format json`, as they come.
    `tells` is how many lines of its story a failure shows, 0 for all.
    """

    tells = 100

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        *,
        start_new_session: bool = False,
    ) -> None:
        self.name = shlex.join(command)
        self.events: list[Event] = []
        self._errors: list[str] = []
        self._changed = threading.Condition()
        self._heard = 0  # the place in `events` after the last that a wait has brought
        self._seen = 0  # the newest generation of these
        self._is_asked = False  # to end
        self.is_closed = False  # nothing of it is left here but what it has said
        self._client: Client | None = None
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=start_new_session,
        )
        pipes = (self.process.stdout, self.process.stderr)
        self._readers = [threading.Thread(target=self._read, args=[pipe], daemon=True) for pipe in pipes]
        self._reading = len(self._readers)
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: IO[str]) -> None:
        try:
            with pipe:
                for line in pipe:
                    self._take(line, is_text=pipe is self.process.stderr)
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()

    def _take(self, line: str, *, is_text: bool) -> None:
        """On stdout each line is an event; on stderr it may be what the program has printed there, or devsup's last words."""
        with self._changed:
            if is_text:
                self._errors.append(line)
            if line.endswith("\n") and (not is_text or line.startswith(_EVENT)):
                self.events.append(json.loads(line))
            self._changed.notify_all()

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the newest worker that is ready answers, without a slash at the end."""
        urls = self._newest()["urls"]
        if not urls:
            raise AssertionError(f"it serves no address that devsup knows\n{self.story(self.tells)}")
        return str(urls[0]).rstrip("/").replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")

    @property
    def pid(self) -> int:
        """The process of that worker; devsup's own is `process.pid`."""
        return int(self._newest()["pid"])

    @property
    def generation(self) -> int:
        """Its number: 1 at first, one more with each start."""
        return int(self._newest()["generation"])

    def _newest(self) -> Event:
        ready = self.all("WorkerReady")
        if not ready:
            raise AssertionError(f"no worker was ready yet\n{self.story(self.tells)}")
        return ready[-1]

    def lines(self) -> list[str]:
        """What the program has printed."""
        return [each["line"] for each in self.all("Line")]

    def all(self, name: str, /, **fields: Any) -> list[Event]:
        """The events of this name with these fields, so far."""
        return [each for each in list(self.events) if _is(each, name, fields)]

    def mark(self) -> int:
        """Now, for the `since` of a wait."""
        return len(self.events)

    @property
    def stderr(self) -> str:
        """What has come on devsup's own stderr."""
        return "".join(self._errors)

    def story(self, last: int = 0) -> str:
        """All that devsup and the program have said, or the `last` lines of it, for an assertion that fails."""
        events = [line for each in list(self.events) for line in shown(each, short=last > 0)]
        return "\n".join([*events, *self._words()][-last:])

    def _words(self) -> list[str]:
        """Devsup's own, on stderr."""
        return [line.rstrip("\n") for line in list(self._errors) if not line.startswith(_EVENT)]

    # -- waiting for it -----------------------------------------------------------------------------------------------

    def wait_for(self, name: str, /, count: int = 1, limit: float = LIMIT, since: int = 0, **fields: Any) -> Event:
        """The `count`-th event of this name with these fields, when it has come."""
        __tracebackhide__ = True
        return self._first(f"{name} {fields or ''}".rstrip(), lambda each: _is(each, name, fields), limit, count, since)

    def wait_for_log(self, pattern: str, limit: float = LIMIT, since: int = 0) -> str:
        """The first line that the program has printed, or prints, in which this regular expression is found."""
        __tracebackhide__ = True
        found = re.compile(pattern).search
        wanted = self._first(
            f"line with {pattern!r}", lambda each: each["event"] == "Line" and bool(found(each["line"])), limit, since=since
        )
        return str(wanted["line"])

    def ready(self, generation: int = 1, limit: float = LIMIT) -> Event:
        """When the worker of this generation serves."""
        __tracebackhide__ = True
        return self.wait_for("WorkerReady", limit=limit, generation=generation)

    def wait_for_reload(self, limit: float = LIMIT) -> Event:
        """The first `Reloaded` after what was waited for before. Fails at once where the new code does not compile, or start."""
        __tracebackhide__ = True
        return self._new_code(self._seen, self._heard, limit)

    def wait_for_active(self, path: str, limit: float = LIMIT) -> Event:
        """A request of this path, as in `active()`, once there is one."""
        __tracebackhide__ = True
        ends = time.monotonic() + limit
        while True:
            found = self.active()
            for each in found:
                if each["path"] == path:
                    return each
            if time.monotonic() > ends:
                others = ", ".join(f"{each['method']} {each['path']}".strip() for each in found) or "nothing"
                raise AssertionError(f"no request of {path} within {limit:g} s; active is {others}\n{self.story(self.tells)}")
            with self._changed:
                self._changed.wait(_ASKS_AGAIN)

    def settle(self) -> None:
        """Wait until no line comes any more, for a second at most."""
        ends = time.monotonic() + _SETTLES
        with self._changed:
            while self._reading and time.monotonic() < ends and self._changed.wait(_SETTLED):
                pass

    def starts(self, limit: float) -> bool:
        """Whether it serves, and its `ready` probe says so, once that is decided, or the time is over."""
        ends = time.monotonic() + limit
        found = self._look(lambda each: each["event"] in _STARTS, limit)
        return found is not None and found["event"] == "WorkerReady" and not self._unready(ends)

    def _first(self, what: str, wanted: Callable[[Event], bool], limit: float, count: int = 1, since: int = 0) -> Event:
        __tracebackhide__ = True
        found = self._look(wanted, limit, count, since)
        if found is None:
            raise AssertionError(
                f"no {what} {f'within {limit:g} s' if self._reading else 'before devsup ended'}\n{self.story(self.tells)}"
            )
        return found

    def _look(self, wanted: Callable[[Event], bool], limit: float, count: int = 1, since: int = 0) -> Event | None:
        ends = time.monotonic() + limit
        with self._changed:
            while True:
                for event in self.events[since:]:
                    since += 1
                    count -= wanted(event)
                    if not count:
                        return self._told(since, event)
                left = ends - time.monotonic()
                if not self._reading or left <= 0:
                    return None
                self._changed.wait(left)

    def _told(self, place: int, event: Event) -> Event:
        if event["event"] != "Line":
            self._heard = max(self._heard, place)
        if event["event"] in {"WorkerReady", "Reloaded"}:
            self._seen = max(self._seen, event["generation"])
        return event

    def _new_code(self, seen: int, since: int, limit: float) -> Event:
        __tracebackhide__ = True
        ends = time.monotonic() + limit

        def wanted(each: Event) -> bool:
            return each["event"] in {"SyntaxBroken", "CrashLoop"} or (each["event"] in _ENDS and each["generation"] > seen)

        found = self._first("reload", wanted, limit, since=since)
        unready = self._unready_again(found["generation"], ends) if found["event"] == "Reloaded" else ""
        if unready or found["event"] != "Reloaded":
            reasons = [unready] if unready else self._reasons(since)
            raise AssertionError("\n".join(["The new code does not serve.", *reasons, "", self.story(self.tells)]))
        return found

    # -- what it is asked, and told -----------------------------------------------------------------------------------

    def active(self) -> list[Event]:
        """What is active now, the oldest first: kind, method, path, age, `waits_in` (FILE:LINE in FUNCTION), and others."""
        found: list[Event] = self._ask(lambda client: client.get("/v1/requests"))
        return found

    def restart(self, limit: float = LIMIT) -> Event:
        """A new worker at once, whatever is active; its `Reloaded`, when it serves."""
        __tracebackhide__ = True
        return self._renew("restart", limit)

    def reload(self, limit: float = LIMIT) -> Event:
        """New code after the active requests; its `Reloaded`, when it serves."""
        __tracebackhide__ = True
        return self._renew("reload", limit)

    def _renew(self, verb: str, limit: float) -> Event:
        __tracebackhide__ = True
        from devsup.client import path_of

        seen, since = self.generation, self.mark()
        self._ask(lambda client: client.post(path_of(self.events[0]["service"], verb)))
        return self._new_code(seen, since, limit)

    def _ask(self, ask: Callable[[Client], Any]) -> Any:
        from devsup.client import Client
        from devsup.errors import DevsupError
        from devsup.system import owner

        if self._client is None:
            record = next((each for each in owner.running() if each.pid == self.process.pid), None)
            if record is None:
                text = f"devsup (pid {self.process.pid}) cannot be asked: it does not run"
                raise AssertionError(f"{text}\n{self.story(self.tells)}")
            self._client = Client(record.control, record.pid)
        try:
            return ask(self._client)
        except DevsupError as exc:
            raise AssertionError(f"{exc}\n{self.story(self.tells)}") from exc

    def _unready(self, ends: float) -> str:
        """What the `ready` probe of its config still misses at that time; "" where it is well, or there is none."""
        if all(each["config"] is None for each in self.all("ServiceStarted")):
            return ""
        left = max(0.1, ends - time.monotonic())
        services = self._ask(lambda client: client.get("/v1/services", limit=left + 5, wait="ready", timeout=left))
        service = services[0]
        return "" if service["state"] in _UP else f"It is {service['state']}: {service['reason']}"

    def _unready_again(self, generation: int, ends: float) -> str:
        """As `_unready`, of a later worker: its own probe must have said so."""
        spawned = self.all("WorkerSpawned", generation=generation)
        if not spawned or not self.all("Probed", probe="ready"):
            return ""
        ready = {"probe": "ready", "verdict": "well"}
        since, left = self.events.index(spawned[0]), ends - time.monotonic()
        found = self._look(lambda each: _is(each, "Probed", ready), left, since=since)
        return "" if found is not None else self._hint() or "It is not ready."

    # -- why it does not serve ----------------------------------------------------------------------------------------

    def failure(self) -> str:
        """Why it did not start, in devsup's words, and what the program printed last; once it is closed."""
        why, lines = [*self._reasons(), *self._words()], self.lines()[-self.tells :]
        why = why or [self._hint() or "It is not ready."]
        said = f"{self.name} has printed{':' if lines else ' nothing.'}"
        return "\n".join([*why, "", said, *(f"  {line}" for line in lines)])

    def _hint(self) -> str:
        return next((text for each in reversed(self.events) if (text := hint(each))), "")

    def _reasons(self, since: int = 0) -> list[str]:
        return [line for each in self.events[since:] for line in reason(each)]

    # -- its end ------------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._is_asked = True
        self.process.send_signal(signal.SIGINT)

    def stop(self, limit: float = LIMIT) -> int:
        """Ctrl-C; the exit code."""
        __tracebackhide__ = True
        self.interrupt()
        return self.wait(limit)

    def wait(self, limit: float = LIMIT) -> int:
        """The exit code, once it has ended and all its output is read."""
        __tracebackhide__ = True
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"devsup does not end within {limit:g} s\n{self.story(self.tells)}") from None
        self._join()
        return code

    def close(self, patience: float = _PATIENCE) -> None:
        """End it, whatever state it is in: Ctrl-C, once more for what is still active, then by force."""
        if not self._is_asked:
            self.interrupt()
        for number, seconds in ((signal.SIGINT, patience), (signal.SIGKILL, _AT_ONCE)):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
            self.process.send_signal(number)
        self.process.wait()
        self._join()

    def _join(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self.is_closed = True
        for reader in self._readers:
            reader.join(5)


def _is(event: Event, name: str, fields: Mapping[str, Any]) -> bool:
    return event["event"] == name and all(event.get(key) == value for key, value in fields.items())
