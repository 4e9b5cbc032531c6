"""Behind devsup a program finds its process, its children and its runtime as it does without."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conformance import exchanges
from conformance.exchanges import request
from conformance.wire import TEXT, Exchange, Read, Target, close, frame, handshake
from harness import Run, free_port, save, wait_until

APPS = Path(exchanges.__file__).parent
BIN = Path(sys.prefix) / "bin"

# What the documentation says that a worker's process has more.
VARIABLES = {"PYTHONPATH", "PYTHONUNBUFFERED", "RUN_MAIN", "WERKZEUG_RUN_MAIN"}
MODULES = {"sitecustomize", "warnings"}
MODULES |= {"importlib", "importlib._bootstrap", "importlib._bootstrap_external", "importlib.machinery"}


def is_ours(name: str) -> bool:
    return name.startswith(("DEVSUP_", "devsup_agent")) or name in VARIABLES | MODULES


def without_devsup(words: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def printed(run: Run) -> tuple[list[str], list[str]]:
    """What the program has printed, on stdout and on stderr, once it has ended."""
    return run.lines(), [json.loads(line)["line"] for line in run.stderr.splitlines() if line.startswith("{")]


# The signals by which the black box is written.
BLACK_BOX = sum(
    1 << number - 1 for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGURG)
)


def differences(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: apart(expected[key], found[key]) for key in expected if expected[key] != found[key]}


def apart(expected: Any, found: Any) -> tuple[Any, Any]:
    """Of two lists, or dicts, what only one has; else both."""
    if isinstance(expected, dict):
        expected, found = sorted(expected.items()), sorted(found.items())
    if isinstance(expected, list) and isinstance(found, list) and set(map(str, expected)) != set(map(str, found)):
        return [each for each in expected if each not in found], [each for each in found if each not in expected]
    return expected, found


@pytest.mark.parametrize(
    "options",
    [
        "-W error facts.py",
        *(
            pytest.param(each, marks=pytest.mark.soak)
            for each in ("facts.py", "-m facts", "-X dev facts.py", "-O -B -u facts.py")
        ),
    ],
)
def test_a_program_finds_its_process_and_its_children_as_without_devsup(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str], tmp_path: Path, options: str
) -> None:
    shutil.copy(APPS / "facts.py", project)
    program = ["python", *options.split()]
    rest = ["an argument", "", "--reload", "é", "a=b"]
    without, behind = tmp_path / "facts-0", tmp_path / "facts-1"
    env = environment | {"LANG": "C.UTF-8", "PATH": f"{BIN}{os.pathsep}{environment['PATH']}"}
    done = without_devsup([*program, str(without), *rest], project, env)
    assert done.returncode == 0, done.stderr
    run = devsup(*program, str(behind), *rest, env=env)
    assert run.wait() == 0, run.story()
    expected, found = json.loads(without.read_text()), json.loads(behind.read_text())
    for facts in (expected, found):
        facts["orig_argv"] = [each for each in facts["orig_argv"] if "facts-" not in each]
        facts["title"][1] = [each for each in facts["title"][1] if "facts-" not in each]
        facts["environ"] = {key: value for key, value in facts["environ"].items() if not is_ours(key)}
        names = eval(facts["children"]["modules"][1])
        names = [each for each in names if not is_ours(each) and each not in sys.builtin_module_names]
        facts["children"]["modules"][1] = names
    assert found["finders"].pop(0) == "_Finder"
    found["at exit"] -= 1  # the agent tells of the end
    for key in ("modules", "modules in the end"):
        more = {each for each in set(found.pop(key)) ^ set(expected.pop(key)) if not is_ours(each)}
        assert {each.partition(".")[0] for each in more} <= sys.stdlib_module_names, "the agent brings no package along"
    assert int(found["status"].pop("SigCgt"), 16) == int(expected["status"].pop("SigCgt"), 16) | BLACK_BOX
    assert differences(expected.pop("children"), found.pop("children")) == {}
    assert differences(expected, found) == {}
    assert printed(run) == (done.stdout.splitlines(), done.stderr.splitlines())
    # multiprocessing's helpers may outlive the program by a moment.
    assert [event["text"] for event in run.all("Trouble") if "in the background" not in event["text"]] == []


ENDINGS = {
    "pass": 0,
    "import sys; sys.exit(3)": 3,
    "raise SystemExit('a text')": 1,
    "1 / 0": 1,
    "import os; os._exit(7)": 7,
    "import os; os.kill(os.getpid(), 9)": 128 + 9,
    "import os; os.abort()": 128 + 6,
    "import socket, threading; threading.Thread(target=print, args=['late']).start()": 0,
    "import atexit; atexit.register(print, 'at exit')": 0,
    "import socket; socket.create_connection(('127.0.0.1', 9))": 1,
}


@pytest.mark.parametrize(("source", "code"), ENDINGS.items(), ids=map(str, range(len(ENDINGS))))
def test_a_program_ends_as_without_devsup(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str], source: str, code: int
) -> None:
    (project / "main.py").write_text(source + "\n")
    done = without_devsup(["python", "main.py"], project, environment)
    assert done.returncode % 256 in {code, 256 - (code - 128)}
    run = devsup("python", "main.py", options=["--reload", "off"])
    assert run.wait() == code
    assert printed(run) == (done.stdout.splitlines(), done.stderr.splitlines())


def test_the_users_sitecustomize_and_usercustomize_run_as_without_devsup(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Found on PYTHONPATH, in the program and in its children."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text(
        "import sys\nif 'devsup' not in sys.orig_argv: print('site', __name__, __file__, __name__ in sys.modules, flush=True)\n"
    )
    (own / "usercustomize.py").write_text(
        "import sys\nif 'devsup' not in sys.orig_argv: print('user', __name__, __file__, flush=True)\n"
    )
    (project / "main.py").write_text(
        "import subprocess, sys, sitecustomize\n"
        "print(sitecustomize.__file__, sys.path, flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import sitecustomize; print(sitecustomize.__file__)'])\n"
    )
    env = environment | {"PYTHONPATH": str(own)}
    done = without_devsup(["python", "main.py"], project, env)
    assert "site sitecustomize" in done.stdout
    run = devsup("python", "main.py", env=env)
    assert run.wait() == 0
    assert printed(run) == (done.stdout.splitlines(), done.stderr.splitlines())


def test_a_broken_sitecustomize_of_the_users_is_told_as_without_devsup(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("1 / 0\n")
    (project / "main.py").write_text("print('runs')\n")
    run = devsup("python", "main.py", env=environment | {"PYTHONPATH": str(own)})
    assert run.wait() == 0
    assert "runs" in run.lines()
    assert any("ZeroDivisionError" in line for line in printed(run)[1])


def test_pytest_runs_under_devsup_and_in_a_child_of_an_app_as_without(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str]
) -> None:
    (project / "test_it.py").write_text(
        "import subprocess, sys, socket, warnings\n"
        "def test_passes(capfd, recwarn):\n"
        "    print('captured'); assert capfd.readouterr().out == 'captured\\n'\n"
        "    assert subprocess.check_output([sys.executable, '-c', 'print(1)']) == b'1\\n'\n"
        "    assert not recwarn.list\n"
        "def test_fails():\n"
        "    assert socket.socket().fileno() == 0\n"
    )
    (project / "main.py").write_text(
        "import subprocess, sys\n"
        "sys.exit(subprocess.call([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_it.py']))\n"
    )
    done = without_devsup(["python", "main.py"], project, environment)
    assert done.returncode == 1
    run = devsup("python", "main.py", options=["--reload", "off"])
    assert run.wait() == 1
    assert timeless(run.lines()) == timeless(done.stdout.splitlines())


def timeless(lines: list[str]) -> list[str]:
    return [re.sub(r"in \d+\.\d+s|0x[0-9a-f]+", "", line) for line in lines]


# -- a server ---------------------------------------------------------------------------------------------------------

GREETING = Exchange("greeting", (handshake("/ws_echo"), Read(b"\r\n\r\n"), frame(TEXT, "hello"), Read(b"hello"), close(1000)))
ECHO = Exchange("echo", (request("/echo", method="POST", body=b"x" * 100_000),))
RUNTIME = Exchange("runtime", (request("/runtime"),))


def serve_plainly(words: list[str], folder: Path, env: dict[str, str], ask: Callable[[], object]) -> list[str]:
    """Run a server without devsup, ask it, end it; what it printed."""
    process = subprocess.Popen(
        [str(BIN / words[0]), *words[1:]],
        cwd=folder,
        env=env | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: ask() or True)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=10)
    return list(output.splitlines())


@pytest.fixture
def apps(project: Path) -> Path:
    for name in ("asgi.py", "parts.py", "part.py", "wsgi.py"):
        shutil.copy(APPS / name, project)
    return project


def once_it_listens(port: int, ask: Callable[[Target], object], seen: Path) -> Callable[[], object]:
    target = Target(port, seen)

    def asked() -> object:
        wait_until(lambda: answers(port))
        return ask(target)

    return asked


def answers(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def body(exchange: Exchange, target: Target) -> Any:
    return json.loads(target.play(exchange).received.partition(b"\r\n\r\n")[2])


def threads_are_settled(target: Target) -> bool:
    """The agent's timers are over; the first question may have imported something, of which a timer tells."""
    if not answers(target.port):
        return False
    body(RUNTIME, target)
    return not [name for name in body(RUNTIME, target)["threads"] if name.startswith("Thread-")]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_inside_a_request_the_runtime_is_as_without_devsup(
    devsup: Callable[..., Run], apps: Path, tmp_path: Path, environment: dict[str, str], loop: str
) -> None:
    """Tasks, task factory, handlers of signals and of exceptions, warnings, threads: one more, the agent's."""
    found: list[dict[str, Any]] = []
    for seen in (tmp_path / "without", tmp_path / "behind"):
        seen.mkdir()
        port = free_port()
        words = ["uvicorn", "asgi:app", "--port", str(port), "--loop", loop, "--ws", "websockets-sansio"]
        ask = once_it_listens(port, lambda target: found.append(body(RUNTIME, target)), seen)
        if seen.name == "without":
            serve_plainly(words, apps, environment | {"SEEN": str(seen)}, ask)
        else:
            run = devsup(*words, env={"SEEN": str(seen)})
            run.ready()
            wait_until(partial(threads_are_settled, Target(port, seen)))
            ask()
            assert run.stop() == 0
    assert found[1]["threads"].count("devsup-agent") == 1
    found[1]["threads"].remove("devsup-agent")
    assert differences(*found) == {}


