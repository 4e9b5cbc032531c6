"""What cannot be run is refused at once: one error with its remedy, exit code 2, nothing left running."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import Run, fetch, free_port, save

ENDS = 10.0  # seconds; a refusal takes one

ASGI = """
VERSION = "1.0"

async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"asgi"})
"""
FLASK = """
from flask import Flask

app = Flask(__name__)
"""
WSGI = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"wsgi"]
"""


@dataclass(frozen=True)
class Case:
    """A command line, the files around it, and what the one error must say: the problem, then the remedy."""

    name: str
    words: list[str]
    problem: list[str]
    remedy: list[str]
    files: dict[str, str] = field(default_factory=dict)


PROGRAMS = [
    Case("unknown module", ["nomodule:app"], ["nomodule"], ["--cwd", "main.py"]),
    Case("unknown module in a package", ["nopackage.sub:app"], ["nopackage.sub"], ["--cwd"]),
    Case("missing file", ["python", "nofile.py"], ["nofile.py"], ["Name a file", "--cwd"]),
    Case("missing file behind an option", ["python", "-u", "nofile.py"], ["nofile.py"], ["Name a file", "--cwd"]),
    Case("command not found", ["nocommand", "--x"], ["nocommand"], ["spelling", "MODULE:APP"]),
    Case("a script that is not executable", ["./main.py"], ["main.py"], ["devsup run python"]),
    Case("a folder as the command", ["./folder"], ["folder"], ["ls -l"], {"folder/x.py": ""}),
    Case("near miss of an attribute", ["main:ap"], ["main", "ap"], ["main:app"]),
    Case("no near miss of an attribute", ["main:qqqqq"], ["main", "qqqqq"], ["main:"]),
    Case("attribute of an attribute", ["main:app.inner"], ["inner"], ["main:"]),
    Case("attribute is a string", ["main:VERSION"], ["main:VERSION", "str"], ["main:"]),
    Case("attribute is None", ["none:app"], ["none:app", "None"], ["none:"], {"none.py": "app = None\n"}),
    Case("attribute is a module", ["mod:json"], ["mod:json", "module"], ["mod:"], {"mod.py": "import json\n"}),
    Case("no attribute", ["main:"], ["main:"], ["MODULE:APP"]),
]
SERVERS = [
    Case("uvicorn's port", ["main:app", "--port", "99999"], ["99999"], ["65535"]),
    Case("uvicorn's port, joined", ["main:app", "--port=99999"], ["99999"], ["65535"]),
    Case("uvicorn's port below 0", ["main:app", "--port", "-1"], ["-1"], ["65535"]),
    Case("flask's port", ["web:app", "--port", "99999"], ["99999"], ["65535"], {"web.py": FLASK}),
    Case("flask's port, short", ["web:app", "-p", "70000"], ["70000"], ["65535"], {"web.py": FLASK}),
    Case("werkzeug's port", ["plain:app", "--port", "99999"], ["99999"], ["65535"], {"plain.py": WSGI}),
    Case("uvicorn's port is no number", ["main:app", "--port", "abc"], ["abc", "--port"], []),
    Case("flask's port is no number", ["web:app", "--port", "abc"], ["abc", "--port"], [], {"web.py": FLASK}),
    Case("werkzeug's port is no number", ["plain:app", "--port", "abc"], ["abc", "--port"], [], {"plain.py": WSGI}),
    Case("unknown option of uvicorn", ["main:app", "--prot", "8000"], ["--prot"], ["--port"]),
    Case("unknown option of flask", ["web:app", "--prot", "8000"], ["--prot"], ["--port"], {"web.py": FLASK}),
    Case("unknown option of werkzeug", ["plain:app", "--prot", "8000"], ["--prot"], ["--port"], {"plain.py": WSGI}),
]
OPTIONS = [
    Case("unknown option", ["--wacth", "x", "main:app"], ["--wacth"], ["--watch"]),
    Case("watch folder", ["--watch", "nosuch/**", "main:app"], ["nosuch/**"], ["mkdir -p", "correct the pattern"]),
    Case("second watch", ["--watch", "*.x", "--watch", "no/*.x", "main:app"], ["no/*.x"], ["mkdir -p"]),
    Case("env file", ["--env-file", "no.env", "main:app"], ["no.env"], ["--env-file"]),
    Case("cwd", ["--cwd", "nowhere", "main:app"], ["nowhere"], ["--cwd"]),
    Case("cwd is a file", ["--cwd", "main.py", "main:app"], ["main.py"], []),
    Case("python", ["--python", "nopython", "main:app"], ["nopython"], ["--python .venv"]),
    Case("python is a folder without one", ["--python", ".", "main:app"], ["has no Python"], ["-m venv"]),
    Case("python cannot be run", ["--python", "./main.py", "main:app"], ["main.py"], ["--python /"]),
    Case("service without a config", ["--service", "api", "main:app"], ["api", "no config file"], ["[services.api]"]),
    Case("no command and no config", [], ["nothing to run"], ["devsup run uvicorn main:app"]),
    Case("reload", ["--reload", "sometimes", "main:app"], ["sometimes", "--reload"], ["drain", "handover", "restart", "off"]),
    Case("watch mode", ["--watch-mode", "some", "main:app"], ["some", "--watch-mode"], ["imported", "all"]),
    Case("drain timeout of 0", ["--drain-timeout", "0", "main:app"], ["--drain-timeout"], ["x>0"]),
    Case("drain timeout is no number", ["--drain-timeout", "soon", "main:app"], ["soon", "--drain-timeout"], ["float"]),
    Case("an option's value is missing", ["--watch"], ["--watch"], ["argument"]),
]
CONFIGS = [
    Case("not TOML", [], ["devsup.toml:2", "not TOML"], ["Correct"], {"devsup.toml": "[services.web]\ncommand = \n"}),
    Case(
        "not TOML in pyproject",
        ["main:app"],
        ["pyproject.toml:2", "not TOML"],
        ["Correct"],
        {"pyproject.toml": "[tool.devsup.services.web]\nreload off\n"},
    ),
    Case(
        "unknown key",
        ["main:app"],
        ["devsup.toml:3", "services.web.relaod"],
        ['Did you mean "reload"?', "command", "drain_timeout"],
        {"devsup.toml": '[services.web]\nenv = {}\nrelaod = "off"\n'},
    ),
    Case(
        "unknown key in pyproject",
        ["main:app"],
        ["pyproject.toml:5", "tool.devsup.services.web.wathc"],
        ['Did you mean "watch"?'],
        {"pyproject.toml": '[project]\nname = "x"\n\n[tool.devsup.services.web]\nwathc = []\n'},
    ),
    Case(
        "unknown table",
        ["main:app"],
        ["devsup.toml:1", "servces"],
        ['Did you mean "services"?'],
        {"devsup.toml": '[servces.web]\ncommand = "x"\n'},
    ),
    Case(
        "wrong type",
        [],
        ["devsup.toml:3", "services.web.drain_timeout", '"soon"', "seconds"],
        ["60"],
        {"devsup.toml": '[services.web]\ncommand = "main:app"\ndrain_timeout = "soon"\n'},
    ),
    Case(
        "wrong choice",
        [],
        ["devsup.toml:1", "services.web.reload", '"drian"'],
        ['Did you mean "drain"?'],
        {"devsup.toml": 'services.web.reload = "drian"\n'},
    ),
    Case(
        "unknown service",
        ["--service", "wbe"],
        ["devsup.toml", "wbe"],
        ['Did you mean "web"?'],
        {"devsup.toml": '[services.web]\ncommand = "main:app"\n[services.api]\ncommand = "main:app"\n'},
    ),
    Case(
        "several services and none named",
        [],
        ["web", "api"],
        ["--service web"],
        {"devsup.toml": '[services.web]\ncommand = "main:app"\n[services.api]\ncommand = "main:app"\n'},
    ),
    Case(
        "a service without a command",
        [],
        ["services.web has no command"],
        ["devsup run --service web"],
        {"devsup.toml": "[services.web]\n"},
    ),
    Case(
        "an env file of the config",
        [],
        ["no.env"],
        ["env_files"],
        {"devsup.toml": '[services.web]\ncommand = "main:app"\nenv_files = ["no.env"]\n'},
    ),
    Case(
        "a watch folder of the config",
        [],
        ["nosuch/**"],
        ["mkdir -p"],
        {"devsup.toml": '[services.web]\ncommand = "main:app"\nwatch = ["nosuch/**"]\n'},
    ),
    Case(
        "the config's cwd",
        [],
        ["nowhere"],
        ["cwd"],
        {"devsup.toml": '[services.web]\ncommand = "main:app"\ncwd = "nowhere"\n'},
    ),
    Case("unreadable: a folder", ["main:app"], ["devsup.toml", "directory"], ["ls -ld"], {"devsup.toml/x": ""}),
]
CASES = [*PROGRAMS, *SERVERS, *OPTIONS, *CONFIGS]


