"""A real browser's EventSource while files are saved: charts come back by themselves, answers are never cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser import Page, browser
from harness import Run, save, wait_until

Start = Callable[..., Run]

# The page counts what it sees; an answer takes until the test makes a file.
APP = """
import asyncio
import os
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Route

VERSION = "@VERSION@"
PAGE = '''<!doctype html><title>charts</title><script>
const charts = {opened: 0, errors: 0, count: 0, last: "", closed: false};
function watch() {
  const source = new EventSource("/charts");
  source.onopen = () => charts.opened++;
  source.onerror = () => { charts.errors++; charts.closed = source.readyState === EventSource.CLOSED; };
  source.onmessage = event => { charts.count++; charts.last = event.data; };
}
const answers = {};
function ask(until) {
  const answer = answers[until] = {opened: 0, errors: 0, text: "", done: false};
  const source = new EventSource("/chat?until=" + until);
  source.onopen = () => answer.opened++;
  source.onerror = () => answer.errors++;
  source.onmessage = event => {
    if (event.data === "[DONE]") { answer.done = true; source.close(); }
    else answer.text += event.data;
  };
}
</script>'''

async def home(request):
    return HTMLResponse(PAGE)

async def charts(request):
    async def points():
        yield "retry: 100\\n\\n"
        while True:
            yield f"data: {VERSION}\\n\\n"
            await asyncio.sleep(0.02)
    return StreamingResponse(points(), media_type="text/event-stream")

async def chat(request):
    async def tokens():
        yield "retry: 100\\n\\ndata: one \\n\\n"
        while not os.path.exists(request.query_params["until"]):
            await asyncio.sleep(0.01)
        yield f"data: last {VERSION}\\n\\ndata: [DONE]\\n\\n"
    return StreamingResponse(tokens(), media_type="text/event-stream")

app = Starlette(routes=[Route("/", home), Route("/charts", charts), Route("/chat", chat)])
"""
DRAIN = 1.5  # seconds for which the first save waits, in vain


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    profile = tmp_path / "profile"
    profile.mkdir()
    with browser(profile) as tab:
        yield tab


@pytest.fixture
def run(devsup: Start, project: Path, port: int) -> Run:
    save_version(project, 1)
    run = devsup("uvicorn", "main:app", "--port", str(port), options=["--drain-timeout", str(DRAIN)])
    run.ready()
    return run


def save_version(project: Path, version: int) -> None:
    save(project / "main.py", APP.replace("@VERSION@", label(version)))


def label(version: int) -> str:
    return f"v{version}" + "." * version


def test_charts_come_back_by_themselves_and_hold_no_save_but_the_first(page: Page, run: Run, project: Path, port: int) -> None:
    page.open(f"http://127.0.0.1:{port}/")
    page.value("watch()")
    for generation in range(1, 11):
        wait_until(lambda generation=generation: page.value("charts.last") == label(generation), story=run.story)  # type: ignore[misc]
        save_version(project, generation + 1)
        run.ready(generation + 1)
    wait_until(lambda: page.value("charts.last") == label(11), story=run.story)
    seen = page.value("charts.count")
    wait_until(lambda: page.value("charts.count") > seen)
    assert page.value("charts.opened") == 11, "once, and once after each save"
    assert page.value("charts.closed") is False
    learned = run.wait_for("StreamLearned", route="/charts")
    assert learned["decision"] == "endless"
    later = [each for each in run.all("Reloaded") if each["generation"] > 2]
    assert len(later) == 9
    assert all(each["waited"] < DRAIN for each in later), [each["waited"] for each in later]
    assert not [each for each in run.all("ReloadWaiting") if each["generation"] > 1 and not each["held"]]
    assert not [line for line in run.lines() if "Traceback" in line or "Exception" in line]


def test_five_answers_of_five_are_whole_though_a_file_is_saved_in_the_middle_of_each(
    devsup: Start, page: Page, project: Path, port: int
) -> None:
    save_version(project, 1)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    page.open(f"http://127.0.0.1:{port}/")
    for turn in range(1, 6):
        page.value(f"ask('go{turn}')")
        wait_until(lambda turn=turn: page.value(f"answers.go{turn}.text") == "one ", story=run.story)  # type: ignore[misc]
        save_version(project, turn + 1)
        waiting = run.wait_for("ReloadWaiting", generation=turn)
        assert [each["name"] for each in waiting["active"]] == ["GET /chat"]
        (project / f"go{turn}").touch()
        wait_until(lambda turn=turn: page.value(f"answers.go{turn}.done"), story=run.story)  # type: ignore[misc]
        assert page.value(f"answers.go{turn}") == {"opened": 1, "errors": 0, "text": f"one last {label(turn)}", "done": True}
        run.ready(turn + 1)
    assert [each["decision"] for each in run.all("StreamLearned")] == ["work"]
    assert not run.all("WorkLost")
