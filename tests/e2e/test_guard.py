"""One listener per port, one owner per project and service: who is in the way is named, and nothing starts half-way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from harness import LIMIT, Run, fetch, free_port, save, wait_until

Start = Callable[..., Run]

OTHER = textwrap.dedent("""
    import socket, sys, time
    host, port = sys.argv[1], int(sys.argv[2])
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "shares" in sys.argv:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if ":" in host:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    sock.listen()
    print("listens", flush=True)
    time.sleep(600)
""")

FLASK = """
import os, socket, sys
from flask import Flask
app = Flask(__name__)

@app.get("/@ROUTE@")
def found():
    return "from @ROUTE@"

if __name__ == "__main__":
    address = (sys.argv[1], int(sys.argv[2]))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)
    sock.listen()
    os.environ["WERKZEUG_SERVER_FD"] = str(sock.fileno())
    os.environ["WERKZEUG_RUN_MAIN"] = "true"
    print("listens", flush=True)
    app.run(*address)
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"new"})

if __name__ == "__main__":
    import sys, uvicorn
    uvicorn.run(app, host=sys.argv[1], port=int(sys.argv[2]))
"""

needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").is_file(), reason="no IPv6")


@contextmanager
def process(*words: str, cwd: Path, says: str = "listens", env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Another program, once it has said that; ended with the block."""
    with subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as other:
        try:
            assert other.stdout is not None
            assert any(says in line for line in other.stdout)
            yield other
        finally:
            other.kill()


