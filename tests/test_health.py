"""A service's health, asked of real servers, files and processes; limits are short, and what is told comes at them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from devsup.config import Probe
from devsup.decide.health import Failing, Stalled, Verdict, Well
from devsup.health import Health
from harness import free_port, wait_until

LIMIT = 20.0
SLACK = 1.5  # seconds that a loaded machine may be late


class App(ThreadingHTTPServer):
    """`/status` answers with `status` and `facts`; `/stream` sends an event for each `send()`. Counts what is asked and open."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.status, self.facts = 200, dict[str, object]()
        self.asked: list[float] = []
        self.troubles: list[int] = []  # statuses that are answered first
        self.streams: set[Handler] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def send(self, data: bytes = b"data: 1\n\n") -> None:
        for stream in list(self.streams):
            stream.wfile.write(data)

    def close(self) -> None:
        self.shutdown()
        for stream in list(self.streams):
            stream.connection.shutdown(2)
        self.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    server: App

    def do_GET(self) -> None:
        if self.path == "/stream":
            self._stream()
            return
        self.server.asked.append(time.monotonic())
        body = json.dumps(self.server.facts).encode()
        self.send_response(self.server.troubles.pop() if self.server.troubles else self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.server.streams.add(self)
        with contextlib.suppress(OSError):
            self.connection.recv(1)  # until the client has gone
        self.server.streams.discard(self)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Watched:
    """A health, and what it has told."""

    def __init__(self, probes: Mapping[str, Probe], cwd: Path = Path(), url: str = "") -> None:
        self.url = url
        self.told: list[tuple[str, Verdict]] = []
        self.times: list[float] = []
        self.health = Health(probes, str(cwd), lambda: {"PATH": os.environ["PATH"], "ANSWER": "42"}, lambda: self.url, self._tell)

    def _tell(self, name: str, verdict: Verdict) -> None:
        self.told.append((name, verdict))
        self.times.append(time.monotonic())

    async def hears(self, *verdicts: tuple[str, Verdict]) -> None:
        """So many verdicts were told, and these."""
        await until(lambda: len(self.told) >= len(verdicts), lambda: f"{self.told}")
        assert self.told == list(verdicts)


async def until(fact: Callable[[], object], story: Callable[[], str] = lambda: "") -> None:
    with anyio.move_on_after(LIMIT):
        while not fact():
            await anyio.sleep(0.005)
        return
    raise AssertionError(f"not within {LIMIT} s: {story()}")


def ready(watched: Watched, *steps: Callable[[], Awaitable[None]]) -> None:
    """Run until the service is ready, which must be after all steps."""

    async def main() -> None:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                done = list[int]()

                async def take_steps() -> None:
                    for number, step in enumerate(steps):
                        await step()
                        done.append(number)

                tasks.start_soon(take_steps)
                await watched.health.until_ready()
                assert len(done) == len(steps), f"ready before {watched.health.reason}"
        assert watched.health.reason == ""

    anyio.run(main)


def watch(watched: Watched, story: Callable[[], Awaitable[None]]) -> None:
    """Run the story while the probes are asked."""

    async def main() -> None:
        with anyio.fail_after(2 * LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watched.health.watch)
                await story()
                tasks.cancel_scope.cancel()

    anyio.run(main)


def reason(watched: Watched, text: str) -> Callable[[], Awaitable[None]]:
    """A step: it says why it is not ready."""
    return lambda: until(lambda: watched.health.reason == text, lambda: watched.health.reason)


def act(action: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    """A step: do it."""

    async def step() -> None:
        action()

    return step


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    threads, before = set(threading.enumerate()), descriptors()
    yield
    wait_until(lambda: set(threading.enumerate()) <= threads, story=lambda: f"{threading.enumerate()}")
    wait_until(lambda: descriptors() <= before)


@pytest.fixture
def app() -> Iterator[App]:
    server = App(free_port())
    yield server
    server.close()


# -- ready ------------------------------------------------------------------------------------------------------------


def test_without_a_probe_it_is_ready() -> None:
    ready(Watched({"live": Probe(tcp="1")}))


def test_ready_when_an_endpoint_says_so(port: int) -> None:
    watched, apps = Watched({"ready": Probe(http="/status", status=200)}), list[App]()
    assert watched.health.reason == "it has not been asked yet"

    def start() -> None:
        apps.append(App(port))
        apps[0].status = 503

    def listens() -> None:
        watched.url = f"http://127.0.0.1:{port}"

    try:
        ready(
            watched,
            reason(watched, "http /status waits for the service to listen"),
            act(listens),
            reason(watched, "http /status refused"),
            act(start),
            reason(watched, "http /status answered 503, 200 expected"),
            act(lambda: setattr(apps[0], "status", 200)),
        )
    finally:
        apps[0].close()


def test_ready_is_asked_often_at_first(app: App) -> None:
    watched = Watched({"ready": Probe(http="/status")}, url=app.url)
    app.status = 503
    ready(watched, lambda: until(lambda: len(app.asked) == 5), act(lambda: setattr(app, "status", 200)))
    assert len(app.asked) == 6
    assert 0.2 + 0.26 + 0.34 <= app.asked[3] - app.asked[0] < 0.8 + SLACK


def test_ready_when_a_command_succeeds(tmp_path: Path) -> None:
    command = ("sh", "-c", "test $ANSWER = 42 && cat file && exit 0; exit 3")
    watched = Watched({"ready": Probe(command=command)}, tmp_path)
    said = "command sh -c 'test $ANSWER = 42 && cat file && exit 0; exit 3' exited with 3: cat: file: No such file or directory"
    ready(watched, reason(watched, said), act((tmp_path / "file").touch))


def test_ready_when_a_port_is_open(port: int) -> None:
    watched, apps = Watched({"ready": Probe(tcp=f"127.0.0.1:{port}")}), list[App]()
    try:
        ready(watched, reason(watched, f"tcp 127.0.0.1:{port} refused"), act(lambda: apps.append(App(port))))
    finally:
        apps[0].close()


def test_ready_when_a_file_grows(tmp_path: Path) -> None:
    watched, file = Watched({"ready": Probe(path="live.csv", grows_within=60.0)}, tmp_path), tmp_path / "live.csv"
    file.write_text("123")
    ready(watched, reason(watched, "live.csv has not grown yet (3 bytes)"), act(lambda: file.write_text("1234")))


def test_ready_when_events_come(app: App) -> None:
    watched = Watched({"ready": Probe(sse="/stream", events=2)}, url=app.url)
    ready(
        watched,
        reason(watched, "sse /stream: 0 events so far, 2 expected"),
        act(app.send),
        reason(watched, "sse /stream: 1 event so far, 2 expected"),
        act(app.send),
    )


def test_ready_when_a_line_is_printed_by_another_thread() -> None:
    watched = Watched({"ready": Probe(log="listening on \\d+"), "never": Probe(never=("listening",))})

    def speak() -> None:
        thread = threading.Thread(target=watched.health.feed, args=(b"starting\nlistening on 80\n",))
        thread.start()
        thread.join()

    ready(watched, reason(watched, 'nothing like "listening on \\d+" was printed yet'), act(speak))
    watched.health.feed(b"listening on 81\n")  # nobody asks for that any more
    assert watched.health._ears._found == {("never", "listening"): "listening on 81"}


def test_a_line_that_was_printed_before_it_was_waited_for_counts() -> None:
    watched = Watched({"ready": Probe(log="listening")})
    watched.health.feed(b"listening\n")
    ready(watched)


# -- working ----------------------------------------------------------------------------------------------------------


def test_a_number_that_stops_growing_is_told_at_its_limit_and_heals(app: App) -> None:
    watched = Watched({"progress": Probe(http="/status", field="stats.count", grows_within=1.0, every=3.0)}, url=app.url)
    app.facts = {"stats": {"count": 1}}

    async def story() -> None:
        began = time.monotonic()
        stalled = ("progress", Stalled("http /status stats.count is 1 for 1 s"))
        await watched.hears(stalled)
        assert 1.0 <= watched.times[0] - began < 1.0 + SLACK
        assert len(app.asked) == 2, "at the beginning, and at the limit"
        app.facts = {"stats": {"count": 2}}
        await watched.hears(stalled, ("progress", Well()))

    watch(watched, story)


def test_a_setting_that_is_not_applied(app: App) -> None:
    watched = Watched({"setting": Probe(http="/status", field="interval", equals=1, every=0.1)}, url=app.url)
    app.facts = {"interval": 5}

    async def story() -> None:
        wrong = ("setting", Stalled("http /status interval is 5, 1 expected"))
        await watched.hears(wrong)
        app.facts = {"interval": 6}
        await until(lambda: watched.health.verdicts["setting"] == Stalled("http /status interval is 6, 1 expected"))
        app.facts = {"interval": 1}
        await watched.hears(wrong, ("setting", Well()))

    watch(watched, story)


def test_a_failure_is_told_when_the_second_question_fails_too(app: App) -> None:
    watched = Watched({"live": Probe(http="/status", every=60.0)}, url=app.url)
    app.status = 500

    async def story() -> None:
        await watched.hears(("live", Failing("http /status answered 500")))
        assert len(app.asked) == 2
        assert 0.5 <= app.asked[1] - app.asked[0] < 0.5 + SLACK

    watch(watched, story)


def test_single_failures_are_not_told(app: App) -> None:
    watched = Watched({"live": Probe(http="/status", every=0.1)}, url=app.url)

    async def story() -> None:
        await until(lambda: app.asked)
        for _ in range(2):
            app.troubles.append(500)
            await until(lambda: not app.troubles)
            app.asked.clear()
            await until(lambda: len(app.asked) > 2)

    watch(watched, story)
    assert watched.told == []


def test_a_server_that_hangs_is_told_after_two_timeouts() -> None:
    watched = Watched({"live": Probe(http="/status", every=0.2, timeout=0.5)})

    async def story() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener:
            watched.url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
            await watched.hears(("live", Failing("http /status has no answer after 0.5 s")))

    watch(watched, story)


def test_a_file_that_stops_growing(tmp_path: Path) -> None:
    watched, file = Watched({"file": Probe(path="live.csv", grows_within=1.0, every=0.2)}, tmp_path), tmp_path / "live.csv"
    file.write_text("x" * 4096)

    async def story() -> None:
        stalled = ("file", Stalled("live.csv has not grown for 1 s (4,096 bytes)"))
        await watched.hears(stalled)
        with file.open("a") as end:
            end.write("x")
        await watched.hears(stalled, ("file", Well()))

    watch(watched, story)


def test_a_stream_that_falls_silent_and_comes_back(app: App) -> None:
    watched = Watched({"stream": Probe(sse="/stream", events=2, within=1.0)}, url=app.url)

    async def story() -> None:
        await until(lambda: app.streams)
        began = time.monotonic()
        app.send()
        app.send(b": ping\n\n")
        await until(lambda: watched.told)
        # The event came within a moment of the opening, and counts by the moment in which it is looked at.
        few = [("stream", Stalled(f"sse /stream: {count} in 1 s, 2 expected")) for count in ("0 events", "1 event")]
        assert watched.told[0] in few
        assert 0.9 <= watched.times[0] - began < 1.0 + SLACK
        app.send(b"data: 1\n\ndata: 2\n\n")
        await until(lambda: len(watched.told) == 2)
        assert watched.told[1] == ("stream", Well())

    watch(watched, story)
    wait_until(lambda: not app.streams)


def test_a_stream_whose_server_goes_and_comes_back(port: int) -> None:
    watched = Watched({"stream": Probe(sse="/stream", every=0.2)}, url=f"http://127.0.0.1:{port}")
    apps = [App(port)]

    async def story() -> None:
        await until(lambda: apps[0].streams)
        await anyio.to_thread.run_sync(apps[0].close)
        refused = ("stream", Failing("sse /stream refused"))
        await watched.hears(refused)
        apps.append(App(port))
        await watched.hears(refused, ("stream", Well()))

    try:
        watch(watched, story)
    finally:
        apps[-1].close()


def test_a_line_that_must_not_be_printed() -> None:
    watched = Watched({"log": Probe(never=("CUDA error", "500 Internal Server Error"))})

    async def story() -> None:
        watched.health.feed(b'INFO "GET / HTTP/1.1" 200 OK\n')
        watched.health.feed(b'INFO \x1b[1m"GET / HTTP/1.1"\x1b[0m \x1b[31m500 Internal Server Error\x1b[0m\r\nand more\r\n')
        line = '"500 Internal Server Error" was printed: INFO "GET / HTTP/1.1" 500 Internal Server Error'
        await watched.hears(("log", Failing(line)))

    watch(watched, story)


def test_a_line_that_has_to_be_printed_again_and_again() -> None:
    watched = Watched({"log": Probe(log="^tick", within=1.0)})

    async def story() -> None:
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            watched.health.feed(b"tick\n")
            await anyio.sleep(0.2)
        assert watched.told == []
        watched.health.feed(b"tack tick\n")
        stalled = ("log", Stalled('nothing like "^tick" was printed for 1 s'))
        await watched.hears(stalled)
        watched.health.feed(b"tick\n")
        await watched.hears(stalled, ("log", Well()))

    watch(watched, story)


# -- pause ------------------------------------------------------------------------------------------------------------


def test_during_a_pause_nothing_is_asked_or_open_and_no_time_passes(app: App) -> None:
    probes = {
        "live": Probe(http="/status", every=0.1),
        "stream": Probe(sse="/stream", within=2.0),
        "progress": Probe(http="/status", field="count", grows_within=2.0, every=0.1),
        "log": Probe(log="tick", within=2.0),
    }
    watched = Watched(probes, url=app.url)
    app.facts = {"count": 1}

    async def story() -> None:
        began = time.monotonic()
        await until(lambda: app.streams and len(app.asked) > 6)
        watched.health.pause()
        watched.health.pause()
        paused = time.monotonic()
        await until(lambda: not app.streams)
        assert time.monotonic() - paused < SLACK
        before = len(app.asked)
        await anyio.sleep(2.5)  # longer than any limit
        assert len(app.asked) == before
        assert watched.told == []
        watched.health.resume()
        watched.health.resume()
        resumed = time.monotonic()
        await until(lambda: app.streams and len(app.asked) > before)
        await until(lambda: len(watched.told) == 3)
        counted = [at - began - (resumed - paused) for at in watched.times]
        assert all(1.9 <= seconds < 2.0 + SLACK for seconds in counted), counted
        assert {name for name, _ in watched.told} == {"stream", "progress", "log"}

    watch(watched, story)


def test_a_pause_that_begins_before_the_last_has_ended(app: App) -> None:
    watched = Watched({"live": Probe(http="/status", every=0.05)}, url=app.url)

    async def story() -> None:
        await until(lambda: app.asked)
        watched.health.pause()
        await until(lambda: not watched.health._scopes)
        watched.health.resume()
        watched.health.pause()
        before = len(app.asked)
        await anyio.sleep(0.5)
        assert len(app.asked) == before
        watched.health.resume()
        await until(lambda: len(app.asked) > before)

    watch(watched, story)


def test_a_pause_while_it_gets_ready(app: App) -> None:
    watched = Watched({"ready": Probe(http="/status")}, url=app.url)
    app.status = 503

    async def rest() -> None:
        watched.health.pause()
        app.status = 200
        before = len(app.asked)
        await anyio.sleep(1.5)
        assert len(app.asked) == before
        assert watched.health.reason == "http /status answered 503"
        watched.health.resume()

    ready(watched, lambda: until(lambda: "503" in watched.health.reason), rest)


# -- output -----------------------------------------------------------------------------------------------------------


def test_a_flood_of_lines_that_match_is_kept_in_one_line_of_each_expression() -> None:
    watched = Watched({"log": Probe(log="tick", within=60.0), "never": Probe(never=("error", "fatal"))})
    block = b"tick error fatal\n" * 4000

    def flood() -> None:
        for _ in range(200):
            watched.health.feed(block)

    flood()  # nobody listens yet
    assert len(watched.health._ears._found) == 3

    async def story() -> None:
        await watched.hears(("never", Failing('"fatal" was printed: tick error fatal')))
        await anyio.to_thread.run_sync(flood)
        await until(lambda: not watched.health._ears._found)
        assert not watched.health._ears._waiting
        assert len(watched.told) == 1

    watch(watched, story)
    watched.health.feed(block)  # nobody listens any more
    assert len(watched.health._ears._found) == 3


def test_what_is_printed_costs_next_to_nothing() -> None:
    watched = Watched({"log": Probe(never=("CUDA error", "500 Internal Server Error"))})
    block = b"2024-01-01 12:00:00,123 INFO worker-7 handled request GET /status in 3 ms, queue=12 status ok\n" * 690
    began = time.thread_time()
    for _ in range(500):
        watched.health.feed(block)
    speed = 500 * len(block) / (time.thread_time() - began) / 1e6
    assert speed > 150  # five times as fast as anything prints; 1,500 when measured alone
