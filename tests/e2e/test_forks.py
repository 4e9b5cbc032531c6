"""A worker that was forked is as one that was started cold; what cannot be forked is not."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import LIMIT, Event, Run, fetch, make_environment, save, thinned, wait_until

Start = Callable[..., Run]
CONFORMANCE = Path(__file__).parent.parent / "conformance"
ONLY_FORKED = {"modules", "modules in the end", "at exit"}  # packages are imported before the program runs: documented

SERVES = """
import http.server
import os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass

def serve():
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler).serve_forever()
"""

FACTS = """
import json, os, socket, sys, threading
from pathlib import Path
import facts
from serves import serve

if __name__ == "__main__":
    sys.argv.insert(1, "facts")
    found = facts.of_interpreter() | facts.of_process()
    facts.__file__ = __file__
    found["children"] = facts.of_children()
    found["main thread"] = [threading.main_thread() is threading.current_thread(), threading.get_native_id() == os.getpid()]
    found["group"] = [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()]
    found["tty"] = [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)]
    found["buffering"] = [stream.line_buffering for stream in (sys.stdout, sys.stderr)]
    Path("found-VERSION").write_text(json.dumps(found))
    serve()
"""


class Project:
    """A project whose `main.py` is saved and forked again, with `packages` that count as installed."""

    def __init__(self, start: Start, folder: Path, packages: Path, port: int) -> None:
        self._start, self.folder, self.packages, self.port = start, folder, packages, port
        packages.mkdir(parents=True)
        self.write("serves.py", SERVES)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, text)

    def install(self, name: str, text: str) -> None:
        path = self.packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def app(self, text: str, answer: str = "VERSION", version: int = 1) -> None:
        """`main.py`: this text, then a server that answers with what the expression gives."""
        serving = f"\nimport serves\nserves.ANSWER = {answer}\nserves.serve()\n"
        self.write("main.py", f"VERSION = {version}\n{text}{serving}")

    def run(self, *words: str, fork: bool = True, env: dict[str, str] | None = None) -> Run:
        given = {"PYTHONPATH": str(self.packages), "APP_PORT": str(self.port), **(env or {})}
        command = words or ("python", "main.py")
        run = self._start(*command, options=[] if fork else ["--no-fork"], env=given)
        run.ready()
        return run

    def answer(self) -> str:
        return fetch(self.port)[1]


@pytest.fixture
def make(devsup: Start, project: Path, tmp_path: Path, port: int) -> Project:
    return Project(devsup, project, tmp_path / "lib" / "site-packages", port)


def is_forked(run: Run, generation: int) -> bool:
    """Whether the fork server is the parent of that worker."""
    pid = run.wait_for("WorkerSpawned", generation=generation)["pid"]
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return parent != run.process.pid


def left_out(ready: Event) -> dict[str, str]:
    return dict(ready["left"])


# -- as a cold start --------------------------------------------------------------------------------------------------

TEXT = "import runpy; runpy.run_path('main.py', run_name='__main__')"
WAYS = [
    pytest.param(("python", "main.py", "an argument", "", "--reload", "é"), id="script"),
    pytest.param(("python", "-m", "main", "a=b"), id="module"),
    pytest.param(("python", "-X", "dev", "-W", "error::SyntaxWarning", "-u", "main.py"), id="options"),
    pytest.param(("python", "-O", "-B", "main.py"), id="optimised", marks=pytest.mark.soak),
    pytest.param(("python", "-c", TEXT, "x"), id="text", marks=pytest.mark.soak),
]


@pytest.mark.parametrize("words", WAYS)
def test_a_forked_program_finds_what_a_cold_start_finds(make: Project, words: tuple[str, ...]) -> None:
    shutil.copy(CONFORMANCE / "facts.py", make.folder)
    found = []
    for fork in (False, True):
        make.write("main.py", FACTS.replace("VERSION", "1"))
        run = make.run(*words, fork=fork)
        if fork:
            run.wait_for("ForkServerReady")
        make.write("main.py", FACTS.replace("VERSION", "2"))
        run.ready(2)
        assert is_forked(run, 2) == fork
        assert run.stop() == 0
        found.append(json.loads((make.folder / "found-2").read_text()))
    cold, forked = found
    for facts in found:
        facts["environ"] = {key: value for key, value in facts["environ"].items() if not key.startswith("DEVSUP_")}
    assert {key for key in cold if cold[key] != forked[key]} - ONLY_FORKED == set(), {
        key: (cold[key], forked[key]) for key in cold if cold[key] != forked[key]
    }


STYLES = {
    "console script": ("uvicorn", "main:app", "--port", "@PORT@"),
    "python -m": ("python", "-m", "uvicorn", "main:app", "--port", "@PORT@"),
    "target": ("main:app", "--port", "@PORT@"),
    "flask": ("flask", "--app", "main", "run", "--port", "@PORT@"),
}
ASGI = """
import random, os, sys, logging
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

