"""How workers, and devsup itself, come to their end: what is said of it, which exit code it has, and that nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness import LIMIT, Event, Run, fetch, save, thinned, wait_until

Start = Callable[..., Run]

ASGI = """
import asyncio
import os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

VERSION = "@VERSION@"

async def home(request):
    return PlainTextResponse(VERSION)

async def end(request):
    os._exit(int(request.query_params["code"]))

async def held(request):
    print("begins", flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    return PlainTextResponse("held " + VERSION)

app = Starlette(routes=[Route("/", home), Route("/end", end), Route("/held", held)])
"""

WSGI = """
import os
import time
from flask import Flask, request

VERSION = "@VERSION@"
app = Flask(__name__)

@app.get("/")
def home():
    return VERSION

@app.get("/end")
def end():
    os._exit(int(request.args["code"]))

@app.get("/held")
def held():
    print("begins", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    return "held " + VERSION
"""

# What a worker leaves behind when nobody looks after it; each writes its pid to a file.
OFFSPRING = """
import os
import pathlib
import signal
import subprocess
import sys

SLEEPS = '''
import os, pathlib, signal, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if sys.argv[2] == "daemon":
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
path = pathlib.Path(sys.argv[1])
path.with_suffix(".new").write_text(str(os.getpid()))
path.with_suffix(".new").rename(path)
time.sleep(600)
'''

def offspring(tag):
    here = pathlib.Path.cwd()
    for kind in ("child", "session", "stubborn", "daemon"):
        words = [sys.executable, "-c", SLEEPS, str(here / f"{kind}.{tag}.pid"), kind]
        subprocess.Popen(words, start_new_session=kind in ("session", "stubborn"), stdin=subprocess.DEVNULL)
"""
KINDS = ("child", "session", "stubborn", "daemon")

IGNORES = """
import os
import signal
import time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ignores", os.getpid(), flush=True)
time.sleep(120)
"""


class App:
    """The app of one test: its code by version, and devsup in front of it."""

    def __init__(self, start: Start, project: Path, port: int, server: str) -> None:
        self._start, self.project, self.port, self.server = start, project, port, server
        self.main = project / "main.py"
        self.save(1)

    def save(self, version: int, before: str = "") -> None:
        """Write this version of its code."""
        source = WSGI if self.server == "flask" else ASGI
        save(self.main, before.replace("@VERSION@", label(version)) + source.replace("@VERSION@", label(version)))

    def start(self, *options: str) -> Run:
        """Start it, in whatever state it is."""
        uvicorn = ["uvicorn", "main:app", "--port", str(self.port)]
        flask = ["flask", "--app", "main", "run", "--port", str(self.port)]
        return self._start(*(flask if self.server == "flask" else uvicorn), options=list(options))

    def script(self) -> Run:
        """Start its file, which serves by itself."""
        return self._start("python", "main.py")

    def run(self, *options: str) -> Run:
        """Start it, and wait until it serves."""
        run = self.start(*options)
        run.ready()
        assert fetch(self.port) == (200, label(1))
        return run

    @contextmanager
    def holding(self, run: Run) -> Iterator[socket.socket]:
        """A request that is worked on until the file `go` is there."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT) as sock:
            sock.sendall(b"GET /held HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            run.wait_for_line("begins")
            yield sock


@pytest.fixture(params=["uvicorn", "flask"])
def app(devsup: Start, project: Path, port: int, request: pytest.FixtureRequest) -> App:
    """The app, on each server."""
    return App(devsup, project, port, request.param)


@pytest.fixture
def asgi(devsup: Start, project: Path, port: int) -> App:
    """The app, on uvicorn."""
    return App(devsup, project, port, "uvicorn")


def label(version: int) -> str:
    """Each of another length: a compiled file of the version before is never taken for this one's."""
    return f"v{version}" + "." * version


def kill(run: Run, generation: int, number: int = signal.SIGKILL) -> Event:
    """Signal that worker, which serves; the event of its end."""
    os.kill(run.ready(generation)["pid"], number)
    return run.wait_for("WorkerExited", generation=generation)


def alive(pid: int) -> bool:
    """Whether it runs; one that is dead and not yet waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return not Path("/proc/self").exists()


def can_listen(port: int) -> bool:
    """Whether a server could start on this port now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            return False
    return True


# -- a worker dies ----------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_noticed_and_started_again(app: App) -> None:
    run = app.run()
    exited = kill(run, 1)
    assert exited["exit"] == {"code": None, "signal": 9}
    assert not exited["expected"]
    assert exited["served"] > 0
    scheduled = run.wait_for("RestartScheduled")
    assert scheduled["crashes"] == 1
    assert fetch(app.port) == (200, label(1)), "who comes meanwhile waits, and is served"
    assert run.ready(2)["pid"] != exited["pid"]
    told = [
        each["event"]
        for each in run.events
        if each["event"] in {"WorkerExited", "RestartScheduled", "WorkerSpawned", "WorkerReady"}
    ]
    assert told == ["WorkerSpawned", "WorkerReady", "WorkerExited", "RestartScheduled", "WorkerSpawned", "WorkerReady"]
    assert not run.all("ReloadStarted")
    assert run.stop() == 0


def test_a_worker_that_ends_by_itself_is_started_again(app: App) -> None:
    run = app.run()
    with suppress(OSError, ValueError):
        fetch(app.port, "/end?code=5")
    assert run.wait_for("WorkerExited", generation=1)["exit"] == {"code": 5, "signal": None}
    run.ready(2)
    assert fetch(app.port) == (200, label(1))


def test_a_request_that_dies_with_its_worker_is_not_sent_again(app: App) -> None:
    """Its client sees the connection end; nobody else's answer comes instead."""
    run = app.run()
    with app.holding(run) as sock:
        kill(run, 1)
        with suppress(ConnectionResetError):
            assert sock.recv(65536) == b""
    run.ready(2)
    assert len([line for line in run.lines() if line == "begins"]) == 1


def test_three_deaths_in_a_minute_wait_for_a_save(app: App) -> None:
    run = app.run()
    for generation in (1, 2, 3):
        kill(run, generation)
    assert run.wait_for("CrashLoop")["crashes"] == 3
    run.wait_for("PlaceholderShown")
    delays = [each["delay"] for each in run.all("RestartScheduled")]
    assert [each["crashes"] for each in run.all("RestartScheduled")] == [1, 2]
    assert 0 < delays[0] < delays[1]
    status, body = fetch(app.port)
    assert status == 503
    assert "SIGKILL" in body
    assert len(run.all("WorkerSpawned")) == 3
    app.save(2)
    run.ready(4)
    assert fetch(app.port) == (200, label(2))


def test_deaths_during_reloads_are_no_crash_loop(asgi: App) -> None:
    """A worker that is told to end has not crashed, however often."""
    run = asgi.run()
    for generation in range(1, 6):
        asgi.save(generation + 1)
        run.ready(generation + 1)
    assert all(each["expected"] for each in run.all("WorkerExited"))
    assert not run.all("RestartScheduled")


def test_a_worker_that_dies_while_a_reload_waits_is_followed_by_the_new_code(app: App) -> None:
    run = app.run()
    with app.holding(run):
        app.save(2)
        run.wait_for("ReloadWaiting")
        kill(run, 1)
    run.ready(2)
    assert fetch(app.port) == (200, label(2))
    assert not run.all("CrashLoop")


def test_a_save_during_the_back_off_starts_at_once(asgi: App) -> None:
    run = asgi.run()
    kill(run, 1)
    kill(run, 2)
    assert run.wait_for("RestartScheduled", 2)["delay"] >= 1
    asgi.save(2)
    run.ready(3)
    assert fetch(asgi.port) == (200, label(2))
    asgi.save(3)
    run.ready(4)
    assert fetch(asgi.port) == (200, label(3))


# -- exit codes -------------------------------------------------------------------------------------------------------


def test_a_program_that_is_done_ends_devsup_with_0(devsup: Start, project: Path) -> None:
    save(project / "done.py", "print('all done')\n")
    run = devsup("python", "done.py")
    assert run.wait() == 0
    assert "all done" in run.lines()
    assert run.all("Stopped")[0]["code"] == 0
    assert len(run.all("WorkerSpawned")) == 1


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(7)", 7),
        ("sys.exit(0)", 0),
        ("os.kill(os.getpid(), 15)", 143),
        ("os.kill(os.getpid(), 9)", 137),
        ("raise OSError", 1),
    ],
)
def test_without_reload_the_programs_exit_code_is_devsups(devsup: Start, project: Path, ending: str, code: int) -> None:
    save(project / "ends.py", f"import os, sys\n{ending}\n")
    assert devsup("python", "ends.py", options=["--reload", "off"]).wait() == code


@pytest.mark.parametrize("code", [0, 7])
def test_without_reload_a_servers_exit_code_is_devsups(app: App, code: int) -> None:
    run = app.run("--reload", "off")
    with suppress(OSError, ValueError):
        fetch(app.port, f"/end?code={code}")
    assert run.wait() == code
    assert can_listen(app.port)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGTERM, 143), (signal.SIGABRT, 134)])