def listener(host: str, port: int, *words: str, cwd: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return process(sys.executable, "-c", OTHER, host, str(port), *words, cwd=cwd)


def command(*words: str, env: dict[str, str], cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """`devsup` with these words, to its end."""
    run = [sys.executable, "-m", "devsup", *words]
    return subprocess.run(run, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


def said(run: Run) -> str:
    """What is said of a start that came to nothing."""
    [refused] = run.all("Refused")
    return f"{refused['problem']} {refused['remedy']}"


def any_ended(runs: list[Run]) -> bool:
    return any(each.process.poll() is not None for each in runs)


def is_free(port: int) -> bool:
    with socket.socket() as sock, suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        return True
    return False


def gone(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


# -- before the start -------------------------------------------------------------------------------------------------

BESIDE = [
    pytest.param("127.0.0.1", "127.0.0.1", id="same"),
    pytest.param("127.0.0.1", "::1", id="localhost-6", marks=needs_ipv6),
    pytest.param("127.0.0.1", "0.0.0.0", id="below-all"),
    pytest.param("127.0.0.1", "::", id="below-all-6", marks=needs_ipv6),
    pytest.param("0.0.0.0", "::1", id="all-and-localhost-6", marks=needs_ipv6),
    pytest.param("0.0.0.0", "127.0.0.1", id="all-and-one"),
]


@pytest.mark.parametrize(("host", "other"), BESIDE)
def test_a_listener_that_clients_could_reach_is_named_before_anything_starts(
    devsup: Start, project: Path, port: int, host: str, other: str
) -> None:
    save(project / "main.py", ASGI)
    with listener(other, port, "shares", cwd=project.parent) as there:
        run = devsup("uvicorn", "main:app", "--host", host, "--port", str(port))
        assert run.wait() == 1
    for text in (f"Port {port} is taken", f"pid {there.pid}", f"folder {project.parent}", "started by python", "next free port"):
        assert text in said(run)
    assert "devsup port" in said(run)
    assert not run.all("WorkerSpawned")
    assert not list((project / ".devsup").glob("*.lock"))


@needs_ipv6
@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "::1"), ("0.0.0.0", "::1")])
def test_where_only_the_program_knows_its_address_it_is_refused_as_it_listens(
    devsup: Start, project: Path, port: int, host: str, other: str
) -> None:
    save(project / "main.py", ASGI)
    with listener(other, port, cwd=project.parent) as there:
        run = devsup("python", "main.py", host, str(port))
        assert run.wait() == 1
    [refused] = run.all("Refused")
    assert f"pid {there.pid}" in refused["problem"]
    assert f"[{other}]:{port}" in refused["problem"]
    assert not run.all("WorkerReady")
    assert is_free(port)


def test_two_flask_processes_that_share_a_port(devsup: Start, project: Path, port: int) -> None:
    """The server of yesterday answers 404 for what only today's has (S5): it is found, ended, and the new one answers."""
    old = FLASK.replace("@ROUTE@", "old")
    save(project / "old.py", old)
    save(project / "new.py", old.replace("old", "new"))
    with process(sys.executable, "old.py", "0.0.0.0", str(port), cwd=project) as there:
        assert fetch(port, "/new")[0] == 404
        run = devsup("python", "new.py", "0.0.0.0", str(port))
        assert run.wait() == 1
        assert f"pid {there.pid}" in run.all("Refused")[0]["problem"]
        done = command("port", str(port), "--free", "--yes", env=dict(os.environ), cwd=project)
        assert (done.returncode, there.wait(LIMIT)) == (0, -signal.SIGTERM)
        assert f"Port {port} is free" in done.stdout
    run = devsup("python", "new.py", "0.0.0.0", str(port))
    run.ready()
    assert fetch(port, "/new")[1] == "from new"


def test_connections_in_time_wait_are_in_nobodys_way(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", ASGI)
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()
        client.close()
    done = command("port", str(port), env=dict(os.environ), cwd=project)
    assert "nobody listens" in done.stdout
    assert "TIME_WAIT" in done.stdout
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()


# -- while it runs ----------------------------------------------------------------------------------------------------


@needs_ipv6
def test_who_comes_to_listen_on_the_other_family_is_named_and_when_it_has_gone(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", ASGI)
    run = devsup("uvicorn", "main:app", "--host", "0.0.0.0", "--port", str(port))
    run.ready()
    with listener("::1", port, cwd=project.parent) as there:
        event = run.wait_for("SecondListener")
        assert (event["pid"], event["where"]) == (there.pid, f"[::1]:{port}")
        assert str(project.parent) in event["holder"]
    assert run.wait_for("SecondListenerGone")["pid"] == there.pid
    assert len(run.all("SecondListener")) == 1


def test_who_comes_to_share_the_port_is_named(devsup: Start, project: Path, port: int) -> None:
    save(project / "new.py", FLASK.replace("@ROUTE@", "new"))
    run = devsup("python", "new.py", "127.0.0.1", str(port))
    run.ready()
    with listener("127.0.0.1", port, "shares", cwd=project.parent) as there:
        assert run.wait_for("SecondListener")["pid"] == there.pid


@needs_ipv6
def test_what_the_service_itself_opens_is_no_second_listener(devsup: Start, project: Path, port: int) -> None:
    """It serves both families, and a child of it shares the port: all are its own."""
    own = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {OTHER!r}, '::1', '{port}'])\n"
    save(project / "main.py", own + ASGI)
    run = devsup("python", "main.py", "0.0.0.0", str(port))
    run.ready()
    run.wait_for_line("listens")
    with listener("::1", port + 1, cwd=project.parent), pytest.raises(AssertionError, match="no SecondListener"):
        run.wait_for("SecondListener", limit=4)
    assert not run.all("Refused")


# -- one owner --------------------------------------------------------------------------------------------------------


def test_a_second_start_names_the_first(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", ASGI)
    words = ["uvicorn", "main:app", "--port", str(port)]
    first = devsup(*words)
    first.ready()
    second = devsup(*words)
    assert second.wait() == 1
    for text in ("runs already", f"pid {first.process.pid}", f"http://127.0.0.1:{port}", "events.jsonl", "--take-over"):
        assert text in said(second)
    [record] = [json.loads(path.read_text()) for path in (project / ".devsup").glob("*.json")]
    assert (record["pid"], record["urls"]) == (first.process.pid, [f"http://127.0.0.1:{port}"])
    assert fetch(port)[1] == "new"
    assert first.stop() == 0
    assert {path.name for path in (project / ".devsup").iterdir()} == {".gitignore", "events.jsonl", "logs"}


def test_another_command_in_the_same_folder_is_another_service(devsup: Start, project: Path) -> None:
    first = devsup("python", "-c", "import time; print('one', flush=True); time.sleep(600)")
    second = devsup("python", "-c", "import time; print('two', flush=True); time.sleep(600)")
    first.wait_for_line("one")
    second.wait_for_line("two")


@pytest.mark.parametrize("rounds", [8, pytest.param(50, marks=pytest.mark.soak)])
def test_of_two_starts_at_the_same_moment_exactly_one_wins(devsup: Start, rounds: int) -> None:
    for _ in range(rounds):
        runs = [devsup("python", "-c", "import time; print('runs', flush=True); time.sleep(600)") for _ in range(2)]
        wait_until(partial(any_ended, runs))
        [loser] = [each for each in runs if each.process.poll() is not None]
        winner = runs[1 - runs.index(loser)]
        winner.wait_for_line("runs")
        assert loser.wait() == 1
        assert f"pid {winner.process.pid}" in said(loser)
        assert not loser.all("WorkerSpawned")
        assert winner.stop() == 0


def test_take_over_ends_the_devsup_that_runs_the_service(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", ASGI)
    words = ["uvicorn", "main:app", "--port", str(port)]
    first = devsup(*words)
    first.ready()
    second = devsup(*words, options=["--take-over"])
    second.ready()
    assert first.wait() == 0
    assert fetch(port)[1] == "new"


def test_take_over_ends_an_older_copy_of_the_command_without_asking(
    devsup: Start, project: Path, port: int, environment: dict[str, str]
) -> None:
    save(project / "main.py", ASGI)
    words = ["-m", "uvicorn", "main:app", "--port", str(port)]
    with process(sys.executable, *words, cwd=project, says="running on", env=environment) as old:
        run = devsup("python", *words)
        assert run.wait() == 1
        assert "older copy of this very command" in said(run)
        run = devsup("python", *words, options=["--take-over"])
        run.ready()
        assert old.wait(LIMIT) in {0, -signal.SIGTERM}


def test_take_over_leaves_a_stranger_alone_where_nobody_can_be_asked(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", ASGI)
    with listener("127.0.0.1", port, cwd=project.parent) as there:
        run = devsup("uvicorn", "main:app", "--port", str(port), options=["--take-over"])
        assert run.wait() == 1
        assert f"pid {there.pid}" in said(run)
        assert there.poll() is None


def test_a_record_that_names_a_stranger_ends_nobody(devsup: Start, project: Path) -> None:
    """Process numbers are given again: a record without its lock, whose numbers are somebody else's by now."""
    words = ["python", "-c", "import time; print('runs', flush=True); time.sleep(600)"]
    run = devsup(*words)
    run.wait_for_line("runs")
    [path] = (project / ".devsup").glob("*.json")
    record = json.loads(path.read_text())
    assert run.stop() == 0
    with process("sh", "-c", "echo listens; exec sleep 600", cwd=project.parent) as stranger:
        path.write_text(json.dumps({**record, "pid": stranger.pid, "workers": {str(stranger.pid): 1}}))
        run = devsup(*words, options=["--take-over"])
        run.wait_for_line("runs")
        assert run.stop() == 0
        assert stranger.poll() is None
        assert not run.all("LeftoversEnded")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', '{"pid": 1, "workers": {}}', "null", "\x00"])
def test_a_record_that_makes_no_sense_is_none(devsup: Start, project: Path, text: str) -> None:
    words = ["python", "-c", "import time; print('runs', flush=True); time.sleep(600)"]
    run = devsup(*words)
    run.wait_for_line("runs")
    [path] = (project / ".devsup").glob("*.json")
    assert run.stop() == 0
    path.write_text(text)
    run = devsup(*words)
    run.wait_for_line("runs")


def test_what_a_devsup_has_left_that_was_killed_with_its_keeper_is_ended_at_the_next_start(
    devsup: Start, project: Path, port: int
) -> None:
    save(project / "main.py", ASGI)
    words = ["uvicorn", "main:app", "--port", str(port)]
    run = devsup(*words)
    worker = run.ready()["pid"]
    for pid in keepers(run.process.pid):
        os.kill(pid, signal.SIGKILL)
    run.process.kill()
    run.process.wait()
    assert fetch(port)[1] == "new"
    again = devsup(*words)
    again.ready()
    assert worker in again.wait_for("LeftoversEnded")["pids"]
    assert gone(worker)


def keepers(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(each) for each in children if b"keeper.py" in Path(f"/proc/{each}/cmdline").read_bytes()]
    assert found
    return found


# -- devsup port ------------------------------------------------------------------------------------------------------


def test_the_table_and_the_record(devsup: Start, project: Path, port: int, environment: dict[str, str]) -> None:
    save(project / "main.py", ASGI)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    with socket.create_connection(("127.0.0.1", port)):
        table = command("port", str(port), env=environment, cwd=project).stdout
        record = json.loads(command("port", str(port), "--json", env=environment, cwd=project).stdout)
    [found] = record["ports"][0]["listeners"]
    [holder] = found["holders"]
    assert (found["address"], holder["pid"], holder["cwd"]) == (f"127.0.0.1:{port}", run.process.pid, str(project))
    assert holder["devsup"]["project"] == str(project)
    assert found["connections"]["established"] >= 1
    for text in (f"127.0.0.1:{port}", str(run.process.pid), "uvicorn main:app", "established", f"app in {project}"):
        assert text in table


def test_the_worker_of_a_devsup_is_not_ended_without_it(
    devsup: Start, project: Path, port: int, environment: dict[str, str]
) -> None:
    """It would be started again. A server without an agent holds its port itself."""
    run = devsup("python", "-I", "-m", "http.server", str(port), "--bind", "127.0.0.1")
    worker = run.ready()["pid"]
    done = command("port", str(port), "--free", "--yes", "--json", env=environment, cwd=project)
    [record] = json.loads(done.stdout)["ports"]
    assert (done.returncode, record["free"]) == (0, True)
    assert {worker, run.process.pid} <= set(record["ended"])
    assert run.wait() == 0


def test_a_process_that_ignores_term_is_killed_and_that_is_said(project: Path, port: int, environment: dict[str, str]) -> None:
    stubborn = OTHER.replace("import socket, sys, time", "import signal, socket, sys, time; signal.signal(15, signal.SIG_IGN)")
    with process(sys.executable, "-c", stubborn, "127.0.0.1", str(port), cwd=project) as there:
        done = command("port", str(port), "--free", "--yes", env=environment, cwd=project)
        assert done.returncode == 0
        assert f"did not listen: {there.pid}" in done.stdout
        assert there.wait(LIMIT) == -signal.SIGKILL


def test_nothing_is_ended_where_nobody_can_be_asked(project: Path, port: int, environment: dict[str, str]) -> None:
    with listener("127.0.0.1", port, cwd=project) as there:
        done = command("port", str(port), "--free", env=environment, cwd=project, stdin=subprocess.DEVNULL)
        assert (done.returncode, there.poll()) == (2, None)
        assert "--yes" in done.stderr


def test_a_free_port_is_said_to_be_free(project: Path, port: int, environment: dict[str, str]) -> None:
    done = command("port", str(port), "--free", "--yes", env=environment, cwd=project)
    assert (done.returncode, done.stdout) == (0, f"devsup: Port {port} is free.\n")


@pytest.mark.parametrize("words", [["0"], ["65536"], ["-1"], ["http"], [], ["80", "--yes"], ["8000", "--fre"]])
def test_what_is_no_port_is_refused_with_two(project: Path, environment: dict[str, str], words: list[str]) -> None:
    done = command("port", *words, env=environment, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


# Whom it leaves alone


def as_other_user(*words: str) -> list[str]:
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *words]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
# Unable to read the virtual environment of the tests, which may be in root's own folder.
SYSTEM_PYTHON = "/usr/bin/python3"


@needs_root
@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason="no Python that every user may run")
def test_the_process_of_another_user_is_left_alone(project: Path, port: int, environment: dict[str, str]) -> None:
    words = as_other_user(SYSTEM_PYTHON, "-c", OTHER, "127.0.0.1", str(port))
    with process(*words, cwd=Path("/")) as there:
        done = command("port", str(port), "--free", "--yes", env=environment, cwd=project)
        assert (done.returncode, there.poll()) == (1, None)
        assert f"Pid {there.pid} is not ended: it belongs to user nobody" in done.stdout


ANCESTOR = """
import socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
done = subprocess.run([sys.executable, "-m", "devsup", "port", sys.argv[1], "--free", "--yes"], capture_output=True, text=True)
print(done.returncode, done.stdout)
"""


def test_who_has_started_this_very_command_is_left_alone(project: Path, port: int, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ANCESTOR, str(port)], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("1 ")
    assert "this command was started by it" in done.stdout


FIRST = """
import os, socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork():
    while True:
        pid, status = os.wait()
        sys.exit(os.waitstatus_to_exitcode(status))
listener.close()
os.setsid()
done = subprocess.run([sys.executable, "-m", "devsup", "port", sys.argv[1], "--free", "--yes"], capture_output=True, text=True)
print(os.getppid(), done.stdout, done.stderr)
sys.exit(done.returncode)
"""


LOOPBACK = "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh22x', b'lo', 1))"


def in_namespaces(*words: str) -> list[str]:
    """As process 1 of a container of its own, with a network of its own."""
    up = 'ip link set lo up 2>/dev/null || "$0" -c "import fcntl, socket, struct; ' + LOOPBACK + '"; exec "$@"'
    return ["unshare", "--pid", "--fork", "--mount-proc", "--net", "--kill-child", "sh", "-c", up, sys.executable, *words]


has_namespaces = subprocess.run(in_namespaces("true"), capture_output=True, check=False).returncode == 0
needs_namespaces = pytest.mark.skipif(not has_namespaces, reason="no namespaces for this user")


@needs_namespaces
def test_process_1_is_left_alone(project: Path, port: int, environment: dict[str, str]) -> None:
    words = in_namespaces(sys.executable, "-c", FIRST, str(port))
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Pid 1 is not ended: it is process 1" in done.stdout


@needs_namespaces
def test_who_cannot_be_seen_is_said_and_not_guessed(project: Path, port: int, environment: dict[str, str]) -> None:
    """Same network, other process namespace: the listener is there, its process is not."""
    with listener("127.0.0.1", port, cwd=project) as there:
        words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        ask = [*words, sys.executable, "-m", "devsup", "port", str(port), "--json"]
        done = subprocess.run(ask, cwd=project, env=environment, capture_output=True, text=True, check=True)
        [found] = json.loads(done.stdout)["ports"][0]["listeners"]
        assert (found["address"], found["holders"]) == (f"127.0.0.1:{port}", [])
        assert "in a container, or has just ended" in found["says"]
        free = [*words, sys.executable, "-m", "devsup", "port", str(port), "--free", "--yes"]
        done = subprocess.run(free, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, there.poll()) == (1, None)


# -- process 1 of a container -----------------------------------------------------------------------------------------

ORPHANS = """
import os, socket, subprocess, sys, time
for _ in range(5):  # of nobody, once their parent has ended
    subprocess.run(["sh", "-c", "sleep 0.1 &"])
server = socket.create_server(("127.0.0.1", 8000))
time.sleep(0.5)
states = {}
for entry in os.listdir("/proc"):
    if entry.isdigit():
        states[entry] = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[0]
print("states", sorted(set(states.values())), "as", os.getppid() > 1, flush=True)
while True:
    server.accept()[0].close()
"""


@needs_namespaces
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_process_1_zombies_are_reaped_and_signals_passed_on(project: Path, environment: dict[str, str], number: int) -> None:
    save(project / "main.py", ORPHANS)
    words = in_namespaces(sys.executable, "-m", "devsup", "run", "--log-format", "json", "python", "main.py")
    run = Run(words, project, environment)
    try:
        line = run.wait_for_line("states")["line"]
        assert "'Z'" not in line
        assert "as True" in line
        run.ready()
        [first] = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
        os.kill(int(first), number)
        assert run.wait() == 0
        assert run.all("Stopped")
    finally:
        run.process.kill()
        run.close()


@needs_namespaces
def test_in_a_network_of_its_own_only_what_listens_there_is_in_the_way(
    project: Path, port: int, environment: dict[str, str]
) -> None:
    """The same port is somebody's outside, and nobody's here."""
    save(project / "main.py", ASGI)
    run = ["run", "--log-format", "json", "uvicorn", "main:app", "--port", str(port)]
    words = in_namespaces(sys.executable, "-m", "devsup", *run)
    with listener("127.0.0.1", port, cwd=project):
        inside = Run(words, project, environment)
        try:
            inside.ready()
            [first] = Path(f"/proc/{inside.process.pid}/task/{inside.process.pid}/children").read_text().split()
            os.kill(int(first), signal.SIGTERM)
            assert inside.wait() == 0
        finally:
            inside.process.kill()
            inside.close()
        done = command(*run, env=environment, cwd=project)
        assert done.returncode == 1


# -- where nothing can be written -------------------------------------------------------------------------------------


@needs_root
def test_in_a_project_that_is_read_only_the_owner_is_known_all_the_same(project: Path, environment: dict[str, str]) -> None:
    """Mounted read-only, in a namespace of mounts: file rights do not stop root."""
    runtime = Path(tempfile.mkdtemp())  # tmp_path is too long for a socket
    script = f"mount --bind -o ro {project} {project}; cd {project}" + textwrap.dedent("""
        "$@" & first=$!
        until ls "$XDG_RUNTIME_DIR"/devsup-0/*.json 2>/dev/null; do sleep 0.05; done
        "$@"; echo "second $?"
        kill $first; wait $first; echo "first $?"
        ls "$XDG_RUNTIME_DIR"/devsup-0
    """)
    run = [sys.executable, "-m", "devsup", "run", "sleep", "600"]
    words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", *run]
    env = {**environment, "XDG_RUNTIME_DIR": str(runtime)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "second 1" in done.stdout, done.stderr
    assert "first 0" in done.stdout
    assert "runs already: devsup, pid" in done.stderr
    assert not list((runtime / "devsup-0").iterdir())
    assert not (project / ".devsup").exists()
    shutil.rmtree(runtime)


def test_a_runtime_folder_whose_path_is_too_long_for_a_socket_is_not_used(devsup: Start, tmp_path: Path) -> None:
    runtime = tmp_path / ("x" * 100)
    runtime.mkdir(mode=0o700)
    run = devsup("python", "-c", "print('runs')", env={"XDG_RUNTIME_DIR": str(runtime)})
    assert run.wait() == 0
    assert run.lines() == ["runs"]


# -- what a review had found ------------------------------------------------------------------------------------------

PIPELINE = "import os, time\nif os.fork():\n    os._exit(0)\nprint('listens', os.getpid(), flush=True)\ntime.sleep(600)\n"


def test_the_group_of_a_leader_that_has_gone_is_somebody_elses_without_the_token(devsup: Start, project: Path) -> None:
    """A shell's pipeline whose first process has ended has the number that a worker once had."""
    words = ["python", "-c", "import time; print('runs', flush=True); time.sleep(600)"]
    run = devsup(*words)
    run.wait_for_line("runs")
    [path] = (project / ".devsup").glob("*.json")
    record = json.loads(path.read_text())
    assert run.stop() == 0
    with subprocess.Popen(
        [sys.executable, "-c", PIPELINE], stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=project.parent
    ) as leader:
        assert leader.stdout is not None
        survivor = int(leader.stdout.readline().split()[1])
        leader.wait()
        path.write_text(json.dumps({**record, "pid": leader.pid, "workers": {str(leader.pid): 5}}))
        try:
            run = devsup(*words)
            run.wait_for_line("runs")
            assert not gone(survivor)
            assert not run.all("LeftoversEnded")
        finally:
            os.kill(survivor, signal.SIGKILL)


OPTIONAL = """
import http.server, socket, sys
main, metrics = int(sys.argv[1]), int(sys.argv[2])
server = http.server.HTTPServer(("127.0.0.1", main), http.server.BaseHTTPRequestHandler)
try:
    extra = socket.create_server(("127.0.0.1", metrics))
except OSError:
    print("goes without", flush=True)
server.serve_forever()
"""


@needs_ipv6
@pytest.mark.parametrize("other", ["127.0.0.1", "::1"])
def test_a_second_port_that_the_program_can_do_without_ends_nothing(devsup: Start, project: Path, port: int, other: str) -> None:
    save(project / "main.py", OPTIONAL)
    metrics = free_port()
    with listener(other, metrics, cwd=project.parent):
        run = devsup("python", "main.py", str(port), str(metrics))
        run.ready()
        assert run.stop() == 0
    assert not run.all("Refused")


FALLS_BACK = """
import http.server, sys
for port in map(int, sys.argv[1:]):
    try:
        server = http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler)
        break
    except OSError:
        continue
server.serve_forever()
"""


def test_a_program_that_falls_back_to_another_port_is_not_refused(devsup: Start, project: Path, port: int) -> None:
    save(project / "main.py", FALLS_BACK)
    with listener("127.0.0.1", port, cwd=project.parent):
        run = devsup("python", "main.py", str(port), str(free_port()))
        run.ready()
        assert run.stop() == 0


def test_take_over_where_only_the_program_knows_its_address(
    devsup: Start, project: Path, port: int, environment: dict[str, str]
) -> None:
    save(project / "main.py", ASGI)
    words = ["main.py", "127.0.0.1", str(port)]
    with process(sys.executable, *words, cwd=project, says="running on", env=environment) as old:
        run = devsup("python", *words, options=["--take-over"])
        run.ready()
        assert old.wait(LIMIT) in {0, -signal.SIGTERM}
    assert fetch(port)[1] == "new"


def test_take_over_minds_who_is_in_the_way_and_nobody_else(
    devsup: Start, project: Path, port: int, environment: dict[str, str]
) -> None:
    save(project / "main.py", ASGI)
    words = ["-m", "uvicorn", "main:app", "--port", str(port)]
    with (
        listener("127.0.0.2", port, cwd=project.parent) as there,
        process(sys.executable, *words, cwd=project, says="running on", env=environment),
    ):
        run = devsup("python", *words, options=["--take-over"])
        run.ready()
        assert there.poll() is None


def test_a_project_that_is_cleaned_while_it_runs_keeps_its_next_owner(devsup: Start, project: Path) -> None:
    """`git clean -xdf` takes the lock with it: who comes next has another, which the end of the first leaves alone."""
    words = ["python", "-c", "import time; print('runs', flush=True); time.sleep(600)"]
    first = devsup(*words)
    first.wait_for_line("runs")
    shutil.rmtree(project / ".devsup")
    second = devsup(*words)
    second.wait_for_line("runs")
    assert first.stop() == 0
    third = devsup(*words)
    assert third.wait() == 1
    assert f"pid {second.process.pid}" in said(third)


STUBBORN = "import signal, socket, sys, time; signal.signal(15, signal.SIG_IGN); memory = bytearray(400 << 20)\n" + OTHER


def test_the_port_of_leftovers_is_free_before_the_next_start_looks(devsup: Start, project: Path, port: int) -> None:
    """They are killed, and the kernel takes its time with what they had."""
    save(project / "main.py", STUBBORN)
    words = ["python", "-I", "main.py", "127.0.0.1", str(port), "--port", str(port)]
    run = devsup(*words)
    run.wait_for_line("listens")
    for pid in keepers(run.process.pid):
        os.kill(pid, signal.SIGKILL)
    run.process.kill()
    run.process.wait()
    again = devsup(*words)
    assert again.wait_for("LeftoversEnded")["pids"]
    again.wait_for_line("listens")


def test_a_suspended_devsup_ends_with_all_that_it_runs(
    devsup: Start, project: Path, port: int, environment: dict[str, str]
) -> None:
    save(project / "main.py", ASGI)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    worker = run.ready()["pid"]
    run.process.send_signal(signal.SIGSTOP)
    done = command("port", str(port), "--free", "--yes", env=environment, cwd=project)
    assert done.returncode == 0
    assert run.wait() == 0
    assert gone(worker)


def test_a_worker_that_does_not_hear_is_ended_by_its_devsup(
    devsup: Start, project: Path, port: int, environment: dict[str, str]
) -> None:
    save(project / "main.py", STUBBORN)
    run = devsup("python", "-I", "main.py", "127.0.0.1", str(port))
    run.wait_for_line("listens")
    worker = run.wait_for("WorkerSpawned")["pid"]
    done = command("port", str(port), "--free", "--yes", env=environment, cwd=project)
    assert done.returncode == 0
    wait_until(partial(gone, worker), 5)


INNER = """
import subprocess, sys
print("runs", flush=True)
words = [sys.executable, "-m", "devsup", "run", "--take-over", "python", "main.py"]
done = subprocess.run(words, capture_output=True, text=True, env={**__import__("os").environ, "PYTHONPATH": ""})
print("inner", done.returncode, done.stderr.replace("\\n", " "), flush=True)
import time; time.sleep(600)
"""


def test_take_over_does_not_end_the_devsup_that_it_runs_under(devsup: Start, project: Path) -> None:
    save(project / "main.py", INNER)
    run = devsup("python", "main.py")
    line = run.wait_for_line("inner")["line"]
    assert line.startswith("inner 1 ")
    assert "this command was started by it" in line
    assert run.process.poll() is None


def test_odd_folders_and_names_reach_no_terminal_as_they_are(tmp_path: Path, port: int, environment: dict[str, str]) -> None:
    folder = tmp_path / "\x1b[2J\x1b]0;owned\x07"
    folder.mkdir()
    with listener("127.0.0.1", port, cwd=folder):
        for words in (["port", str(port)], ["port", str(port), "--json"], ["run", "uvicorn", "main:app", "--port", str(port)]):
            done = command(*words, env=environment, cwd=tmp_path)
            assert "\x1b" not in done.stdout + done.stderr
            assert "owned" in done.stdout + done.stderr


def test_a_lock_that_cannot_be_opened_and_a_name_that_is_no_file_name(devsup: Start, project: Path) -> None:
    save(project / "devsup.toml", '[services."a:b ?"]\ncommand = ["python", "-c", "print(1)"]\n')
    run = devsup()
    assert run.wait() == 0
    assert run.lines() == ["1"]


@needs_namespaces
def test_ctrl_z_as_process_1_stops_nothing(project: Path, environment: dict[str, str]) -> None:
    save(project / "main.py", "import time\nprint('runs', flush=True)\ntime.sleep(600)\n")
    words = in_namespaces(sys.executable, "-m", "devsup", "run", "--log-format", "json", "python", "main.py")
    run = Run(words, project, environment)
    try:
        run.wait_for_line("runs")
        [first] = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
        [child] = Path(f"/proc/{first}/task/{first}/children").read_text().split()[:1]
        os.kill(int(child), signal.SIGSTOP)
        os.kill(int(first), signal.SIGTERM)
        assert run.wait() == 0
    finally:
        run.process.kill()
        run.close()