def refused(words: list[str], cwd: Path, env: dict[str, str], log_format: str) -> subprocess.CompletedProcess[str]:
    """`devsup run` with these words, to its end."""
    command = [sys.executable, "-m", "devsup", "run", "--log-format", log_format, *words]
    try:
        return subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ENDS, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise AssertionError(f"devsup does not end\n{exc.stdout!r}\n{exc.stderr!r}") from None


def write(project: Path, files: dict[str, str]) -> None:
    """These files, beside a good app; the search for a config ends here."""
    (project / ".git").mkdir()
    for name, text in {"main.py": ASGI, **files}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        save(project / name, text)


def objects(stdout: str) -> list[dict[str, Any]]:
    """What stdout holds with `--log-format json`: one object a line, and nothing else."""
    found = [json.loads(line) for line in stdout.splitlines()]
    assert all(isinstance(each, dict) and "event" in each for each in found)
    return found


def is_spoken(case: Case, text: str) -> bool:
    """Whether the text tells the problem and the remedy."""
    return all(part in text for part in [*case.problem, *case.remedy])


def occurrences(case: Case, text: str) -> int:
    """How many lines tell the problem; click's and argparse's usage lines do not."""
    return sum(all(part in line for part in case.problem) for line in text.splitlines())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_error_on_stderr_and_exit_code_2(case: Case, project: Path, environment: dict[str, str]) -> None:
    write(project, case.files)
    done = refused(case.words, project, environment, "text")
    story = f"{done.returncode}\n-- stdout\n{done.stdout}\n-- stderr\n{done.stderr}"
    assert done.returncode == 2, story
    assert "Traceback" not in done.stdout + done.stderr, story
    assert is_spoken(case, done.stderr), story
    assert occurrences(case, done.stderr) == 1, story
    assert done.stdout == "", story
    assert "devsup_agent" not in done.stderr, story