def test_without_reload_a_killed_server_ends_devsup_as_a_shell_would_tell_it(app: App, number: int, code: int) -> None:
    run = app.run("--reload", "off")
    assert kill(run, 1, number)["exit"] == {"code": None, "signal": number}
    assert run.wait() == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_devsup_ends_it_with_0(app: App, number: int) -> None:
    run = app.run()
    run.process.send_signal(number)
    assert run.wait() == 0
    assert run.wait_for("WorkerExited")["expected"]
    stopped = run.wait_for("Stopped")
    assert stopped["code"] == 0
    assert stopped["left"] == []
    assert can_listen(app.port)


def test_ctrl_c_during_the_first_boot_ends_with_0(asgi: App) -> None:
    asgi.save(1, "import time\nprint('boots', flush=True)\ntime.sleep(600)\n")
    run = asgi.start()
    run.wait_for_line("boots")
    run.wait_for("WorkerSpawned")
    assert run.stop() == 0


def test_ctrl_c_while_a_broken_save_is_shown_ends_with_0(asgi: App) -> None:
    run = asgi.run()
    asgi.save(2, "import there_is_no_such_module\n")
    run.wait_for("PlaceholderShown")
    assert run.stop() == 0
    assert can_listen(asgi.port)


def test_ctrl_c_during_the_back_off_ends_with_0(asgi: App) -> None:
    run = asgi.run()
    kill(run, 1)
    kill(run, 2)
    run.wait_for("RestartScheduled", 2)
    assert run.stop() == 0
    assert len(run.all("WorkerSpawned")) == 2