ANSWER = {"version": VERSION, "name": __name__, "argv": sys.argv[1:], "random": random.random(), "cwd": os.getcwd(),
          "path": sys.path, "main": sys.modules["__main__"].__spec__ and sys.modules["__main__"].__spec__.name,
          "file": sys.modules["__main__"].__file__, "pid": os.getpid()}
async def home(request): return JSONResponse(ANSWER)
app = Starlette(routes=[Route("/", home)])
"""
WSGI = (
    "import random, os, sys, logging\nfrom flask import Flask\n"
    + ASGI[ASGI.index("ANSWER") : ASGI.index("async def")]
    + "app = Flask(__name__)\n@app.get('/')\ndef home(): return ANSWER\n"
)


@pytest.mark.parametrize("style", STYLES)
def test_each_way_to_start_is_forked_and_finds_itself_the_same(make: Project, style: str) -> None:
    words = [word.replace("@PORT@", str(make.port)) for word in STYLES[style]]
    text = WSGI if style == "flask" else ASGI
    make.write("main.py", text.replace("VERSION", "1"))
    run = make.run(*words)
    answers = [json.loads(make.answer())]
    run.wait_for("ForkServerReady")
    for version in (2, 3):
        make.write("main.py", text.replace("VERSION", str(version)))
        run.ready(version)
        assert is_forked(run, version)
        answers.append(json.loads(make.answer()))
    assert [each.pop("version") for each in answers] == [1, 2, 3]
    assert len({each.pop("random") for each in answers}) == 3, "seeds are new"
    assert len({each.pop("pid") for each in answers}) == 3
    assert answers[0] == answers[1] == answers[2]


def test_the_environment_is_found_as_it_was_before_the_program_touched_it(make: Project) -> None:
    """What the program sets before it imports counts for the imports; and is its own to set again."""
    make.install("reads.py", "import os\nSEEN = os.environ.get('OPENBLAS_NUM_THREADS')\nos.environ['SET_BY_IMPORT'] = 'yes'\n")
    text = """