@pytest.mark.parametrize("options", [pytest.param("-W error", marks=pytest.mark.soak), "-X dev -W error"])
@pytest.mark.parametrize("server", ["uvicorn", "flask"])
def test_warnings_as_errors_and_the_dev_mode_print_nothing_of_devsups(
    devsup: Callable[..., Run], apps: Path, tmp_path: Path, environment: dict[str, str], options: str, server: str
) -> None:
    """Over requests, a WebSocket, a reload and the stop no line that was not there without devsup, so no warning."""
    port = free_port()
    modules = {
        "uvicorn": f"uvicorn asgi:app --port {port} --ws websockets-sansio --loop asyncio",
        "flask": f"flask --app wsgi:flask run --port {port}",
    }
    words = ["python", *options.split(), "-m", *modules[server].split()]
    asked = [ECHO, GREETING] if server == "uvicorn" else [ECHO]

    def ask(target: Target) -> None:
        for each in asked:
            assert b" 200 " in target.play(each).received or each is GREETING

    (tmp_path / "0").mkdir()
    plain = serve_plainly(words, apps, environment | {"SEEN": str(tmp_path / "0")}, once_it_listens(port, ask, tmp_path / "0"))
    (tmp_path / "1").mkdir()
    run = devsup(*words, env={"SEEN": str(tmp_path / "1")})
    run.ready()
    once_it_listens(port, ask, tmp_path / "1")()
    save(apps / "part.py", (apps / "part.py").read_text() + "# changed\n")
    run.ready(2)
    ask(Target(port, tmp_path / "1"))
    assert run.stop() == 0
    known = set(map(settled, plain))
    assert known
    new = [line for line in map(settled, itertools.chain(*printed(run))) if line not in known]
    assert new == []
    assert run.all("Trouble") == []