def test_ctrl_c_during_a_drain_lets_the_request_end(app: App) -> None:
    """A stop is no licence to cut: the first Ctrl-C waits, up to the stop limit."""
    (app.project / "devsup.toml").write_text("[services.web]\nstop_timeout = 60\n")
    run = app.run()
    with app.holding(run) as sock:
        app.save(2)
        run.wait_for("ReloadWaiting")
        run.process.send_signal(signal.SIGINT)
        run.wait_for("Stopping")
        (app.project / "go").touch()
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert answer.endswith(f"held {label(1)}".encode())
    assert run.wait() == 0
    assert len(run.all("WorkerSpawned")) == 1


def test_a_second_ctrl_c_during_a_drain_ends_at_once(app: App) -> None:
    (app.project / "devsup.toml").write_text("[services.web]\nstop_timeout = 60\n")
    run = app.run()
    with app.holding(run):
        app.save(2)
        run.wait_for("ReloadWaiting")
        run.process.send_signal(signal.SIGINT)
        run.wait_for("Stopping")
        assert run.stop() == 0
    assert can_listen(app.port)


def test_a_second_ctrl_c_kills_a_program_that_ignores_the_first(devsup: Start, project: Path) -> None:
    (project / "devsup.toml").write_text("[services.web]\nstop_timeout = 60\n")
    save(project / "ignores.py", IGNORES)
    run = devsup("python", "ignores.py")
    run.wait_for_line("ignores")
    run.wait_for("WorkerSpawned")
    run.process.send_signal(signal.SIGINT)
    run.wait_for("Stopping")
    assert run.stop() == 0
    assert run.wait_for("WorkerExited")["exit"] == {"code": None, "signal": 9}


def test_a_program_that_ignores_ctrl_c_is_killed_at_the_stop_limit(devsup: Start, project: Path) -> None:
    (project / "devsup.toml").write_text("[services.web]\nstop_timeout = 0.3\n")
    save(project / "ignores.py", IGNORES)
    run = devsup("python", "ignores.py")
    run.wait_for_line("ignores")
    run.wait_for("WorkerSpawned")
    assert run.stop() == 0
    assert run.wait_for("WorkerExited")["exit"] == {"code": None, "signal": 9}


# -- nothing is left --------------------------------------------------------------------------------------------------


