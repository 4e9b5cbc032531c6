"""What earlier runs have left: real devsups that were killed, real processes that carry a token."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from devsup.doctor import Finding
from devsup.doctor import leftovers as module
from devsup.doctor.leftovers import devsups, leftovers
from devsup.system import keeper
from harness import Run, fetch, save, wait_until

Examine = Callable[..., list[Finding]]
Start = Callable[..., Run]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"there"})
"""
RUN = "0123456789abcdef"


@contextmanager
def process(token: str, link: str = "", program: str = sys.executable) -> Iterator[int]:
    """A process that carries this token; it runs until the end of the block, if nobody ends it before."""
    env = {**os.environ, "DEVSUP_TOKEN": token, "DEVSUP_LINK": link}
    words = [program, "-c", "import sys; print('runs', flush=True); sys.stdin.read()"]
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "runs\n"
        try:
            yield child.pid
        finally:
            child.kill()


def about(pid: int, findings: list[Finding]) -> list[Finding]:
    """Those that name this process: other tests leave theirs meanwhile."""
    return [each for each in findings if f"pid {pid}," in each.text or f"pid {pid})" in each.text]


def lives(pid: int) -> bool:
    return keeper.lives(pid, keeper.start_of(pid))


def kill_devsup(run: Run) -> None:
    """As the machine's want of memory might: together with its keeper."""
    pid = run.process.pid
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        if b"keeper.py" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(child, signal.SIGKILL)
    run.process.kill()
    run.process.wait()


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A runtime folder of this test's own; the path of a socket must be short."""
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def runtime(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, and nothing is to be seen of other tests' processes."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(elsewhere))
    monkeypatch.setattr(module, "_orphans", lambda: iter(()))
    return elsewhere


# Processes


def test_a_process_of_a_devsup_that_is_gone_is_a_warning_and_the_remedy_ends_it(examine: Examine) -> None:
    with process(f"{RUN}.1-00000002") as pid:
        [found] = about(pid, examine(leftovers))
        assert found.verdict == "warn"
        assert found.text.startswith("A devsup that is gone has left python")
        assert found.remedy == f"kill {pid}"
        subprocess.run(found.remedy, shell=True, check=True, timeout=20)
        wait_until(lambda: not lives(pid), 10)
        assert not about(pid, examine(leftovers))


def test_a_process_of_nobody_is_none(examine: Examine) -> None:
    with process("") as pid:
        assert not about(pid, examine(leftovers))


def test_what_was_opened_for_the_user_is_none(examine: Examine, tmp_path: Path) -> None:
    editor = tmp_path / "firefox"
    editor.symlink_to(Path(sys.executable).resolve())
    with ExitStack() as stack:
        pid = stack.enter_context(process(f"{RUN}-00000001", program=str(editor)))
        assert not about(pid, examine(leftovers))


def test_a_process_of_a_devsup_that_runs_is_none(devsup: Start, examine: Examine, folder: Path, port: int) -> None:
    save(folder / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    worker = run.ready()["pid"]
    assert not about(worker, examine(leftovers))


def test_nor_of_one_whose_runtime_folder_is_elsewhere(
    elsewhere: Path, devsup: Start, examine: Examine, folder: Path, port: int
) -> None:
    save(folder / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port), env={"XDG_RUNTIME_DIR": str(elsewhere)})
    worker = run.ready()["pid"]
    assert list(elsewhere.glob("devsup-*/owner"))
    assert not about(worker, examine(leftovers))


def test_nor_of_one_whose_record_somebody_has_removed(
    devsup: Start, examine: Examine, folder: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(folder / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    worker = run.ready()["pid"]
    place = Path(Path(f"/proc/{worker}/environ").read_text().partition("DEVSUP_LINK=")[2].partition("\0")[0]).parent
    monkeypatch.setattr(module, "_YOUNG", 0)
    (folder / ".devsup").rename(folder.parent / "gone")  # as `git clean -fdx` does
    found = examine(leftovers)
    assert not about(worker, found)
    assert str(place) not in "".join(each.text for each in found)


def test_nor_one_that_a_doctor_has_started(examine: Examine) -> None:
    with process(f"doctor{os.getpid()}.{RUN}-") as pid:
        assert not about(pid, examine(leftovers))
    with process(f"doctor{2**22 + 1}.{RUN}-") as pid:
        assert about(pid, examine(leftovers)), "the doctor itself is gone"


def test_who_has_called_the_doctor_is_none(project: Path, environment: dict[str, str]) -> None:
    words = ["sh", "-c", '"$0" -m devsup doctor; exit 0', sys.executable]
    env = {**environment, "DEVSUP_TOKEN": f"{RUN}-00000001"}
    with subprocess.Popen(words, cwd=project, env=env, stdout=subprocess.PIPE, text=True) as shell:
        out = shell.communicate(timeout=60)[0]
    assert "leftovers" in out
    assert f"pid {shell.pid}," not in out


def test_the_workers_of_a_devsup_that_was_killed_are_a_warning(
    elsewhere: Path, devsup: Start, examine: Examine, folder: Path, port: int
) -> None:
    save(folder / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port), env={"XDG_RUNTIME_DIR": str(elsewhere)})
    worker = run.ready()["pid"]
    kill_devsup(run)
    assert fetch(port)[1] == "there"
    words = ("uvicorn", "main:app", "--port", str(port))
    [found] = about(worker, examine(leftovers, *words))
    assert found.verdict == "warn"
    assert found.text.startswith(f"Service app of a devsup that was killed (pid {run.process.pid}) still runs: ")
    kill = found.remedy.rpartition(": ")[2]
    assert str(worker) in kill.split()
    subprocess.run(kill, shell=True, check=True, timeout=20)
    wait_until(lambda: not lives(worker), 10)
    wait_until(lambda: not any("Service app of a devsup" in each.text for each in examine(leftovers, *words)), 10)


# Folders


def test_nothing_is_left(examine: Examine, runtime: Path) -> None:
    [found] = examine(leftovers)
    assert found.verdict == "ok"
    assert str(runtime) not in found.text


def test_a_folder_of_a_devsup_that_is_gone_is_told_and_does_no_harm(examine: Examine, runtime: Path) -> None:
    dead, young, other = runtime / f"devsup-{RUN}", runtime / f"devsup-{RUN[::-1]}", runtime / "devsup-0"
    for folder in (dead, young, other):
        folder.mkdir()
    (dead / "owner").symlink_to("/nowhere/app.lock")
    for folder in (dead, other):
        os.utime(folder, (time.time() - 60, time.time() - 60))
    [found] = examine(leftovers)
    assert (found.verdict, found.text.startswith("No process is left of earlier runs.")) == ("ok", True)
    told = found.remedy.split()
    assert told[:2] == ["rm", "-r"]
    assert str(dead) in told
    assert not {str(young), str(other)} & set(told)


def test_so_is_a_folder_of_a_check_that_was_killed(examine: Examine, runtime: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    dead, alive = runtime / f"devsup-check-{gone.pid}-abc_1", runtime / f"devsup-check-{os.getpid()}-abc_2"
    for folder in (dead, alive):
        folder.mkdir()
        os.utime(folder, (time.time() - 60, time.time() - 60))
    text = " ".join(each.text + each.remedy for each in examine(leftovers))
    assert str(dead) in text
    assert str(alive) not in text


def test_the_folder_of_a_devsup_that_runs_is_none(
    runtime: Path, devsup: Start, examine: Examine, folder: Path, port: int
) -> None:
    save(folder / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port), env={"XDG_RUNTIME_DIR": str(runtime)})
    run.ready()
    [place] = runtime.glob("devsup-*")
    os.utime(place, (time.time() - 60, time.time() - 60))
    assert not [each for each in examine(leftovers) if str(place) in each.text]


# Other devsups


def test_no_devsup_runs_here(examine: Examine) -> None:
    assert examine(devsups) == [Finding("devsups", "ok", "No devsup runs in this project.")]


def test_a_devsup_that_runs_here_is_told(devsup: Start, examine: Examine, folder: Path, port: int) -> None:
    save(folder / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    wait_until(lambda: f": app, on http://127.0.0.1:{port}" in examine(devsups)[0].text)
    [found] = examine(devsups)
    assert found.verdict == "ok"
    assert found.text.startswith(f"A devsup runs here, pid {run.process.pid}, since ")


def test_the_services_of_a_team_are_told_together(team: Start, examine: Examine, folder: Path) -> None:
    service = 'command = ["python", "-c", "import threading; threading.Event().wait()"]\n'
    run = team(f"[services.web]\n{service}[services.job]\n{service}")
    run.wait_for("WorkerSpawned", count=2)
    [found] = examine(devsups)
    assert f"pid {run.process.pid}, " in found.text
    assert ": job, web." in found.text or ": web, job." in found.text, found