def settled(line: str) -> str:
    """A line of a server's log without its numbers."""
    return re.sub(r"\d+", "0", line).rstrip()


def test_each_worker_gets_each_message_of_the_lifespan_once(
    devsup: Callable[..., Run], apps: Path, tmp_path: Path, port: int
) -> None:
    run = devsup("uvicorn", "asgi:app", "--port", str(port), env={"SEEN": str(tmp_path)})
    for generation in (1, 2, 3):
        run.ready(generation)
        save(apps / "part.py", (APPS / "part.py").read_text() + "#" * generation + "\n")
    run.ready(4)
    assert run.stop() == 0
    told = [json.loads(line) for line in (tmp_path / "lifespan").read_text().splitlines()]
    for event in run.all("WorkerSpawned"):
        mine = [each[1] for each in told if each[0] == event["pid"]]
        assert mine == ["scope", "lifespan.startup", "lifespan.shutdown"]
    assert len(told) == 12


def test_the_apps_children_have_no_descriptor_of_devsups_but_their_black_box(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str], port: int, tmp_path: Path
) -> None:
    """A server's child, started with close_fds=False over two generations, sees what it sees without devsup."""
    (project / "main.py").write_text(
        "import subprocess, sys, os, uvicorn\n"
        "ASK = \"import os; print(sorted(os.readlink(f'/proc/self/fd/{fd}').split(':')[0] for fd in os.listdir('/proc/self/fd')"
        " if int(fd) > 2 and os.path.exists(f'/proc/self/fd/{fd}') and '/devsup-' not in os.readlink(f'/proc/self/fd/{fd}')))\"\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    out = subprocess.run([sys.executable, '-c', ASK], capture_output=True, close_fds=False).stdout\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'[\"' + out.strip().replace(b'\"', b'') + b'\"]'})\n"
        f"uvicorn.run(app, port={port}, loop='asyncio')\n"
    )
    asked = Exchange("descriptors", (request("/"),))
    expected: list[bytes] = []
    ask = once_it_listens(port, lambda target: expected.append(target.play(asked).received), tmp_path)
    serve_plainly(["python", "main.py"], project, environment, ask)
    run = devsup("python", "main.py")
    run.ready()
    target = Target(port, tmp_path)
    assert target.play(asked).received == expected[0]
    save(project / "main.py", (project / "main.py").read_text() + "# changed\n")
    run.ready(2)
    assert target.play(asked).received == expected[0]
    assert run.stop() == 0


def test_a_program_can_read_its_input_from_devsups(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str]
) -> None:
    (project / "main.py").write_text("import sys\nprint(sys.stdin.read().split())\n")
    words = [sys.executable, "-m", "devsup", "run", "--log-format", "json", "python", "main.py"]
    done = subprocess.run(
        words, cwd=project, env=environment, input="one two\n", capture_output=True, text=True, timeout=30, check=False
    )
    assert any("['one', 'two']" in line for line in done.stdout.splitlines()), done.stdout
    assert done.returncode == 0
