"""What a stream's route does is learned: charts that never end hold the first save, answers are never cut."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness import LIMIT, Run, fetch, free_port, read_all, save, thinned, wait_until

Start = Callable[..., Run]

FASTAPI = """
import asyncio
import os
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

VERSION = "@VERSION@"
app = FastAPI()

def events(name, body):
    async def said():
        try:
            async for event in body:
                yield event
        finally:
            print("closed", name, VERSION, flush=True)
    return StreamingResponse(said(), media_type="text/event-stream")

@app.get("/")
async def home():
    return Response(VERSION)

async def ticks():
    number = 0
    while True:
        yield f"data: {number} "
        await asyncio.sleep(0.01)
        yield f"{VERSION}\\n\\n"
        number += 1

@app.get("/charts")
async def charts():
    return events("charts", ticks())

@app.get("/charts/{name}")
async def chart(name: str):
    return events("chart", ticks())

@app.get("/chat")
async def chat(until: str):
    async def tokens():
        yield "data: one "
        yield "and the same\\n\\n"
        while not os.path.exists(until):
            await asyncio.sleep(0.01)
        yield f"data: last {VERSION}\\n\\n"
    return events("chat", tokens())

@app.get("/camera")
async def camera(piece: str = "whole"):
    async def frames():
        number = 0
        try:
            while True:
                head = b"--frame\\r\\nContent-Type: image/jpeg\\r\\n\\r\\n"
                picture = b"\\xff\\xd8%d\\xff\\xd9\\r\\n" % number
                for part in (head + picture,) if piece == "whole" else (head, picture[:2], picture[2:]):
                    yield part
                    await asyncio.sleep(0.005)
                number += 1
        finally:
            print("closed camera", flush=True)
    return StreamingResponse(frames(), media_type="multipart/x-mixed-replace; boundary=frame")

@app.get("/rows")
async def rows(kind: str = "application/x-ndjson", until: str = "never"):
    async def lines():
        while not os.path.exists(until):
            yield '{"row": '
            await asyncio.sleep(0.01)
            yield "1}\\n"
            await asyncio.sleep(0.01)
    return StreamingResponse(lines(), media_type=kind)
"""

FLASK = """
import os
import time
from flask import Flask, Response, request

VERSION = "@VERSION@"
app = Flask(__name__)

def events(name, body):
    def said():
        try:
            yield from body
        finally:
            print("closed", name, VERSION, flush=True)
    return Response(said(), mimetype="text/event-stream")

@app.get("/")
def home():
    return VERSION

def ticks():
    number = 0
    while True:
        yield f"data: {number} "
        time.sleep(0.01)
        yield f"{VERSION}\\n\\n"
        number += 1

@app.get("/charts")
def charts():
    return events("charts", ticks())

@app.get("/charts/<int:name>")
def chart(name):
    return events("chart", ticks())

@app.get("/chat")
def chat():
    until = request.args["until"]
    def tokens():
        yield "data: one "
        yield "and the same\\n\\n"
        while not os.path.exists(until):
            time.sleep(0.01)
        yield f"data: last {VERSION}\\n\\n"
    return events("chat", tokens())

@app.get("/camera")
def camera():
    piece = request.args.get("piece", "whole")
    def frames():
        number = 0
        try:
            while True:
                head = b"--frame\\r\\nContent-Type: image/jpeg\\r\\n\\r\\n"
                picture = b"\\xff\\xd8%d\\xff\\xd9\\r\\n" % number
                for part in (head + picture,) if piece == "whole" else (head, picture[:2], picture[2:]):
                    yield part
                    time.sleep(0.005)
                number += 1
        finally:
            print("closed camera", flush=True)
    return Response(frames(), mimetype="multipart/x-mixed-replace; boundary=frame")

@app.get("/rows")
def rows():
    until = request.args.get("until", "never")
    def lines():
        while not os.path.exists(until):
            yield '{"row": '
            time.sleep(0.01)
            yield "1}\\n"
            time.sleep(0.01)
    return Response(lines(), mimetype=request.args.get("kind", "application/x-ndjson"))
