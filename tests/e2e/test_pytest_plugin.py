"""Projects of users whose tests use the fixtures: a real pytest runs in each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Answer, free_port, save, thinned, wait_until

APP = """
import asyncio, os, sys
from contextlib import asynccontextmanager
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

go = asyncio.Event()

async def home(request):
    return PlainTextResponse("v1")

async def about(request):
    return JSONResponse({"pid": os.getpid(), "prefix": sys.prefix, "cwd": os.getcwd(), "env": dict(os.environ)})

async def say(request):
    print("out says", request.query_params["word"])
    print("err says", request.query_params["word"], file=sys.stderr)
    return PlainTextResponse("said")

async def slow(request):
    await go.wait()
    return PlainTextResponse("slow v1")

async def release(request):
    go.set()
    return PlainTextResponse("released")

async def fail(request):
    raise ZeroDivisionError("of this test")

@asynccontextmanager
async def lifespan(app):
    yield
    Path("ended").write_text(str(os.getpid()))

routes = [Route(f"/{each.__name__}", each) for each in (about, say, slow, release, fail)]
app = Starlette(routes=[Route("/", home), *routes], lifespan=lifespan)
"""

HEAD = """
import os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import httpx, pytest

def save(text, name="main.py"):
    Path("saving").write_text(text)
    Path("saving").replace(name)