import os
BEFORE = os.environ.get("OPENBLAS_NUM_THREADS"), os.environ["PATH"].count("/added"), "GONE" in os.environ
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["PATH"] += ":/added"
os.environ.pop("GONE", None)
import reads
"""
    answer = "(*BEFORE, reads.SEEN, os.environ['PATH'].count('/added'), os.environ['SET_BY_IMPORT'], VERSION)"
    make.app(text, answer)
    run = make.run(env={"GONE": "not yet"})
    run.wait_for("ForkServerReady")
    for version in (2, 3, 4):
        make.app(text, answer, version)
        run.ready(version)
        assert is_forked(run, version)
        assert make.answer() == f"(None, 0, True, '1', 1, 'yes', {version})"


def test_an_app_that_begins_with_load_dotenv_reads_an_edited_env_file(make: Project) -> None:
    make.install("reads_env.py", "import os\nSEEN = os.environ.get('SETTING')\n")
    make.write(".env", "SETTING=one\n")
    text = "from dotenv import load_dotenv\nload_dotenv()\nimport os, reads_env\n"
    answer = "(os.environ['SETTING'], reads_env.SEEN)"
    make.app(text, answer)
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app(text, answer, 2)
    run.ready(2)
    assert make.answer() == "('one', 'one')"
    make.write(".env", "SETTING=two\n")
    run.ready(3)
    assert make.answer() == "('two', 'two')"
    run.wait_for("ForkServerReady", 2)
    make.app(text, answer, 4)
    run.ready(4)
    assert is_forked(run, 4)
    assert make.answer() == "('two', 'two')"


def test_an_edited_env_file_of_the_command_line_counts(make: Project, devsup: Start) -> None:
    make.write("settings.env", "SETTING=one\n")
    make.app("import os\n", "os.environ['SETTING']")
    env = {"PYTHONPATH": str(make.packages), "APP_PORT": str(make.port)}
    run = devsup("python", "main.py", options=["--env-file", "settings.env"], env=env)
    run.wait_for("ForkServerReady")
    assert make.answer() == "one"
    make.write("settings.env", "SETTING=two\n")
    run.ready(2)
    assert make.answer() == "two"
    run.wait_for("ForkServerReady", 2)


def test_packages_of_the_project_in_every_form(make: Project, tmp_path: Path) -> None:
    """Relative imports, a namespace package, and an editable install, none of which the fork server may hold on to."""
    make.write("pkg/__init__.py", "from .part import VALUE\n")
    make.write("pkg/part.py", "VALUE = 1\n")
    make.write("space/inner/leaf.py", "LEAF = 1\n")
    editable = tmp_path / "elsewhere" / "editable"
    editable.mkdir(parents=True)
    (editable / "__init__.py").write_text("EDIT = 1\n")
    make.install("finder.py", f"import sys\nsys.path.append({str(editable.parent)!r})\n")
    text = "import finder, pkg, editable\nfrom space.inner import leaf\n"
    make.app(text, "(pkg.VALUE, leaf.LEAF, editable.EDIT)")
    run = make.run()
    run.wait_for("ForkServerReady")
    for generation, (path, line) in enumerate(
        [(make.folder / "pkg/part.py", "VALUE = 2\n"), (make.folder / "space/inner/leaf.py", "LEAF = 3\n")], start=2
    ):
        save(path, line)
        run.ready(generation)
        assert is_forked(run, generation)
    save(editable / "__init__.py", "EDIT = 4\n")
    run.ready(4)
    assert make.answer() == "(2, 3, 4)"


@pytest.mark.parametrize("method", thinned(["fork", "spawn", "forkserver"]))
def test_process_pools_of_the_app_work_and_end_with_it(make: Project, method: str) -> None:
    text = (
        "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "def square(number): return number * number\n"
        "if __name__ != '__main__': raise SystemExit\n"
        f"pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('{method}'))\n"
    )
    body = f"if __name__ == '__main__':\n{''.join(f'    {line}' + chr(10) for line in text.splitlines()[4:])}"
    text = "\n".join(text.splitlines()[:3]) + "\n" + body
    answer = "list(pool.map(square, range(4))), VERSION"
    source = "VERSION = {}\n" + text + f"    import serves\n    serves.ANSWER = {answer}\n    serves.serve()\n"
    make.write("main.py", source.format(1))
    run = make.run()
    run.wait_for("ForkServerReady")
    for version in (2, 3):
        make.write("main.py", source.format(version))
        run.ready(version)
        assert is_forked(run, version)
        assert make.answer() == f"([0, 1, 4, 9], {version})"
    assert run.stop() == 0


def test_numpy_computes_in_a_fork_though_it_has_started_threads(make: Project) -> None:
    """OpenBLAS starts threads when it is imported, and has fork handlers."""
    text = "import numpy\nmatrix = numpy.ones((300, 300))\n"
    answer = "(int((matrix @ matrix).sum()), numpy.random.random(), VERSION)"
    make.app(text, answer)
    run = make.run()
    ready = run.wait_for("ForkServerReady")
    assert not [name for name in left_out(ready) if name.partition(".")[0] == "numpy"]
    seen = set()
    for version in (2, 3):
        make.app(text, answer, version)
        run.ready(version)
        assert is_forked(run, version)
        total, number, version_seen = eval(make.answer())
        assert (total, version_seen) == (27_000_000, version)
        seen.add(number)
    assert len(seen) == 2, "numpy's seed is new"


def test_what_a_library_registers_is_called_as_in_a_cold_start(make: Project) -> None:
    """Exit handlers, fork handlers, logging that was set up at import."""
    make.install(
        "registers.py",
        "import atexit, logging, os\n"
        "atexit.register(print, 'the library says goodbye', flush=True)\n"
        "FORKS = []\nos.register_at_fork(after_in_child=lambda: FORKS.append(os.getpid()))\n"
        "logging.basicConfig(level=logging.INFO, format='logged %(message)s')\n",
    )
    text = "import registers, logging, sys\nlogging.info(f'from {VERSION}')\nprint('flush', end='')\n"
    make.app(text, "len(registers.FORKS)")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app(text, "len(registers.FORKS)", 2)
    run.ready(2)
    assert run.stop() == 0
    assert sum("the library says goodbye" in line for line in run.lines()) == 2, "once for each worker, never for the fork server"
    assert sum("logged from" in line for line in run.lines() + run.stderr.splitlines()) == 2


# -- what is not forked -----------------------------------------------------------------------------------------------


HOSTILE = {
    "starts a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
    "opens": "import socket\nKEPT = socket.socketpair()\n",
    "starts a process": "import subprocess\nCHILD = subprocess.Popen(['sleep', '1000'])\n",
}


@pytest.mark.parametrize("reason", thinned(HOSTILE))
def test_a_module_that_ties_itself_to_its_process_is_left_out_with_all_that_import_it(make: Project, reason: str) -> None:
    make.install("hostile.py", HOSTILE[reason] + "import os\nPID = os.getpid()\n")
    make.install("imports_hostile.py", "import hostile\nimport harmless\n")
    make.install("harmless.py", "import os\nPID = os.getpid()\n")
    make.install("later.py", "from imports_hostile import hostile\n")
    text = "import os, imports_hostile, later, hostile, harmless\n"
    answer = "(hostile.PID == os.getpid(), harmless.PID == os.getpid(), VERSION)"
    make.app(text, answer)
    run = make.run()
    left = left_out(run.wait_for("ForkServerReady"))
    assert reason in left["hostile"]
    assert left["imports_hostile"] == "it imports hostile"
    assert left["later"] in {"it imports hostile", "it imports imports_hostile"}
    assert "harmless" not in left
    make.app(text, answer, 2)
    run.ready(2)
    assert is_forked(run, 2)
    assert make.answer() == "(True, False, 2)"


def test_a_library_that_reaches_for_the_project_is_left_out(make: Project) -> None:
    make.write("local_settings.py", "VALUE = 1\n")
    make.install("optional.py", "try:\n    import local_settings\nexcept ImportError:\n    local_settings = None\n")
    text = "import optional\n"
    make.app(text, "optional.local_settings.VALUE")
    run = make.run()
    assert "local_settings" in left_out(run.wait_for("ForkServerReady"))["optional"]
    make.write("local_settings.py", "VALUE = 2\n")
    run.ready(2)
    assert is_forked(run, 2)
    assert make.answer() == "2"


def test_a_module_that_was_swapped_is_not_taken_for_the_other(make: Project) -> None:
    """As apps do with pysqlite3."""
    make.install("better_json.py", "BETTER = True\n")
    make.install("uses_json.py", "import netrc\nIS_BETTER = hasattr(netrc, 'BETTER')\n")
    text = "import sys\n__import__('better_json')\nsys.modules['netrc'] = sys.modules.pop('better_json')\nimport uses_json\n"
    make.app(text, "uses_json.IS_BETTER")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app(text, "uses_json.IS_BETTER", 2)
    run.ready(2)
    assert make.answer() == "True"


def test_gevent_s_apps_are_started_cold(make: Project) -> None:
    text = "import gevent.monkey\ngevent.monkey.patch_all()\nimport threading\n"
    answer = "(type(threading.current_thread()).__name__, VERSION)"
    make.app(text, answer)
    run = make.run()
    assert "gevent" in run.wait_for("ForkServerOff")["reason"]
    first = make.answer()
    make.app(text, answer, 2)
    run.ready(2)
    assert not is_forked(run, 2)
    assert make.answer() == first.replace("1)", "2)")


def test_a_shell_script_before_the_program_is_never_run_behind_the_user_s_back(make: Project) -> None:
    make.write("start.sh", "#!/bin/sh\necho started >> starts\nexec python main.py\n")
    (make.folder / "start.sh").chmod(0o755)
    make.app("")
    run = make.run("./start.sh")
    make.app("", version=2)
    run.ready(2)
    make.app("", version=3)
    run.ready(3)
    assert not is_forked(run, 3)
    assert run.stop() == 0
    assert (make.folder / "starts").read_text().count("started") == 3


@pytest.mark.parametrize("way", ["option", "config"])
def test_it_can_be_switched_off(make: Project, devsup: Start, way: str) -> None:
    make.app("")
    if way == "config":
        make.write("devsup.toml", "[services.web]\nfork = false\n")
    env = {"PYTHONPATH": str(make.packages), "APP_PORT": str(make.port)}
    run = devsup("python", "main.py", options=["--no-fork"] if way == "option" else [], env=env)
    run.ready()
    make.app("", version=2)
    run.ready(2)
    assert not is_forked(run, 2)
    assert not run.all("ForkServerReady")


def test_an_upgraded_package_counts_at_once_and_is_forked_again_later(make: Project) -> None:
    make.install("package.py", "RELEASE = 1\n")
    make.app("import package\n", "(package.RELEASE, VERSION)")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.install("package.py", "RELEASE = 22\n")
    make.app("import package\n", "(package.RELEASE, VERSION)", 2)
    run.ready(2)
    assert make.answer() == "(22, 2)"
    assert not is_forked(run, 2)
    run.wait_for("ForkServerReady", 2)
    make.app("import package\n", "(package.RELEASE, VERSION)", 3)
    run.ready(3)
    assert is_forked(run, 3)
    assert make.answer() == "(22, 3)"


def test_a_package_that_is_imported_for_the_first_time_is_forked_from_then_on(make: Project) -> None:
    make.install("another.py", "import os\nPID = os.getpid()\n")
    make.app("")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app("import another, os\n", "another.PID == os.getpid()", 2)
    run.ready(2)
    assert make.answer() == "True"
    run.wait_for("ForkServerReady", 2)
    make.app("import another, os\n", "another.PID == os.getpid()", 3)
    run.ready(3)
    assert make.answer() == "False"


def test_a_variable_that_is_another_at_each_start_builds_no_fork_server_for_ever(make: Project) -> None:
    text = "import os, time\nos.environ['STARTED'] = str(time.time())\n"
    make.app(text)
    run = make.run()
    for version in range(2, 6):
        run.wait_for("ForkServerReady", version - 1)
        make.app(text, version=version)
        run.ready(version)
    make.app(text, version=6)
    run.ready(6)
    make.app(text, version=7)
    run.ready(7)
    assert is_forked(run, 7)
    assert run.stop() == 0
    assert len(run.all("ForkServerReady")) == 4


def test_what_an_import_starts_is_no_fork_server_of_its_own(make: Project) -> None:
    make.install("asks.py", "import subprocess, sys\nSAID = subprocess.check_output([sys.executable, '-c', 'print(7)'])\n")
    make.app("import asks\n", "int(asks.SAID)")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app("import asks\n", "int(asks.SAID)", 2)
    run.ready(2)
    assert is_forked(run, 2)
    assert make.answer() == "7"


def test_a_variable_that_an_import_sets_unless_it_is_there_is_there(make: Project) -> None:
    make.install("defaults.py", "import os\nos.environ.setdefault('KMP_INIT_AT_FORK', 'FALSE')\n")
    make.app("import os, defaults\n", "os.environ['KMP_INIT_AT_FORK']")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app("import os, defaults\n", "os.environ['KMP_INIT_AT_FORK']", 2)
    run.ready(2)
    assert is_forked(run, 2)
    assert make.answer() == "FALSE"


def test_an_env_file_that_cannot_be_read_ends_nothing(make: Project, devsup: Start) -> None:
    make.write("settings.env", "SETTING=one\n")
    make.app("import os\n", "os.environ['SETTING']")
    env = {"PYTHONPATH": str(make.packages), "APP_PORT": str(make.port)}
    run = devsup("python", "main.py", options=["--reload", "handover", "--env-file", "settings.env"], env=env)
    run.ready()
    (make.folder / "settings.env").write_bytes(b"SETTING=\xe9\n")
    run.wait_for("Trouble")
    assert make.answer() == "one"
    make.write("settings.env", "SETTING=two\n")
    run.wait_for("Reloaded")
    assert make.answer() == "two"


@pytest.mark.parametrize("lock", ["flock", "lockf"])
@pytest.mark.parametrize("fork", [True, False], ids=["fork", "cold"])
def test_what_only_one_process_may_own_is_free_for_the_next(make: Project, fork: bool, lock: str) -> None:
    """A lock of a file goes with the process, and that takes long where there is much to free."""
    text = f"import fcntl\nFILE = open('lock', 'w')\nfcntl.{lock}(FILE, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    text += "CACHE = [[str(number)] for number in range(300_000)]\n"
    make.app(text)
    run = make.run(fork=fork)
    if fork:
        run.wait_for("ForkServerReady")
    for version in (2, 3, 4):
        make.app(text, version=version)
        run.ready(version)
    assert make.answer() == "4"
    assert not run.all("WorkerFailed")
    assert not run.all("ForkDoubted")


def test_a_terminal_on_standard_input_alone_is_not_taken(make: Project, environment: dict[str, str]) -> None:
    """As in `devsup run … | tee log`."""
    make.app("import sys\n", "(VERSION, sys.stdin.isatty())")
    master, slave = pty.openpty()
    env = {**environment, "PYTHONPATH": str(make.packages), "APP_PORT": str(make.port)}
    words = [sys.executable, "-m", "devsup", "run", "--log-format", "json", "--verbose", "python", "main.py"]
    run = Run(words, make.folder, env, stdin=slave)
    try:
        run.wait_for("ForkServerReady")
        make.app("import sys\n", "(VERSION, sys.stdin.isatty())", 2)
        run.ready(2)
        assert is_forked(run, 2)
        assert make.answer() == "(2, True)"
    finally:
        run.close()
        os.close(master)
        os.close(slave)


# -- when a fork dies -------------------------------------------------------------------------------------------------


DISLIKES = """
import os, signal, threading
HOME = os.getpid()
def use():
    if os.getpid() != HOME:
        END
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGSEGV)", "raise RuntimeError('not in a fork')"])
def test_a_crash_that_only_a_fork_has_ends_forking_and_is_told(make: Project, end: str) -> None:
    make.install("dislikes.py", DISLIKES.replace("END", end))
    text = "import dislikes\ndislikes.use()\n"
    make.app(text)
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app(text, version=2)
    run.wait_for("ForkDoubted")
    run.wait_for("Reloaded")
    assert make.answer() == "2"
    assert "cold" in run.wait_for("ForkServerOff", shown=True)["reason"]
    assert not run.all("WorkerFailed")
    generation = run.all("WorkerReady")[-1]["generation"]
    make.app(text, version=3)
    run.ready(generation + 1)
    assert not is_forked(run, generation + 1)