"""

# Nothing of it tells what a request in flight streams.
PLAIN = """
import asyncio

VERSION = "@VERSION@"

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    kind = b"text/plain" if scope["path"] == "/" else b"multipart/x-mixed-replace; boundary=frame"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    while scope["path"] != "/":
        part = b"--frame\\r\\nContent-Type: image/jpeg\\r\\n\\r\\n\\xff\\xd8\\xff\\xd9\\r\\n"
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": VERSION.encode()})
"""

SERVERS = ["uvicorn", "flask"]
CASCADE = ["Unexpected ASGI message", "Cannot call", "Exception in ASGI application", "Traceback", "never retrieved"]
SHORT = ("--drain-timeout", "1.5")  # seconds for which the first save waits in vain


class App:
    """The app of one test, in versions, and what devsup has written about it."""

    def __init__(self, start: Start, project: Path, port: int) -> None:
        self._start, self.project, self.port = start, project, port
        self.source = FASTAPI
        self.learned = project / ".devsup" / "learned.json"

    def save(self, version: int) -> None:
        save(self.project / "main.py", self.source.replace("@VERSION@", label(version)))

    def run(self, *options: str, server: str = "uvicorn", http: str = "auto", streams: str = "") -> Run:
        words = ["uvicorn", "main:app", "--port", str(self.port), "--http", http]
        if server == "flask":
            self.source, words = FLASK, ["flask", "--app", "main", "run", "--port", str(self.port)]
        if streams:
            (self.project / "devsup.toml").write_text(f"[services.web.streams]\n{streams}\n")
        self.save(1)
        run = self._start(*words, options=list(options))
        run.ready()
        return run

    def let(self, name: str) -> None:
        (self.project / name).touch()

    @contextmanager
    def source_of(self, path: str, accept: str = "text/event-stream") -> Iterator[socket.socket]:
        """A request as EventSource sends it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
            yield sock

    def knows(self) -> dict[str, Any]:
        """What the file says of this service's streams."""
        with contextlib.suppress(OSError, ValueError):
            streams: dict[str, Any] = next(iter(json.loads(self.learned.read_text()).values()))["streams"]
            return streams
        return {}

    def cut_once(self, run: Run, path: str, generation: int = 1, until: bytes = b".\n\n") -> None:
        """A stream that nothing is known of is open while a file is saved; and its client comes back."""
        with self.source_of(path) as sock:
            read_until(sock, until)
            self.save(generation + 1)
            run.ready(generation + 1)
        with self.source_of(path) as sock:
            read_until(sock, label(generation + 1).encode() + until[-2:])


@pytest.fixture
def app(devsup: Start, project: Path, port: int) -> App:
    return App(devsup, project, port)


def label(version: int) -> str:
    """Each of another length: a compiled file of the version before is never taken for this one's."""
    return f"v{version}" + "." * version