class Offspring:
    """A worker with children, of every kind that tends to be left behind."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.save(1)

    def save(self, version: int) -> None:
        """Write this version; each generation's pids go to files of their own."""
        self.app.save(version, OFFSPRING + '\noffspring("@VERSION@")\n')

    def pids(self, version: int) -> list[int]:
        """Those of this version, when all are there."""
        files = [self.app.project / f"{kind}.{label(version)}.pid" for kind in KINDS]
        wait_until(lambda: all(file.exists() for file in files))
        pids = [int(file.read_text()) for file in files]
        assert all(alive(pid) for pid in pids)
        return pids


def gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: not any(alive(pid) for pid in pids)


@pytest.fixture
def offspring(asgi: App) -> Offspring:
    """Its app is on uvicorn, not yet started."""
    return Offspring(asgi)


def test_no_descendant_outlives_a_stop(offspring: Offspring) -> None:
    """Neither one in a session of its own, nor a daemon, nor one that ignores SIGTERM; it is told who had to be ended."""
    run = offspring.app.run()
    pids = offspring.pids(1)
    assert run.stop() == 0
    assert gone(pids)()
    assert set(run.wait_for("Stopped")["left"]) == set(pids)


def test_no_descendant_outlives_a_reload(offspring: Offspring) -> None:
    run = offspring.app.run()
    old = offspring.pids(1)
    offspring.save(2)
    run.ready(2)
    wait_until(gone(old), 5)
    new = offspring.pids(2)
    assert run.stop() == 0
    assert gone(new)()


def test_no_descendant_outlives_a_killed_worker(offspring: Offspring) -> None:
    run = offspring.app.run()
    old = offspring.pids(1)
    for file in offspring.app.project.glob("*.pid"):
        file.unlink()
    kill(run, 1)
    run.ready(2)
    wait_until(gone(old), 5)


def test_a_killed_devsup_leaves_nothing(offspring: Offspring) -> None:
    """Nobody can catch SIGKILL, so somebody else has to look after what it leaves."""
    run = offspring.app.run()
    pids = [*offspring.pids(1), run.ready()["pid"]]
    run.process.kill()
    run.wait()
    wait_until(gone(pids), 5)
    assert can_listen(offspring.app.port)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_devsup_that_is_ended_while_it_still_starts_itself_leaves_nothing(devsup: Start, project: Path, number: int) -> None:
    """The program runs before devsup has finished to import its own parts."""
    save(project / "quick.py", IGNORES)
    run = devsup("python", "quick.py")
    pid = int(run.wait_for_line("ignores ")["line"].split()[1])
    run.process.send_signal(number)
    try:
        code = run.wait()
        wait_until(gone([pid]), 5)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert code == (-9 if number == signal.SIGKILL else 0)