def test_a_crash_right_after_the_start_that_only_a_fork_has_ends_forking(make: Project) -> None:
    end = "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGSEGV)).start()"
    make.install("dislikes.py", DISLIKES.replace("END", end))
    text = "import dislikes\ndislikes.use()\n"
    make.app(text)
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app(text, version=2)
    run.wait_for("ForkDoubted")
    assert "cold" in run.wait_for("ForkServerOff", shown=True)["reason"]
    assert make.answer() == "2"


def test_a_mistake_in_what_was_saved_is_told_once_and_forking_goes_on(make: Project) -> None:
    make.app("")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app("1/0\n", version=2)
    run.wait_for("WorkerFailed")
    make.app("", version=3)
    run.wait_for("Reloaded")
    assert not run.all("ForkDoubted")
    assert sum("ZeroDivisionError" in line for line in run.stderr.splitlines()) == 1
    assert is_forked(run, run.all("WorkerReady")[-1]["generation"])


def test_a_failure_that_a_cold_start_has_too_leaves_forking_on(make: Project) -> None:
    make.write("other.py", "")
    make.app("import other\n")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.install("breaks.py", "raise OSError('always')\n")
    make.app("import other, breaks\n", version=2)
    run.wait_for("ForkDoubted")
    run.wait_for("WorkerFailed")
    make.app("import other\n", version=3)
    run.wait_for("Reloaded")
    assert make.answer() == "3"
    assert not run.all("ForkServerOff")


