"""S2 replayed: the pipeline example under `devsup start`; each fault is reported by the right service, for the right reason."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser import browser
from harness import Answer, Run, fetch, free_port, wait_until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/pipeline"
LIMITS = {"8s": "3s", "5s": "2s", "2s": "1s"}  # of the example's probes, and here: tests wait for them

Ask = Callable[..., Answer]


class Pipeline:
    """The example's three services, on ports of their own, under devsup."""

    def __init__(self, run: Run, ports: dict[str, int]) -> None:
        self.run, self.ports = run, ports

    def switch(self, fault: str, state: str) -> float:
        assert fetch(self.ports["simulator"], f"/faults/{fault}/{state}", method="POST")[0] == 200
        return time.time()


@pytest.fixture
def pipeline(project: Path, team: Callable[..., Run]) -> Iterator[Pipeline]:
    shutil.copytree(EXAMPLE, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".devsup", "__pycache__", "data"))
    text, ports = (EXAMPLE / "devsup.toml").read_text(), {}
    for name, port in {"backend": 8000, "simulator": 9001, "frontend": 5173}.items():
        ports[name] = free_port()
        text = text.replace(str(port), str(ports[name]))
    text = text.replace("--port " + str(ports["backend"]), f"--port {ports['backend']}")
    text = re.sub(r'"(8s|5s|2s)"', lambda found: f'"{LIMITS[found[1]]}"', text)
    run = team(text, env={"BACKEND": f"127.0.0.1:{ports['backend']}"})
    for name in ports:
        run.wait_for("Probed", service=name, probe="ready", verdict="well")
    yield Pipeline(run, ports)
    assert run.stop() == 0


def test_one_command_starts_all_in_order_and_the_chart_draws(pipeline: Pipeline, tmp_path: Path) -> None:
    run = pipeline.run
    ready = run.wait_for("Probed", service="backend", probe="ready", verdict="well")["at"]
    for name in ("simulator", "frontend"):
        assert run.all("WorkerSpawned", service=name)[0]["at"] >= ready
    with browser(tmp_path / "profile") as page:
        page.call("Page.navigate", url=f"http://127.0.0.1:{pipeline.ports['frontend']}/?backend={pipeline.ports['backend']}")
        wait_until(lambda: "sending" in fetch(pipeline.ports["simulator"])[1] or True)
        count = "fetch(`http://127.0.0.1:%d/status`).then(answer => answer.json()).then(it => window.n = it.aggregated_count)"
        wait_until(lambda: page.value(f"{count % pipeline.ports['backend']}; window.n ?? 0") > 1)
    assert not run.all("ServiceStalled")


@pytest.mark.parametrize(
    ("fault", "service", "reason", "limit"),
    [
        ("thread", "simulator", r"points_made is \d+ for [23] s", 2.0),
        ("post", "simulator", r"points_made is \d+ for [23] s", 2.0),
        ("setting", "backend", r"settings\.window is 1, 5 expected", 1.0),
        ("payload", "backend", r"aggregated_count is \d+ for [34] s", 3.0),
        ("csv", "simulator", r"data/live\.csv has not grown for [23] s", 2.0),
    ],
)
def test_each_fault_is_told_by_the_right_service_within_five_seconds_of_its_limit(
    pipeline: Pipeline, ask: Ask, fault: str, service: str, reason: str, limit: float
) -> None:
    run, began = pipeline.run, pipeline.switch(fault, "on")
    found = wait_until(lambda: [each for each in run.all("ServiceStalled", service=service) if re.search(reason, each["reason"])])
    assert found[0]["at"] - began < limit + 5
    others = {each["service"] for each in run.all("ServiceStalled")} - {service}
    assert not others or fault in {"thread", "post"}, "who does not suffer from it is well"
    answer = ask("status", "--json", service)
    assert (answer.code, answer.json[0]["state"]) == (1, "stalled")
    assert re.search(reason.replace("[23]", r"\d+").replace("[34]", r"\d+"), answer.json[0]["reason"])
    places = [frame["file"] for stack in found[0]["stacks"] for frame in stack["frames"] if frame["own"]]
    if fault == "post":
        assert any(file.endswith("simulator/feed.py") for file in places), "the stack ends in the blocking call"
        stack = next(each for each in found[0]["stacks"] if each["name"].endswith("simulator"))
        assert "called from simulator/feed.py:" in stack["doing"]
    if fault == "thread":
        dead = run.wait_for("Unhandled", service="simulator")
        assert (dead["where"], "the sensor is gone" in dead["cause"]) == ("thread", True)
    pipeline.switch(fault, "off")
    wait_until(lambda: ask("status").code == 0)


def test_a_backend_that_does_not_run_is_seen_and_comes_back(pipeline: Pipeline, ask: Ask) -> None:
    assert ask("stop", "backend").code == 0
    pipeline.run.wait_for("Stopped", service="backend")
    assert {each["name"]: each["state"] for each in ask("status", "--json").json}["backend"] == "stopped"
    assert ask("start", "backend").code == 0
    assert ask("status", "--wait", "ready").code == 0