@pytest.mark.parametrize("moment", ["boot", "drain", "broken"])
def test_a_devsup_that_is_killed_at_a_bad_moment_leaves_nothing(asgi: App, moment: str) -> None:
    if moment == "boot":
        asgi.save(1, "import os, time\nprint('boots', flush=True)\ntime.sleep(600)\n")
        run = asgi.start()
        run.wait_for_line("boots")
    else:
        run = asgi.run()
    with socket.socket() if moment != "drain" else socket.create_connection(("127.0.0.1", asgi.port)) as sock:
        if moment == "drain":
            sock.sendall(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
            run.wait_for_line("begins")
            asgi.save(2)
            run.wait_for("ReloadWaiting")
        elif moment == "broken":
            asgi.save(2, "import there_is_no_such_module\n")
            run.wait_for("PlaceholderShown")
        run.process.kill()
        run.wait()
    pids = [each["pid"] for each in run.all("WorkerSpawned")]
    wait_until(gone(pids), 5)
    wait_until(lambda: can_listen(asgi.port), 5)


def test_what_is_started_in_a_clean_environment_dies_with_its_group(asgi: App) -> None:
    """It cannot be told by its environment, but it is a child in the worker's own group."""
    child = "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], env={})\n"
    asgi.save(1, child + "print('child', child.pid, flush=True)\n")
    run = asgi.run()
    pid = int(run.wait_for_line("child ")["line"].split()[1])
    assert alive(pid)
    assert run.stop() == 0
    assert gone([pid])()


# -- why ---------------------------------------------------------------------------------------------------------------

CAUSES = {
    "syntax": ("app = (\n", "main.py:1 does not compile: '(' was never closed"),
    "module": ("import nosuchpackage\n", "Module nosuchpackage is not installed in "),
    "setting": ("import os\nos.environ['NO_SUCH_SETTING']\n", "The environment has no NO_SUCH_SETTING (main.py:2)"),
    "native": ("import os\nos.abort()\n", "It crashed in native code (SIGABRT: Aborted) in main.py:2"),
}


@pytest.mark.parametrize("kind", thinned(CAUSES))
def test_why_it_did_not_start_is_said_and_the_next_save_mends_it(app: App, kind: str) -> None:
    before, cause = CAUSES[kind]
    app.save(1, before)
    run = app.start()
    found = run.wait_for("Diagnosed", generation=1)["diagnosis"]
    assert found["cause"].startswith(cause)
    run.wait_for("WorkerFailed")
    app.save(2)
    run.ready(run.wait_for("WorkerReady")["generation"])
    assert fetch(app.port) == (200, label(2))
    assert len(run.all("Diagnosed")) == 1


def test_why_it_died_while_it_served_is_said(app: App) -> None:
    run = app.run()
    kill(run, 1, signal.SIGSEGV)
    found = run.wait_for("Diagnosed")["diagnosis"]
    assert found["cause"].startswith("It crashed in native code (SIGSEGV: Segmentation fault) in ")
    assert " s of service" in found["cause"]
    run.ready(2)


def test_who_asks_while_nothing_runs_is_told_why(asgi: App) -> None:
    run = asgi.run()
    asgi.save(2, "import nosuchpackage\n")
    run.wait_for("PlaceholderShown")
    status, body = fetch(asgi.port)
    assert status == 503
    assert "Module nosuchpackage is not installed" in body
    assert "-m pip install nosuchpackage" in body


def test_a_program_that_is_done_needs_no_diagnosis(devsup: Start, project: Path) -> None:
    save(project / "done.py", "print('done')\n")
    run = devsup("python", "done.py")
    assert run.wait() == 0
    assert not run.all("Diagnosed")


# -- the port is taken ------------------------------------------------------------------------------------------------

HOLDER = textwrap.dedent("""
    import socket, sys, time
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((sys.argv[1], int(sys.argv[2])))
    sock.listen()
    print("listens", flush=True)
    time.sleep(600)
""")


@contextmanager
def held(port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Another process listens on that port; its pid."""
    words = [sys.executable, "-c", HOLDER, host, str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "listens\n"
            yield holder.pid
            assert holder.poll() is None, "it is none of devsup's business to end it"
        finally:
            holder.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_names_its_holder(asgi: App, host: str) -> None:
    """The program itself finds out, as it binds: nobody else knows its port."""
    save(asgi.main, ASGI + f"\nimport uvicorn\nuvicorn.run(app, port={asgi.port})\n")
    with held(asgi.port, host) as pid:
        run = asgi.script()
        assert run.wait() == 1
    (refused,) = run.all("Refused")
    assert f"pid {pid}" in refused["problem"]
    assert f"{asgi.port}" in refused["problem"]
    assert f"devsup port {asgi.port} --free" in refused["remedy"]
    assert refused["code"] == 1
    assert not run.all("PlaceholderShown")
    assert len(run.all("WorkerSpawned")) == 1


def test_a_second_devsup_on_the_same_port_is_refused_and_the_first_goes_on(app: App) -> None:
    first = app.run()
    second = app.start()
    assert second.wait() == 1
    assert len(second.all("Refused")) == 1
    assert fetch(app.port) == (200, label(1))
    app.save(2)
    first.ready(2)
    assert fetch(app.port) == (200, label(2))


def test_the_port_is_free_for_the_next_start_at_once(app: App) -> None:
    for _ in range(3):
        run = app.run()
        assert run.stop() == 0


def test_a_module_of_the_environment_that_is_not_used_is_told(devsup: Start, project: Path, port: int) -> None:
    packages = project / ".venv" / "lib" / "python3.11" / "site-packages" / "onlythere"
    packages.mkdir(parents=True)
    save(project / ".venv" / "pyvenv.cfg", "home = /usr/bin\n")
    save(project / "main.py", "import onlythere\n" + ASGI)
    run = devsup("uvicorn", "main:app", "--port", str(port), options=["--python", sys.executable])
    found = run.wait_for("Diagnosed")["diagnosis"]
    assert found["cause"].startswith("Module onlythere is installed in .venv, but ")
    assert found["remedy"] == "devsup run --python .venv …"
