"""An app that writes what reloads it does not reload for ever; a person who saves again and again always gets the new code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness import Run, fetch, save, wait_until

# At import it writes a module that it imports, with other content each time.
GENERATES = """
import time
from pathlib import Path

Path(__file__).with_name("generated.py").write_text(f"stamp = {time.time_ns()}\\n")

import generated
import part
from flask import Flask

app = Flask(__name__)

@app.get("/")
def home():
    return str(part.value)
"""
# At start it writes a file that a glob names; and it fails, when it is told to.
APPENDS = """
import time
from pathlib import Path

with Path("data/log.json").open("a") as file:
    file.write("a line\\n")

import part
from flask import Flask

app = Flask(__name__)
"""


def test_a_module_that_the_app_writes_at_import_is_suspended(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "part.py", "value = 1\n")
    save(project / "main.py", GENERATES)
    run = devsup("flask", "--app", "main", "run", "--port", str(port))
    told = run.wait_for("ReloadSuspended")
    assert told["files"] == [str(project / "generated.py")]
    generation = run.all("WorkerSpawned")[-1]["generation"]
    assert generation <= 4
    # What a person saves still reloads, and the loop does not begin again.
    for value in (22, 333):
        save(project / "part.py", f"value = {value}\n")
        generation += 1
        run.ready(generation)
        assert fetch(port) == (200, str(value))
    assert run.stop() == 0
    assert len(run.all("WorkerSpawned")) == generation
    assert len(run.all("ReloadSuspended")) == 1


def test_so_is_a_data_file_of_an_app_that_fails_to_start(devsup: Callable[..., Run], project: Path, port: int) -> None:
    (project / "data").mkdir()
    save(project / "part.py", "raise SystemExit(7)\n")
    save(project / "main.py", APPENDS)
    run = devsup("flask", "--app", "main", "run", "--port", str(port), options=["--watch", "data/*.json"])
    run.wait_for("ReloadSuspended")
    spawned = len(run.all("WorkerSpawned"))
    assert spawned <= 4
    save(project / "part.py", "value = 1\n")
    run.ready(spawned + 1)


def test_and_what_a_program_writes_that_the_app_runs(devsup: Callable[..., Run], project: Path, port: int) -> None:
    (project / "data").mkdir()
    save(project / "part.py", "import subprocess\nsubprocess.run('date +%N >> data/ticks.json', shell=True)\n")
    save(project / "main.py", "import part\nfrom flask import Flask\napp = Flask(__name__)\n")
    run = devsup("flask", "--app", "main", "run", "--port", str(port), options=["--watch", "data/*.json"])
    wait_until(lambda: run.all("WorkerReady", generation=4), story=run.story)
    save(project / "part.py", "value = 1\n")
    run.ready(5)
    assert run.stop() == 0
    assert not run.all("WorkerSpawned", generation=6)


def test_a_program_that_saves_at_each_spawn_gets_each_reload(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "main.py", "from flask import Flask\napp = Flask(__name__)\n@app.get('/')\ndef home():\n    return '0'\n")
    run = devsup("flask", "--app", "main", "run", "--port", str(port))
    run.ready()
    text = (project / "main.py").read_text()
    for number in range(1, 9):
        save(project / "main.py", text.replace("'0'", f"'{number}' + '{'x' * number}'"))
        run.wait_for("WorkerSpawned", number + 1)
    wait_until(lambda: fetch(port) == (200, "8" + "x" * 8), story=run.story)
    assert not run.all("ReloadSuspended")
