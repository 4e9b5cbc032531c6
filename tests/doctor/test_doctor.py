"""The command: its lines as they come, JSON, exit codes; nothing secret, no traceback."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devsup import doctor
from devsup.doctor import CHECKS, Finding, Project
from devsup.show.findings import as_text, summary
from devsup.system import keeper
from harness import Answer, Event, save, wait_until

Ask = Callable[..., Answer]

APP = "async def app(scope, receive, send): pass\n"
SECRET = "hunter2-hunter2"


def verdicts(answer: Answer) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in answer.json["findings"]:
        found.setdefault(each["name"], set()).add(each["verdict"])
    return found


def lines(answer: Answer) -> list[str]:
    """But for the remedies."""
    return [line for line in answer.out.splitlines() if not line.startswith(" ")]


def test_a_project_that_is_well(ask: Ask, project: Path) -> None:
    save(project / "main.py", APP)
    answer = ask("doctor", "uvicorn", "main:app")
    assert (answer.code, answer.err) == (0, "")
    *shown, total = lines(answer)
    names = [line.split()[1] for line in shown]
    assert list(dict.fromkeys(names)) == [name for name, _ in CHECKS], "every check says something, in their order"
    assert not [line for line in shown if line.startswith("fail")]
    assert " ok" in total
    assert "\x1b" not in answer.out
    assert "could not be found out" not in answer.out


def test_an_empty_folder_is_well(ask: Ask) -> None:
    answer = ask("doctor")
    assert (answer.code, answer.err) == (0, "")
    assert "could not be found out" not in answer.out


def test_a_folder_that_is_gone(project: Path, environment: dict[str, str]) -> None:
    (project / "gone").mkdir()
    command = ["sh", "-c", 'rmdir ../gone; exec "$0" -P -m devsup doctor', sys.executable]
    done = subprocess.run(command, cwd=project / "gone", env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("devsup: The folder that this shell is in is gone.")


def test_one_that_is_not(ask: Ask, project: Path) -> None:
    save(project / "main.py", "(\n")
    answer = ask("doctor", "main:app")
    assert answer.code == 1
    assert "fail  syntax       main.py:1: '(' was never closed.\n                   → Correct that line.\n" in answer.out
    assert lines(answer)[-1].endswith("2 failures")


def test_a_warning_is_no_failure(ask: Ask, project: Path) -> None:
    save(project / "main.py", APP)
    save(project / ".env.example", "NOWHERE_URL=\n")
    answer = ask("doctor", "--json", "main:app")
    assert (answer.code, answer.json["ok"], verdicts(answer)["environment"]) == (0, True, {"warn"})


def test_json(ask: Ask, project: Path) -> None:
    save(project / "devsup.toml", '[services.web]\ntarget = "main:app"\nenv_files = ["dev.env"]\n')
    save(project / "main.py", "import nowhere_to_be_found\n")
    answer = ask("doctor", "--json")
    assert (answer.code, answer.json["ok"]) == (1, False)
    found = verdicts(answer)
    assert list(found) == [name for name, _ in CHECKS]
    assert (found["app"], found["environment"], found["syntax"]) == ({"fail"}, {"fail"}, {"ok"})
    assert all(set(each) == {"name", "verdict", "text", "remedy"} for each in answer.json["findings"])


def test_a_config_that_is_wrong_is_one_line_of_many(ask: Ask, project: Path) -> None:
    save(project / "devsup.toml", "[services.web\n")
    answer = ask("doctor", "--json")
    assert (answer.code, verdicts(answer)["config"]) == (1, {"fail"})
    assert list(verdicts(answer)) == [name for name, _ in CHECKS]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--python", "nowhere"), 'No Python was found for "nowhere"'),
        (("--cwd", "nowhere"), "There is no folder nowhere."),
        (("--nonsense",), "No such option"),
    ],
)
def test_a_wrong_command_line_is_told_at_once(ask: Ask, words: tuple[str, ...], problem: str) -> None:
    answer = ask("doctor", *words)
    assert (answer.code, answer.out) == (2, "")
    assert problem in answer.err


def test_another_folder_and_the_options_of_the_command(ask: Ask, project: Path) -> None:
    (project / "api").mkdir()
    save(project / "api" / "main.py", APP)
    answer = ask("doctor", "--json", "--cwd", "api", "uvicorn", "main:app", "--json")
    assert verdicts(answer)["app"] == {"ok"}


def test_without_a_home(ask: Ask, project: Path, environment: dict[str, str]) -> None:
    save(project / "main.py", APP)
    del environment["HOME"]
    answer = ask("doctor", "main:app")
    assert (answer.code, answer.err) == (0, "")


def test_no_secret_is_shown(ask: Ask, project: Path, environment: dict[str, str]) -> None:
    environment["DATABASE_PASSWORD"] = SECRET
    save(project / ".env.example", f"API_KEY={SECRET}\n")
    save(project / "main.py", "import os\nraise ValueError(f\"no {os.environ['DATABASE_PASSWORD']}\")\n")
    for options in ((), ("--json",)):
        answer = ask("doctor", *options, "main:app")
        assert answer.code == 1
        assert SECRET not in answer.out + answer.err
        assert "ValueError: no •••" in answer.out


def test_what_a_file_says_does_not_reach_the_terminal(ask: Ask, project: Path) -> None:
    save(project / "main.py", "raise ValueError('\\x1b[2J\\x07 bell')\n")
    answer = ask("doctor", "main:app")
    assert "bell" in answer.out
    assert not set("\x1b\x07") & set(answer.out)


def test_a_check_that_fails_itself_is_a_warning(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Project) -> Iterator[Finding]:
        yield Finding("one", "ok", "So far it went.")
        raise PermissionError(13, "Permission denied", "/proc/1")

    monkeypatch.setattr(doctor, "CHECKS", (("one", broken), ("two", lambda _: iter([Finding("two", "ok", "And on.")]))))
    found = list(doctor.examine(Project(project)))
    assert [(each.name, each.verdict) for each in found] == [("one", "ok"), ("one", "warn"), ("two", "ok")]
    assert found[1].text == "This could not be found out: PermissionError: [Errno 13] Permission denied: '/proc/1'."


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["colours", "NO_COLOR"])
def test_on_a_terminal_each_line_comes_as_it_is_found(
    project: Path, environment: dict[str, str], variables: dict[str, str]
) -> None:
    gate = project / "gate"
    os.mkfifo(gate)
    save(project / "main.py", f"open('gate').read()\n{APP}")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "devsup", "doctor", "main:app"]
    env = {**environment, **variables, "TERM": "xterm"}
    env = {key: value for key, value in env.items() if key != "NO_COLOR" or variables}
    with subprocess.Popen(command, cwd=project, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"interpreter" not in shown:
            shown += os.read(ours, 65536)
        assert b" app " not in shown
        assert process.poll() is None, "it imports, and waits"
        with gate.open("w"):
            pass
        assert process.wait(60) == 0
    while b"devsups" not in shown:
        shown += os.read(ours, 65536)
    os.close(ours)
    assert (b"\x1b[32mok  \x1b[0m" in shown) == (not variables)


WAITS = """
import os, threading
open("pid.new", "w").write(str(os.getpid()))
os.rename("pid.new", "pid")
threading.Event().wait()
"""


def test_when_it_is_interrupted_nothing_is_left(project: Path, environment: dict[str, str]) -> None:
    save(project / "main.py", f"{WAITS}{APP}")
    command = [sys.executable, "-m", "devsup", "doctor", "main:app"]
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until((project / "pid").exists)
        pid = int((project / "pid").read_text())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert b"Traceback" not in err
    wait_until(lambda: not keeper.lives(pid, keeper.start_of(pid)), 5)


# The lines


def test_a_line_and_its_remedy() -> None:
    finding: Event = {"name": "app", "verdict": "warn", "text": "It is late.", "remedy": "Go home."}
    assert as_text(finding, colour=False) == "warn  app          It is late.\n                   → Go home.\n"
    coloured = as_text({**finding, "remedy": ""}, colour=True)
    assert coloured == "\x1b[33mwarn\x1b[0m  app          It is late.\n"


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (["ok", "ok"], "2 ok\n"),
        (["ok", "warn"], "1 ok, 1 warning\n"),
        (["warn", "warn", "fail"], "0 ok, 2 warnings, 1 failure\n"),
        (["fail", "fail"], "0 ok, 2 failures\n"),
    ],
)
def test_the_last_line_counts(verdicts: list[str], text: str) -> None:
    assert summary([{"verdict": each} for each in verdicts]) == text