def test_a_fork_server_that_dies_is_no_loss(make: Project) -> None:
    make.app("")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app("", version=2)
    run.ready(2)
    pid = run.wait_for("WorkerSpawned", generation=2)["pid"]
    server = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(server, signal.SIGKILL)
    assert make.answer() == "2"
    make.app("", version=3)
    run.ready(3)
    assert make.answer() == "3"
    assert run.stop() == 0


@pytest.mark.parametrize("victim", ["devsup", "worker"])
def test_nothing_is_left_when_devsup_or_a_forked_worker_is_killed(make: Project, victim: str) -> None:
    make.app("")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app("", version=2)
    run.ready(2)
    worker = run.wait_for("WorkerSpawned", generation=2)["pid"]
    server = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    if victim == "devsup":
        run.process.kill()
        wait_until(lambda: not Path(f"/proc/{worker}").exists() and not Path(f"/proc/{server}").exists(), 5)
    else:
        os.kill(worker, signal.SIGKILL)
        assert run.wait_for("WorkerExited", generation=2)["exit"]["signal"] == signal.SIGKILL
        run.ready(3)
        assert make.answer() == "2"


def test_what_a_forked_worker_leaves_is_found_by_its_own_token(make: Project) -> None:
    """A daemon that was forked, has left its session, and has no parent any more."""
    text = (
        "import os, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n    os._exit(0)\n"
        "os.wait()\n"
    )
    make.app("")
    run = make.run()
    run.wait_for("ForkServerReady")
    make.app(text, version=2)
    run.ready(2)
    make.app("", version=3)
    run.ready(3)
    assert run.stop() == 0
    assert len(run.wait_for("Stopped")["left"]) == 1