"""

Pytest = Callable[..., Answer]


@pytest.fixture
def inner(project: Path, environment: dict[str, str]) -> Pytest:
    """`inner(tests, "-k", "x")` runs the tests of this text; warnings are errors. The answer's `out` has all of the report."""

    def run(tests: str, *words: str, env: dict[str, str] | None = None, ini: str = "") -> Answer:
        if not (project / "main.py").exists():
            save(project / "main.py", APP)
        save(project / "test_user.py", HEAD + tests)
        save(project / "pytest.ini", f"[pytest]\nfilterwarnings = error\n{ini}")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "--strict-config", *words]
        done = subprocess.run(
            command, cwd=project, env={**environment, **(env or {})}, capture_output=True, text=True, timeout=50, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


def passed(answer: Answer, number: int) -> bool:
    """Whether so many tests have passed, and nothing else has happened."""
    return answer.code == 0 and bool(re.search(rf"=+ {number} passed in ", answer.out))


# -- what runs --------------------------------------------------------------------------------------------------------


def test_a_marker_says_what_runs(inner: Pytest) -> None:
    answer = inner("""
@pytest.mark.dev_server("main:app", options=["--reload", "off"], env={"COLOUR": "blue"})
def test_it(dev_server):
    about = httpx.get(dev_server.url + "/about").json()
    assert about["env"]["COLOUR"] == "blue"
    assert about["prefix"] == sys.prefix
    assert about["cwd"] == os.getcwd()
    assert (dev_server.pid, dev_server.generation) == (about["pid"], 1)
    assert dev_server.all("ServiceStarted", reload="off")
    assert not dev_server.all("ServiceStarted", reload="drain")
    assert dev_server.stop() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(dev_server.url)
""")
    assert passed(answer, 1), answer.out


@pytest.mark.parametrize(
    "command", thinned(["main:app", "uvicorn main:app --port 0", "python -m uvicorn --port=0 main:app"], every=3)
)
def test_the_ini_file_says_what_runs(inner: Pytest, command: str) -> None:
    tests = """
def test_it(dev_server):
    assert httpx.get(dev_server.url).text == "v1"
"""
    answer = inner(tests, ini=f"devsup_command = {command}\n")
    assert passed(answer, 1), answer.out


def test_devsup_toml_says_what_runs_and_its_ready_probe_is_waited_for(inner: Pytest, project: Path) -> None:
    port, warm = free_port(), project / "warm"
    (project / "devsup.toml").write_text(
        f'[services.web]\ncommand = "uvicorn main:app --port {port}"\nport = {port}\n'
        f'[services.web.probes.ready]\ncommand = "test -e {warm}"\nevery = "100ms"\n'
    )
    answer = inner(f"""
WARM = Path({str(warm)!r})

@pytest.fixture
def timer():
    timer = threading.Timer(1.5, WARM.touch)
    timer.start()
    yield
    timer.join()

def test_it(timer, dev_server):
    assert WARM.exists()
    assert dev_server.url == "http://127.0.0.1:{port}"
    WARM.unlink()
    save(Path("main.py").read_text().replace("v1", "v2"))
    again = threading.Timer(1.5, WARM.touch)
    again.start()
    dev_server.wait_for_reload()
    assert WARM.exists()
    assert httpx.get(dev_server.url).text == "v2"
    again.join()
    WARM.unlink()
    with pytest.raises(AssertionError, match="The new code does not serve.\\nIts ready probe: command test -e .* exited with 1"):
        dev_server.restart(limit=2)
""")
    assert passed(answer, 1), answer.out


def test_a_folder_is_one_below_the_root(inner: Pytest, project: Path) -> None:
    (project / "below").mkdir()
    save(project / "below" / "other.py", APP)
    answer = inner("""
@pytest.mark.dev_server("other:app", cwd="below")
def test_it(dev_server, monkeypatch):
    assert httpx.get(dev_server.url + "/about").json()["cwd"] == os.path.join(os.getcwd(), "below")

def test_that_is_not_there(dev_server_factory):
    with pytest.raises(AssertionError, match=r"There is no folder .*/nowhere\\. Name one"):
        dev_server_factory("other:app", cwd="nowhere")
""")
    assert passed(answer, 2), answer.out


def test_the_server_has_the_environment_and_the_python_of_the_tests(inner: Pytest) -> None:
    """Not what belongs to an outer devsup, or to pytest's own process; nor another environment that happens to be active."""
    outer = {"DEVSUP_DEBUG": "1", "DEVSUP_LINK": "/nowhere", "MINE": "1", "VIRTUAL_ENV": "/nowhere"}
    answer = inner(
        """
@pytest.mark.dev_server("main:app")
def test_it(dev_server):
    about = httpx.get(dev_server.url + "/about").json()
    assert about["prefix"] == sys.prefix
    assert about["env"]["MINE"] == "1"
    assert about["env"]["DEVSUP_LINK"] != "/nowhere"
    assert not {"DEVSUP_DEBUG", "PYTEST_CURRENT_TEST"} & set(about["env"])
""",
        env=outer,
    )
    assert passed(answer, 1), answer.out


def test_what_is_not_used_costs_nothing(inner: Pytest) -> None:
    answer = inner("""
def test_it():
    ours = {name for name in sys.modules if name.partition(".")[0] == "devsup"}
    assert ours == {"devsup", "devsup.pytest", "devsup.pytest.server", "devsup.pytest.story"}
    assert not {"msgspec", "psutil", "uvicorn", "watchfiles"} & set(sys.modules)
    assert threading.active_count() == 1
""")
    assert passed(answer, 1), answer.out


# -- what is waited for -----------------------------------------------------------------------------------------------


def test_a_line_is_waited_for_on_either_stream_before_and_after(inner: Pytest) -> None:
    answer = inner("""
@pytest.mark.dev_server("main:app")
def test_it(dev_server):
    def say(word):
        return httpx.get(dev_server.url + "/say", params={"word": word})

    say("one")
    assert dev_server.wait_for_log(r"^out says \\w+$") == "out says one"
    assert dev_server.wait_for_log("err says") == "err says one"
    mark = dev_server.mark()
    with ThreadPoolExecutor() as pool:
        later = pool.submit(lambda: (time.sleep(0.5), say("two")))
        assert dev_server.wait_for_log("out says", since=mark) == "out says two"
        later.result()
    assert [line for line in dev_server.lines() if line.startswith("out")] == ["out says one", "out says two"]
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"no line with 'three' within 0\\.3 s") as raised:
        dev_server.wait_for_log("three", limit=0.3)
    assert 0.3 <= time.monotonic() - began < 2
    assert "out says two" in str(raised.value)
    assert dev_server.wait_for("WorkerReady", limit=0.1)["generation"] == 1
    with pytest.raises(AssertionError, match="no WorkerReady {'generation': 2} within"):
        dev_server.wait_for("WorkerReady", generation=2, limit=0.1)
    dev_server.stop()
    began = time.monotonic()
    with pytest.raises(AssertionError, match="no line with 'four' before devsup ended"):
        dev_server.wait_for_log("four")
    assert time.monotonic() - began < 2
""")
    assert passed(answer, 1), answer.out


def test_an_active_request_is_seen_and_a_reload_waits_for_it(inner: Pytest) -> None:
    answer = inner("""
@pytest.mark.dev_server("main:app")
def test_it(dev_server):
    assert dev_server.active() == []
    with pytest.raises(AssertionError, match="no request of /slow within 0.2 s; active is nothing"):
        dev_server.wait_for_active("/slow", limit=0.2)
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=dev_server.url, timeout=20) as client:
        answer = pool.submit(client.get, "/slow")
        seen = dev_server.wait_for_active("/slow")
        assert (seen["method"], seen["kind"], seen["holds"]) == ("GET", "http", True)
        assert [each["path"] for each in dev_server.active()] == ["/slow"]
        with pytest.raises(AssertionError, match="no request of /other within 0.1 s; active is GET /slow"):
            dev_server.wait_for_active("/other", limit=0.1)
        save(Path("main.py").read_text().replace("v1", "v2"))
        dev_server.wait_for("ReloadWaiting")
        assert dev_server.generation == 1
        httpx.get(dev_server.url + "/release")
        assert answer.result().text == "slow v1"
    assert dev_server.wait_for_reload()["generation"] == 2
    assert httpx.get(dev_server.url).text == "v2"
    assert dev_server.active() == []
""")
    assert passed(answer, 1), answer.out


def test_a_reload_by_hand_waits_for_active_requests_and_a_restart_does_not(inner: Pytest) -> None:
    answer = inner("""
@pytest.mark.dev_server("main:app", options=["--reload", "drain"])
def test_it(dev_server):
    url = dev_server.url
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=url, timeout=20) as client:
        answer = pool.submit(client.get, "/slow")
        dev_server.wait_for_active("/slow")
        reload = pool.submit(dev_server.reload)
        dev_server.wait_for("ReloadWaiting")
        assert not reload.done()
        httpx.get(url + "/release")
        assert answer.result().text == "slow v1"
        assert reload.result()["generation"] == dev_server.generation == 2
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=url, timeout=20) as client:
        answer, pid = pool.submit(client.get, "/slow"), dev_server.pid
        dev_server.wait_for_active("/slow")
        assert dev_server.restart()["generation"] == dev_server.generation == 3
        assert dev_server.pid != pid
        assert httpx.get(url + "/about").json()["pid"] == dev_server.pid
        assert isinstance(answer.exception(), httpx.HTTPError)
    assert dev_server.url == url
""")
    assert passed(answer, 1), answer.out


def test_each_reload_is_told_once_and_one_that_comes_to_nothing_at_once(inner: Pytest) -> None:
    answer = inner("""
@pytest.mark.dev_server("main:app")
def test_it(dev_server):
    text = Path("main.py").read_text()
    for version in (2, 3):
        save(text.replace("v1", f"v{version}"))
        told = dev_server.wait_for_reload()
        assert (told["generation"], [Path(each).name for each in told["files"]]) == (version, ["main.py"])
        assert httpx.get(dev_server.url).text == f"v{version}"
    with pytest.raises(AssertionError, match="no reload within 0.3 s"):
        dev_server.wait_for_reload(limit=0.3)

    began = time.monotonic()
    save(text + "def broken(:\\n")
    with pytest.raises(AssertionError, match=rf"main.py:{len(text.splitlines()) + 1} does not compile: "):
        dev_server.wait_for_reload()
    assert httpx.get(dev_server.url).text == "v3"
    save(text + "import nosuchmodule\\n")
    with pytest.raises(AssertionError, match="The new code does not serve.\\\\nModule nosuchmodule is not installed"):
        dev_server.wait_for_reload()
    assert time.monotonic() - began < 10
    save(text.replace("v1", "v4"))
    assert dev_server.wait_for_reload()["generation"] > 3
    assert httpx.get(dev_server.url).text == "v4"

    save(text + "def broken(:\\n")
    dev_server.wait_for("SyntaxBroken", count=2)
    save(text.replace("v1", "v5"))
    generation = dev_server.wait_for_reload()["generation"]
    assert httpx.get(dev_server.url).text == "v5"
    save(text.replace("v1", "v6"))
    dev_server.ready(generation + 1)
    assert httpx.get(dev_server.url).text == "v6"
    with pytest.raises(AssertionError, match="no reload within 0.5 s"):
        dev_server.wait_for_reload(limit=0.5)
""")
    assert passed(answer, 1), answer.out


# -- what does not start ----------------------------------------------------------------------------------------------


def test_an_app_that_cannot_be_imported_is_told_with_module_and_line(inner: Pytest, project: Path) -> None:
    save(project / "main.py", "import sys\nprint('these are its last words')\nimport nosuchmodule\n")
    answer = inner("""
@pytest.mark.dev_server("main:app")
def test_by_fixture(dev_server):
    raise SystemError("never comes here")

def test_by_factory(dev_server_factory):
    with pytest.raises(AssertionError, match=r"Module nosuchmodule is not installed .*\\(main.py:3\\)"):
        dev_server_factory("main:app")

def test_uncaught(dev_server_factory):
    dev_server_factory("main:app")
""")
    assert answer.code == 1
    assert re.search(r"=+ 1 failed, 1 passed, 1 error in ", answer.out), answer.out
    assert re.search(r"^Module nosuchmodule is not installed in .* \(main\.py:3\)$", answer.out, re.MULTILINE), answer.out
    assert "  > 3  import nosuchmodule" in answer.out
    assert "  these are its last words" in answer.out
    assert "never comes here" not in answer.out
    assert re.search(r"^test_user\.py:\d+: AssertionError$", answer.out, re.MULTILINE), answer.out
    assert "devsup/pytest" not in answer.out, "the plugin's own code explains nothing"
    assert "- devsup -" not in answer.out, "all is told already"


def test_a_start_that_takes_too_long_is_told_in_time_with_the_line_where_it_stands(inner: Pytest, project: Path) -> None:
    save(project / "main.py", "import time\n\ntime.sleep(100)\n")
    answer = inner("""
def test_it(dev_server_factory):
    began = time.monotonic()
    with pytest.raises(AssertionError, match="It has been starting for .* s: .*main.py:3"):
        dev_server_factory("main:app", timeout=11)
    assert 7 < time.monotonic() - began < 12
""")
    assert passed(answer, 1), answer.out


def test_a_command_line_that_devsup_refuses_is_told_in_its_words(inner: Pytest) -> None:
    answer = inner("""
import socket

def test_options(dev_server_factory):
    with pytest.raises(AssertionError, match="No such option.*--nonsense"):
        dev_server_factory("main:app", options=["--nonsense"])

def test_program(dev_server_factory):
    with pytest.raises(AssertionError, match='There is no program "nosuchprogram"'):
        dev_server_factory("nosuchprogram")

def test_port(dev_server_factory):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=rf"Port {port} is .*pid {os.getpid()}"):
            dev_server_factory("main:app", "--port", str(port))

def test_program_that_serves_nobody(dev_server_factory):
    with pytest.raises(AssertionError, match="has printed:\\\\n  just a line"):
        dev_server_factory("python", "-c", "print('just a line')")
""")
    assert passed(answer, 4), answer.out


# -- several ----------------------------------------------------------------------------------------------------------


def test_a_factory_of_the_session_serves_many_tests_and_ends_what_it_started(inner: Pytest, project: Path) -> None:
    answer = inner("""
@pytest.fixture(scope="session")
def server(dev_server_factory):
    return dev_server_factory("main:app")

@pytest.mark.parametrize("number", range(3))
def test_shared(server, number):
    assert server.generation == 1
    with open("pids", "a") as file:
        print(httpx.get(server.url + "/about").json()["pid"], file=file)
    assert not Path("ended").exists()

@pytest.mark.dev_server("main:app", cwd=os.getcwd())
def test_own_beside_it(server, dev_server, dev_server_factory):
    third = dev_server_factory("uvicorn", "main:app", "--port", "0")
    fourth = dev_server_factory("uvicorn", "main:app", "--port", "0")
    assert {httpx.get(each.url).text for each in (server, dev_server, third, fourth)} == {"v1"}
    assert len({each.url for each in (server, dev_server, third, fourth)}) == 4

def test_the_own_one_has_ended(server):
    assert int(Path("ended").read_text()) != server.pid
    Path("ended").unlink()
""")
    assert passed(answer, 5), answer.out
    assert len(set((project / "pids").read_text().split())) == 1
    assert (project / "ended").exists(), "it was asked to end"


def test_tests_that_run_at_once_are_not_in_each_others_way(inner: Pytest) -> None:
    """Each waits for the other, with its server running."""
    answer = inner(
        """
@pytest.mark.parametrize("number", range(2))
@pytest.mark.dev_server("main:app")
def test_it(dev_server, number):
    assert httpx.get(dev_server.url).text == "v1"
    Path(f"up{number}").write_text(dev_server.url)
    ends = time.monotonic() + 20
    while not Path(f"up{1 - number}").exists() and time.monotonic() < ends:
        time.sleep(0.01)
    other = Path(f"up{1 - number}").read_text()
    assert other != dev_server.url
    assert httpx.get(dev_server.url + "/about").json()["pid"] == dev_server.pid
    Path(f"seen{number}").touch()
    while not Path(f"seen{1 - number}").exists() and time.monotonic() < ends:
        time.sleep(0.01)
""",
        "-n",
        "2",
    )
    assert passed(answer, 2), answer.out


# -- a failing test ---------------------------------------------------------------------------------------------------


def test_a_test_that_fails_shows_what_its_server_has_said(inner: Pytest) -> None:
    answer = inner("""
def say(server, word):
    httpx.get(server.url + "/say", params={"word": word})

@pytest.fixture(scope="module")
def shared(dev_server_factory):
    return dev_server_factory("main:app")

def test_passes(shared):
    say(shared, "of-shared")

@pytest.mark.dev_server("main:app")
def test_own(dev_server):
    say(dev_server, "of-own")
    assert httpx.get(dev_server.url + "/fail").status_code == 200

def test_made(dev_server_factory):
    say(dev_server_factory("main:app"), "of-made")
    raise ValueError

@pytest.mark.usefixtures("shared")
def test_shared():
    raise ValueError

def test_none():
    raise ValueError
""")
    assert re.search(r"=+ 4 failed, 1 passed in ", answer.out), answer.out
    own, made, shared, none = re.split(r"^_+ test_\w+ _+$", answer.out, flags=re.MULTILINE)[1:]
    words = ("of-own", "of-made", "of-shared")
    for text, word in zip((own, made, shared), words, strict=True):
        assert re.search(r"^-+ devsup -+\ndevsup run main:app --port \d+$", text, re.MULTILINE), text
        assert f"out says {word}\n" in text
        assert f"err says {word}\n" in text
        assert not any(f"says {other}" in text for other in words if other != word)
    assert "ZeroDivisionError: of this test" in own
    assert re.search(r"^devsup app Unhandled .*GET /fail", own, re.MULTILINE), own
    assert "- devsup -" not in none


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", thinned([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]))
def test_nothing_is_left_however_pytest_ends(project: Path, environment: dict[str, str], number: int) -> None:
    save(project / "main.py", APP)
    tests = """
@pytest.mark.dev_server("main:app")
def test_it(dev_server):
    pids = [os.getpid(), dev_server.process.pid, dev_server.pid]
    save(" ".join(map(str, pids)), "pids")
    time.sleep(100)
"""
    save(project / "test_user.py", HEAD + tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(project)]
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until((project / "pids").exists)
        pids = [int(each) for each in (project / "pids").read_text().split()]
        assert pids[0] == process.pid
        assert all(Path(f"/proc/{pid}").exists() for pid in pids) or not Path("/proc/self").exists()
        began = time.monotonic()
        os.kill(process.pid, number)
        assert process.wait(20) == (2 if number == signal.SIGINT else -number)
        wait_until(lambda: not any(map(_runs, pids)), 10)
        assert time.monotonic() - began < 10
    finally:
        process.kill()
        process.wait()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