def read_until(sock: socket.socket, text: bytes) -> bytes:
    data = b""
    while text not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def body_of(raw: bytes) -> bytes:
    """A whole body; one that is cut is an error."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    whole = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        assert found, "the end of the answer was not told"
        if not int(size, 16):
            return whole
        whole, rest = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def assert_whole(raw: bytes) -> None:
    """Every event of the charts, from the first, and nothing torn at the end."""
    events = body_of(raw).decode().split("\n\n")
    assert events.pop() == "", "the last event is whole"
    assert [event.split()[1] for event in events] == [str(number) for number in range(len(events))]


def cascade(run: Run) -> list[str]:
    return [line for line in run.lines() if any(sign in line for sign in CASCADE)]


# -- charts and answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_charts_that_come_back_after_the_first_save_hold_no_later_one(app: App, server: str) -> None:
    """The waiting line says what to set; then the route is known, in this run and in the next."""
    run = app.run(*SHORT, server=server)
    with app.source_of("/charts") as sock:
        read_until(sock, b".\n\n")
        app.save(2)
        waiting = run.wait_for("ReloadWaiting")
        assert [(each["name"], each["stream"]) for each in waiting["active"]] == [("GET /charts", "/charts")]
        run.ready(2)
    for generation in range(2, 6):
        with app.source_of("/charts") as sock:
            begun = read_until(sock, label(generation).encode() + b"\n\n")
            run.wait_for("StreamLearned", route="/charts", decision="endless")
            app.save(generation + 1)
            run.ready(generation + 1)
            assert_whole(read_all(sock, begun))
        run.wait_for_line(f"closed charts {label(generation)}")
    assert not [each for generation in range(2, 6) for each in run.all("ReloadWaiting", generation=generation, held=False)]
    assert app.knows() == {"/charts": {"longest": 0, "endless": True}}
    assert run.stop() == 0
    assert cascade(run) == []
    again = app.run("--drain-timeout", "50", server=server)
    with app.source_of("/charts") as sock:
        read_until(sock, b".\n\n")
        app.save(2)
        again.ready(2)
    assert not again.all("ReloadWaiting", held=False)


@pytest.mark.parametrize("server", SERVERS)
def test_an_answer_is_never_cut_though_its_page_reconnects_at_once(app: App, server: str) -> None:
    """EventSource asks again when an answer has ended: that says nothing, its end says all."""
    run = app.run(server=server)
    app.let("done")
    with app.source_of("/chat?until=done") as sock:
        read_until(sock, b"data: last")
    run.wait_for("StreamLearned", route="/chat", decision="work")
    for turn in range(1, 6):
        with app.source_of(f"/chat?until=go{turn}") as sock:
            begun = read_until(sock, b"the same\n\n")
            app.save(turn + 1)
            run.wait_for("ReloadWaiting", generation=turn)
            app.let(f"go{turn}")
            answer = begun + read_until(sock, b"last " + label(turn).encode() + b"\n\n")
            answer = read_all(sock, answer)
            assert body_of(answer).decode() == f"data: one and the same\n\ndata: last {label(turn)}\n\n"
        run.ready(turn + 1)
        with app.source_of("/chat?until=done") as sock:
            read_until(sock, b"data: last")
    assert list(app.knows()) == ["/chat"]
    assert not app.knows()["/chat"]["endless"]
    assert not run.all("StreamLearned", decision="endless")
    assert not run.all("WorkLost")


@pytest.mark.parametrize("server", SERVERS)
def test_a_stream_that_ends_by_itself_takes_the_verdict_back(app: App, server: str) -> None:
    """An answer was cut too early, and its page asked again: the next save might cut it again, but not the one after."""
    run = app.run(*SHORT, server=server)
    with app.source_of("/chat?until=go") as sock:
        read_until(sock, b"the same\n\n")
        app.save(2)
        run.ready(2)
    with app.source_of("/chat?until=go") as sock:
        read_until(sock, b"the same\n\n")
        run.wait_for("StreamLearned", route="/chat", decision="endless")
        app.let("go")
        read_until(sock, b"data: last")
    run.wait_for("StreamLearned", route="/chat", decision="work")
    with app.source_of("/chat?until=later") as sock:
        begun = read_until(sock, b"the same\n\n")
        app.save(3)
        run.wait_for("ReloadWaiting", generation=2)
        app.let("later")
        assert body_of(read_all(sock, begun)).decode().endswith(f"last {label(2)}\n\n")
    run.ready(3)
    assert app.knows() == {"/chat": {"longest": app.knows()["/chat"]["longest"], "endless": False}}
    assert app.knows()["/chat"]["longest"] >= 1


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_leaves_teaches_nothing(app: App, server: str) -> None:
    """Neither its leaving, nor another that comes in the same generation."""
    run = app.run(server=server)
    for turn in (1, 2):
        with app.source_of("/charts") as sock:
            read_until(sock, b".\n\n")
        with app.source_of("/chat?until=never") as sock:
            read_until(sock, b"the same\n\n")
        if server == "uvicorn":  # a thread that waits for a file learns of it only when it sends
            run.wait_for_line("closed chat")
        wait_until(lambda: sum("closed charts" in line for line in run.lines()) == turn)  # noqa: B023
    app.let("never")
    assert run.stop() == 0
    assert not [each for each in run.all("StreamLearned") if each["route"] == "/charts"]
    assert "/charts" not in app.knows()


@pytest.mark.parametrize("server", SERVERS)
def test_what_varies_in_a_path_is_not_part_of_its_route(app: App, server: str) -> None:
    run = app.run(*SHORT, server=server)
    app.cut_once(run, "/charts/1")
    run.wait_for("StreamLearned", route="/charts/{name}", decision="endless")
    with app.source_of("/charts/2") as sock:
        begun = read_until(sock, b"..\n\n")
        app.save(3)
        run.ready(3)
        assert_whole(read_all(sock, begun))
    assert not run.all("ReloadWaiting", generation=2, held=False)


def test_a_reload_that_was_forced_teaches_the_same(app: App) -> None:
    """A stop and a second Ctrl-C end devsup: here the drain limit stands for `r`, and a far client comes too late."""
    run = app.run(*SHORT)
    with app.source_of("/charts") as sock:
        read_until(sock, b".\n\n")
        app.save(2)
        run.ready(2)
    app.save(3)
    run.ready(3)
    with app.source_of("/charts") as sock:
        read_until(sock, b"...\n\n")
    assert not run.all("StreamLearned"), "nobody came back in the generation after the cut"


def test_a_setting_beats_what_was_learned(app: App) -> None:
    app.learned.parent.mkdir()
    app.learned.write_text('{"web": {"streams": {"/chat": {"longest": 0, "endless": true}}}}')
    run = app.run(streams='"/chat" = "work"')
    with app.source_of("/chat?until=go") as sock:
        begun = read_until(sock, b"the same\n\n")
        app.save(2)
        assert run.wait_for("ReloadWaiting")["active"][0]["stream"] == "", "there is nothing left to set"
        app.let("go")
        assert body_of(read_all(sock, begun)).decode().endswith(f"last {label(1)}\n\n")
    run.ready(2)
    assert not run.all("StreamLearned")


# -- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "not JSON", "[1, 2]", '{"web": {"streams": {"/charts": "endless"}}}', "{"])
def test_a_broken_or_old_file_is_ignored_and_rewritten(app: App, before: str) -> None:
    app.learned.parent.mkdir()
    app.learned.write_text(before)
    run = app.run()
    app.let("done")
    with app.source_of("/chat?until=done") as sock:
        read_until(sock, b"data: last")
    run.wait_for("StreamLearned", decision="work")
    assert app.knows() == {"/chat": {"longest": 1, "endless": False}}
    assert not run.all("Trouble")
    assert run.stop() == 0
    assert sorted(path.name for path in app.learned.parent.iterdir()) == [".gitignore", "events.jsonl", "learned.json", "logs"]


def test_a_project_that_cannot_be_written_is_learned_for_one_run(app: App) -> None:
    app.save(1)
    (app.project / ".devsup").write_text("a file where the folder belongs")
    run = app.run(*SHORT)
    app.cut_once(run, "/charts")
    run.wait_for("StreamLearned", decision="endless")
    with app.source_of("/charts") as sock:
        read_until(sock, b"..\n\n")
        app.save(3)
        run.ready(3)
    assert not run.all("ReloadWaiting", generation=2, held=False)
    assert [each["text"] for each in run.all("Trouble")] == [f"the event log cannot be written in {app.project}"]


def test_two_devsups_in_one_folder_keep_what_either_has_learned(app: App, devsup: Start) -> None:
    run = app.run()
    port = free_port()
    other = devsup("uvicorn", "main:app", "--port", str(port), options=list(SHORT))
    other.ready()
    app.let("done")
    with app.source_of("/chat?until=done") as sock:
        read_until(sock, b"data: last")
    run.wait_for("StreamLearned", decision="work")
    app.port = port
    app.cut_once(other, "/charts")
    other.wait_for("StreamLearned", decision="endless")
    assert app.knows() == {"/chat": {"longest": 1, "endless": False}, "/charts": {"longest": 0, "endless": True}}


# -- pictures and lines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", ["whole", "small"])
@pytest.mark.parametrize(("server", "http"), [("uvicorn", "h11"), ("uvicorn", "httptools"), ("flask", "auto")])
def test_a_camera_holds_no_save_and_is_cut_between_two_pictures(app: App, server: str, http: str, piece: str) -> None:
    run = app.run("--drain-timeout", "50", server=server, http=http)
    with app.source_of(f"/camera?piece={piece}", accept="image/avif,*/*;q=0.8") as sock:
        begun = read_until(sock, b"\xff\xd9\r\n")
        app.save(2)
        body = body_of(read_all(sock, begun))
    parts = body.split(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n")
    assert parts[0] == b""
    assert parts[1:] == [b"\xff\xd8%d\xff\xd9\r\n" % number for number in range(len(parts) - 1)]
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    run.wait_for_line("closed camera")
    assert not run.all("ReloadWaiting", held=False)
    assert not run.all("WorkLost")
    assert cascade(run) == []


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("kind", thinned(["application/x-ndjson", "application/jsonl", "application/stream+json"], every=3))
def test_lines_are_work_unless_they_are_set_to_be_endless(app: App, server: str, kind: str) -> None:
    run = app.run(server=server)
    with app.source_of(f"/rows?kind={kind.replace('+', '%2B')}&until=go", accept="*/*") as sock:
        begun = read_until(sock, b"1}\n")
        app.save(2)
        waiting = run.wait_for("ReloadWaiting")
        assert [(each["name"], each["stream"]) for each in waiting["active"]] == [("GET /rows", "/rows")]
        app.let("go")
        rows = body_of(read_all(sock, begun)).decode()
    assert set(rows.splitlines()) == {'{"row": 1}'}
    run.ready(2)
    assert run.stop() == 0
    assert not run.all("WorkLost")


@pytest.mark.parametrize("server", SERVERS)
def test_lines_that_are_set_to_be_endless_are_cut_at_a_line_s_end(app: App, server: str) -> None:
    run = app.run("--drain-timeout", "50", server=server, streams='"/rows" = "endless"')
    with app.source_of("/rows", accept="*/*") as sock:
        begun = read_until(sock, b"1}\n")
        app.save(2)
        rows = body_of(read_all(sock, begun)).decode()
    assert rows == '{"row": 1}\n' * (len(rows) // 11)
    run.ready(2)
    assert not run.all("ReloadWaiting", held=False)
    assert cascade(run) == []


@pytest.mark.parametrize("streams", ["", '"/camera" = "endless"'])
def test_a_stream_whose_kind_cannot_be_found_out_names_the_setting_that_helps(app: App, streams: str) -> None:
    app.source = PLAIN
    run = app.run(*SHORT, streams=streams)
    with app.source_of("/camera", accept="image/*") as sock:
        read_until(sock, b"\xff\xd9\r\n")
        app.save(2)
        run.ready(2)
    assert fetch(app.port) == (200, label(2))
    waited = {(each["name"], each["stream"]) for event in run.all("ReloadWaiting", held=False) for each in event["active"]}
    assert waited == (set() if streams else {("GET /camera", "/camera")})


def test_a_camera_can_be_set_to_be_work(app: App) -> None:
    run = app.run(*SHORT, streams='"/camera" = "work"')
    with app.source_of("/camera", accept="image/*") as sock:
        read_until(sock, b"\xff\xd9\r\n")
        app.save(2)
        assert run.wait_for("ReloadWaiting")["active"][0]["name"] == "GET /camera"
        run.ready(2)
    assert [each["name"] for each in run.all("WorkLost")] == ["GET /camera"]
    assert cascade(run) == []