def test_the_project_s_own_environment_makes_the_forks(devsup: Start, project: Path, port: int, tmp_path: Path) -> None:
    """Not devsup's interpreter: a virtual environment without devsup."""
    venv = make_environment(tmp_path / "venv", sys.executable, ("uvicorn", "click", "h11", "typing_extensions"))
    app = (
        "import sys\nasync def app(scope, receive, send):\n    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': f'{VERSION} {sys.prefix}'.encode()})\n"
    )
    save(project / "main.py", "VERSION = 1\n" + app)
    run = devsup("uvicorn", "main:app", "--port", str(port), "--lifespan", "off", env={"VIRTUAL_ENV": str(venv)})
    run.wait_for("ForkServerReady")
    save(project / "main.py", "VERSION = 2\n" + app)
    run.ready(2)
    assert is_forked(run, 2)
    assert fetch(port, timeout=LIMIT)[1] == f"2 {venv}"


def test_the_timeline_of_a_reload_is_in_its_event(make: Project) -> None:
    make.write("main.py", ASGI.replace("VERSION", "1"))
    run = make.run("uvicorn", "main:app", "--port", str(make.port))
    run.wait_for("ForkServerReady")
    make.write("main.py", ASGI.replace("VERSION", "2"))
    timeline: dict[str, Any] = run.wait_for("Reloaded")["timeline"]
    assert list(timeline) == ["seen", "settled", "compiled", "drained", "stopped", "forked", "imported", "started"]
    assert list(timeline.values()) == sorted(timeline.values())
    make.answer()
    assert run.wait_for("FirstAnswer", generation=2)["seconds"] > timeline["started"]