SOME = [pytest.param(each, marks=() if n % 3 == 0 else pytest.mark.soak, id=each.name) for n, each in enumerate(CASES)]


@pytest.mark.parametrize("case", SOME)
def test_the_same_in_json(case: Case, project: Path, environment: dict[str, str]) -> None:
    """On stdout stand JSON lines and nothing else; the error is one `Refused` there, or stands on stderr."""
    write(project, case.files)
    done = refused(case.words, project, environment, "json")
    story = f"{done.returncode}\n-- stdout\n{done.stdout}\n-- stderr\n{done.stderr}"
    assert done.returncode == 2, story
    assert "Traceback" not in done.stdout + done.stderr, story
    events = objects(done.stdout)
    told = [each for each in events if each["event"] == "Refused"]
    assert len(told) <= 1, story
    for each in told:
        assert is_spoken(case, each["problem"] + " " + each["remedy"]), story
        assert each["code"] == 2, story
    assert told or is_spoken(case, done.stderr), story
    assert not [each for each in events if each["event"] in {"WorkerFailed", "PlaceholderShown", "WorkerReady"}], story


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_refused_start_leaves_no_listener(log_format: str, project: Path, environment: dict[str, str]) -> None:
    write(project, {})
    port = free_port()
    done = refused(["main:nothing", "--port", str(port)], project, environment, log_format)
    assert done.returncode == 2, done.stdout + done.stderr
    assert port not in listening()


def test_a_config_that_is_not_utf_8(project: Path, environment: dict[str, str]) -> None:
    write(project, {})
    (project / "devsup.toml").write_bytes(b'[services.web]\ncommand = "\xff"\n')
    done = refused(["main:app"], project, environment, "text")
    assert done.returncode == 2
    assert re.search(r"devsup\.toml:2: .*UTF-8.*Save the file as UTF-8", done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_watch_is_refused_before_the_program_runs(project: Path, environment: dict[str, str]) -> None:
    """What is refused for its options has not been started."""
    write(project, {"touch.py": "open('ran', 'w').close()\n"})
    done = refused(["--watch", "nosuch/**", "python", "touch.py"], project, environment, "text")
    assert done.returncode == 2
    assert not (project / "ran").exists()
    assert refused(["python", "touch.py"], project, environment, "text").returncode == 0
    assert (project / "ran").exists()


def test_a_module_that_fails_for_its_own_reasons_is_not_called_missing(project: Path, environment: dict[str, str]) -> None:
    """An import error inside the app is the program's failure: the traceback is shown, and it is no usage error."""
    write(project, {"broken.py": "import no_such_package_of_the_app\n"})
    done = refused(["--exit-on-failure", "broken:app"], project, environment, "text")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No module named 'no_such_package_of_the_app'" in done.stderr
    assert "There is no module 'broken'" not in done.stdout + done.stderr


def listening() -> set[int]:
    """All TCP ports that somebody listens on."""
    ports: set[int] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if table.exists():
            rows = (line.split() for line in table.read_text().splitlines()[1:])
            ports |= {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
    return ports


def test_a_broken_save_while_a_worker_boots_breaks_nothing(devsup: Callable[..., Run], project: Path) -> None:
    """What has just been loaded serves on; the broken file is named, and the fix brings the next worker."""
    port = free_port()
    save(project / "main.py", ASGI)
    run = devsup("main:app", "--port", str(port))
    run.ready()
    slow = ASGI.replace("asgi", "second") + "\nimport time\nprint('it', 'boots', flush=True)\ntime.sleep(0.7)\n"
    save(project / "main.py", slow)
    run.wait_for_line("it boots")
    save(project / "main.py", ASGI + "\nthis is no python\n")
    run.ready(2)
    broken = run.wait_for("SyntaxBroken")
    assert [Path(each["path"]).name for each in broken["files"]] == ["main.py"]
    assert fetch(port) == (200, "second")
    assert not run.all("WorkerFailed"), run.story()
    save(project / "main.py", ASGI.replace("asgi", "the third"))
    run.wait_for("Reloaded", 2)
    assert fetch(port) == (200, "the third")
    assert run.stop() == 0
