"""The command line: help, completion, config, interpreter, banner, event log, environments."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import devsup as package
from harness import LIMIT, Run, fetch, save, tool, wait_until

GUEST = str(Path(package.__file__).with_name("guest"))
APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse("v1")

async def slow(request):
    return PlainTextResponse("slow")

app = Starlette(routes=[Route("/", home), Route("/slow", slow)])
"""
BARE_ASGI = "async def app(scope, receive, send): pass\n"
BARE_WSGI = "def app(environ, start_response): return []\n"
WHO = "import sys; print('prefix', sys.prefix)\n"


def call(
    *words: str, cwd: Path, env: dict[str, str], timeout: float = LIMIT, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """`devsup` with these words, to its end."""
    command = [*prefix, sys.executable, "-m", "devsup", *words]
    return subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )


class Plain:
    """`devsup run` in text mode, with what it prints in files."""

    def __init__(self, words: list[str], cwd: Path, env: dict[str, str], folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            command = [sys.executable, "-m", "devsup", "run", *words]
            self.process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        """Its stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Its stderr so far."""
        return self._err.read_text()

    def own(self) -> list[str]:
        """The lines of devsup itself on either stream."""
        return [line for line in (self.out + self.err).splitlines() if line.startswith("devsup")]

    def wait_for(self, text: str) -> str:
        """The line that holds `text`, when it has come."""

        def found() -> str | None:
            return next((line for line in (self.out + self.err).splitlines() if text in line), None)

        line = wait_until(found, story=lambda: f"no {text!r}\n{self.out}\n{self.err}")
        assert line is not None
        return line

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(LIMIT)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def plain(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., Plain]]:
    """`plain("uvicorn", "main:app")` starts devsup in text mode."""
    started: list[Plain] = []

    def start(*words: str) -> Plain:
        started.append(Plain(list(words), project, environment, project.parent))
        return started[-1]

    yield start
    for each in started:
        each.close()


def make_venv(folder: Path) -> Path:
    """A virtual environment with nothing in it."""
    venv.create(folder, symlinks=True, with_pip=False)
    return folder


# Help


def test_help(project: Path, environment: dict[str, str]) -> None:
    done = call("--help", cwd=project, env=environment)
    assert done.returncode == 0
    assert re.search(r"^  run +Run COMMAND", done.stdout, re.MULTILINE), done.stdout
    for example in ("devsup run uvicorn main:app --port 8000", "devsup run python main.py", "devsup run main:app"):
        assert example in done.stdout
    assert "--version" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("words", [[], ["run", "--help"]], ids=["devsup", "devsup run --help"])
def test_help_does_not_run_anything(words: list[str], project: Path, environment: dict[str, str]) -> None:
    done = call(*words, cwd=project, env=environment)
    assert "Usage: devsup" in done.stdout + done.stderr
    assert not list(project.iterdir())


OPTIONS = """
--watch --ignore --watch-mode --reload --drain-timeout --env-file --python --cwd --service --exit-on-failure --verbose --quiet
--log-format --no-fork
""".split()


@pytest.mark.parametrize("option", OPTIONS)
def test_run_help_names_every_option(option: str, project: Path, environment: dict[str, str]) -> None:
    done = call("run", "--help", cwd=project, env={**environment, "COLUMNS": "200"})
    assert done.returncode == 0
    found = re.findall(rf"^ .*{option}(?![\w-])(.*\n.*)", done.stdout, re.MULTILINE)
    assert len(found) == 1, done.stdout
    assert re.search(r"\S\s{2,}\S", found[0]), f"{option} has no help"


def test_run_help_names_the_choices(project: Path, environment: dict[str, str]) -> None:
    text = call("run", "--help", cwd=project, env={**environment, "COLUMNS": "200"}).stdout
    for choices in ("[imported|all]", "[drain|handover|restart|off]", "[text|json]"):
        assert choices in text


def test_help_behind_a_command_is_the_commands(project: Path, environment: dict[str, str]) -> None:
    done = call("run", "flask", "--help", cwd=project, env=environment)
    alone = subprocess.run(
        [sys.executable, "-m", "flask", "--help"], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert done.returncode == 0, done.stderr
    wanted = [line for line in alone.stdout.splitlines() if line and not line.startswith("Usage")]
    assert len(wanted) > 10
    assert [line for line in wanted if line not in done.stdout.splitlines()] == []


def test_help_behind_a_target_is_its_servers(project: Path, environment: dict[str, str]) -> None:
    save(project / "main.py", BARE_ASGI)
    done = call("run", "main:app", "--help", cwd=project, env=environment)
    assert done.returncode == 0, done.stderr
    assert "--timeout-keep-alive" in done.stdout
    assert "devsup_agent" not in done.stdout


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_version_and_help_come_from_the_module_too(words: list[str], project: Path, environment: dict[str, str]) -> None:
    done = call(*words, cwd=project, env=environment)
    assert done.returncode == 0
    assert ("devsup, version " + package.__version__ in done.stdout) is (words == ["--version"])


def test_the_shells_completion_script(project: Path, environment: dict[str, str]) -> None:
    done = call(cwd=project, env={**environment, "_DEVSUP_COMPLETE": "bash_source"})
    assert done.returncode == 0, done.stderr
    assert "_DEVSUP_COMPLETE=bash_complete" in done.stdout
    assert re.search(r"complete .*devsup", done.stdout)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("devsup r", "run"), ("devsup run --watch-", "--watch-mode"), ("devsup run --reload ", "restart")],
    ids=["verb", "option", "choice"],
)
def test_completion_completes(typed: str, wanted: str, project: Path, environment: dict[str, str]) -> None:
    count = len(typed.split()) - (not typed.endswith(" "))
    env = {**environment, "_DEVSUP_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(count)}
    done = call(cwd=project, env=env)
    assert wanted in [line.partition(",")[2] for line in done.stdout.splitlines()], done.stdout + done.stderr


# Config


def test_the_only_service_is_run(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "main.py", APP)
    save(project / "devsup.toml", f'[services.web]\ncommand = "uvicorn main:app --port {port}"\n')
    run = devsup()
    run.ready()
    assert fetch(port) == (200, "v1")
    started = run.wait_for("ServiceStarted")
    assert started["service"] == "web"
    assert started["config"] == str(project / "devsup.toml")
    assert run.stop() == 0


TWO = """
[services.one]
command = "python -c 'print(\\"I am one\\")'"
[services.two]
command = ["python", "-c", "import os; print('I am two', os.environ['COLOUR'])"]
env = { COLOUR = "green" }
reload = "restart"
"""


@pytest.mark.parametrize(("name", "line", "reload"), [("one", "I am one", "drain"), ("two", "I am two green", "restart")])
def test_service_picks_one(devsup: Callable[..., Run], project: Path, name: str, line: str, reload: str) -> None:
    save(project / "devsup.toml", TWO)
    run = devsup(options=["--service", name])
    assert run.wait() == 0
    assert run.lines() == [line]
    started = run.wait_for("ServiceStarted")
    assert (started["service"], started["reload"]) == (name, reload)


def test_service_gives_its_settings_to_another_command(devsup: Callable[..., Run], project: Path) -> None:
    save(project / "devsup.toml", TWO)
    run = devsup("python", "-c", "import os; print('another', os.environ['COLOUR'])", options=["--service", "two"])
    assert run.wait() == 0
    assert run.lines() == ["another green"]
    assert run.wait_for("ServiceStarted")["reload"] == "restart"


@pytest.mark.parametrize(("options", "reload"), [([], "off"), (["--reload", "restart"], "restart")])
def test_options_beat_the_config(devsup: Callable[..., Run], project: Path, options: list[str], reload: str) -> None:
    save(project / "devsup.toml", '[services.web]\ncommand = ["python", "-c", "print(1)"]\nreload = "off"\n')
    run = devsup(options=options)
    assert run.wait() == 0
    assert run.wait_for("ServiceStarted")["reload"] == reload


def test_a_command_beats_the_configs(devsup: Callable[..., Run], project: Path) -> None:
    save(project / "devsup.toml", '[services.web]\ncommand = ["python", "-c", "print(1)"]\n')
    run = devsup("python", "-c", "print(2)")
    assert run.wait() == 0
    assert run.lines() == ["2"]


def test_env_files_from_the_option_and_the_config(devsup: Callable[..., Run], project: Path) -> None:
    """An --env-file replaces the config's; the real environment beats a file."""
    show = "import os; print(*(os.environ.get(key) for key in ('A', 'B', 'C')))"
    save(project / "devsup.toml", f'[services.web]\ncommand = ["python", "-c", "{show}"]\nenv_files = ["a.env"]\n')
    save(project / "a.env", "A=file\nC=file\n")
    save(project / "b.env", "B=file\nC=file\n")
    run = devsup(env={"C": "real"})
    assert run.wait() == 0
    assert run.lines() == ["file None real"]
    run = devsup(options=["--env-file", "b.env"], env={"C": "real"})
    assert run.wait() == 0
    assert run.lines() == ["None file real"]


def test_pyproject_is_read_and_devsup_toml_beats_it(devsup: Callable[..., Run], project: Path) -> None:
    save(project / "pyproject.toml", '[tool.devsup.services.web]\ncommand = ["python", "-c", "print(1)"]\n')
    run = devsup()
    assert run.wait() == 0
    assert run.lines() == ["1"]
    assert run.wait_for("ServiceStarted")["config"] == str(project / "pyproject.toml")
    save(project / "devsup.toml", '[services.api]\ncommand = ["python", "-c", "print(22)"]\n')
    run = devsup()
    assert run.wait() == 0
    assert run.lines() == ["22"]
    assert run.wait_for("ServiceStarted")["config"] == str(project / "devsup.toml")


def test_a_service_runs_in_its_configs_folder(devsup: Callable[..., Run], project: Path) -> None:
    """Also when devsup is started further down."""
    (project / "deep" / "down").mkdir(parents=True)
    (project / "back").mkdir()
    save(project / "devsup.toml", '[services.web]\ncwd = "back"\ncommand = ["python", "-c", "import os; print(os.getcwd())"]\n')
    run = devsup(cwd=project / "deep" / "down")
    assert run.wait() == 0
    assert run.lines() == [str(project / "back")]


@pytest.mark.parametrize("services", [0, 1, 2])
def test_a_command_runs_where_the_user_stands(devsup: Callable[..., Run], project: Path, services: int) -> None:
    """A command that works here works here under devsup: a config further up does not move it."""
    tables = ["[services.web]\nreload = 'restart'\n", "[services.api]\n"][:services]
    save(project / "devsup.toml", "".join(tables))
    (project / "below").mkdir()
    save(project / "below" / "here.py", "import os; print(os.getcwd())\n")
    run = devsup("python", "here.py", cwd=project / "below")
    assert run.wait() == 0, run.story()
    assert run.lines() == [str(project / "below")]


def test_cwd(devsup: Callable[..., Run], project: Path) -> None:
    (project / "below").mkdir()
    save(project / "below" / "here.py", "import os; print(os.getcwd())\n")
    run = devsup("python", "here.py", options=["--cwd", "below"])
    assert run.wait() == 0, run.story()
    assert run.lines() == [str(project / "below")]


# Interpreter


@pytest.mark.parametrize("given", ["folder", "python", "relative"])
def test_python_option_beats_virtual_env(devsup: Callable[..., Run], project: Path, given: str) -> None:
    folder = make_venv(project / "env")
    save(project / "who.py", WHO)
    option = {"folder": str(folder), "python": str(folder / "bin" / "python"), "relative": "env"}[given]
    run = devsup("python", "who.py", options=["--python", option])
    assert run.wait() == 0, run.story()
    assert run.lines() == [f"prefix {folder}"]
    started = run.wait_for("ServiceStarted")
    assert started["reason"] == "--python"
    assert Path(started["interpreter"]).parent == folder / "bin"


def test_virtual_env_beats_dot_venv(devsup: Callable[..., Run], project: Path) -> None:
    make_venv(project / ".venv")
    other = make_venv(project / "other")
    save(project / "who.py", WHO)
    run = devsup("python", "who.py", env={"VIRTUAL_ENV": str(other)})
    assert run.wait() == 0, run.story()
    assert run.lines() == [f"prefix {other}"]
    assert run.wait_for("ServiceStarted")["reason"] == "VIRTUAL_ENV"


def test_dot_venv_beats_path(devsup: Callable[..., Run], project: Path) -> None:
    """The nearest one up to the repository."""
    folder = make_venv(project / ".venv")
    (project / ".git").mkdir()
    (project / "below").mkdir()
    save(project / "below" / "who.py", WHO)
    run = devsup("python", "who.py", env={"VIRTUAL_ENV": ""}, cwd=project / "below")
    assert run.wait() == 0, run.story()
    assert run.lines() == [f"prefix {folder}"]
    assert run.wait_for("ServiceStarted")["reason"] == ".venv"


def test_path_is_the_last(devsup: Callable[..., Run], project: Path) -> None:
    folder = make_venv(project / "somewhere")
    (project / ".git").mkdir()
    save(project / "who.py", WHO)
    run = devsup("python", "who.py", env={"VIRTUAL_ENV": "", "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"})
    assert run.wait() == 0, run.story()
    assert run.lines() == [f"prefix {folder}"]
    started = run.wait_for("ServiceStarted")
    assert (started["reason"], Path(started["interpreter"]).parent) == ("PATH", folder / "bin")


NEEDS = {"uvicorn": BARE_ASGI, "werkzeug": BARE_WSGI}


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("package_name", NEEDS)
def test_a_missing_server_gives_its_install_command(
    project: Path, environment: dict[str, str], package_name: str, log_format: str
) -> None:
    """A target in an environment without its server; without a trial start that waits for a save."""
    folder = make_venv(project / "env")
    save(project / "main.py", NEEDS[package_name])
    done = call("run", "--log-format", log_format, "--python", "env", "main:app", cwd=project, env=environment, timeout=10)
    story = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 2, story
    told = done.stderr
    if log_format == "json":
        refused = [each for each in map(json.loads, done.stdout.splitlines()) if each["event"] == "Refused"]
        told += "".join(each["problem"] + each["remedy"] for each in refused)
    assert f"{folder / 'bin' / 'python'} -m pip install {package_name}" in told, story
    assert "Traceback" not in story


def test_a_missing_server_command_gives_its_install_command(project: Path, environment: dict[str, str]) -> None:
    folder = make_venv(project / "env")
    save(project / "main.py", BARE_ASGI)
    env = {**environment, "PATH": "/usr/bin:/bin"}
    done = call("run", "--python", "env", "uvicorn", "main:app", cwd=project, env=env, timeout=10)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{folder / 'bin' / 'python'} -m pip install uvicorn" in done.stderr


# What it says


def test_the_banner(plain: Callable[..., Plain], project: Path, port: int) -> None:
    """Address, pid, interpreter and why, routes, reload mode."""
    save(project / "main.py", APP)
    run = plain("uvicorn", "main:app", "--port", str(port))
    first = run.wait_for(f"devsup http://127.0.0.1:{port}")
    pid = re.search(r"pid (\d+)", first)
    assert pid is not None
    shown = re.search(r"Started server process \[(\d+)\]", run.err)
    assert shown is not None
    assert pid[1] == shown[1]
    assert "uvicorn" in first
    second = run.wait_for("reload:")
    assert "reload: drain" in second
    version = ".".join(map(str, sys.version_info[:3]))
    assert f"Python {version}" in second
    assert "(VIRTUAL_ENV)" in second
    assert f"{Path(sys.prefix).name}/bin/python" in second
    assert "2 routes" in run.wait_for("routes")
    assert "/slow" not in run.out
    assert run.stop() == 0


@pytest.mark.parametrize("mode", ["drain", "handover", "restart", "off"])
def test_the_banner_tells_the_reload_mode(plain: Callable[..., Plain], project: Path, port: int, mode: str) -> None:
    save(project / "main.py", APP)
    run = plain("--reload", mode, "uvicorn", "main:app", "--port", str(port))
    assert f"reload: {mode}" in run.wait_for("reload:")


def test_the_banner_uses_good_grammar_for_one_route(plain: Callable[..., Plain], project: Path, port: int) -> None:
    save(project / "main.py", APP.replace(', Route("/slow", slow)', ""))
    run = plain("uvicorn", "main:app", "--port", str(port))
    assert re.search(r"\b1 route\b", run.wait_for("route"))


def test_the_banner_comes_once(plain: Callable[..., Plain], project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = plain("uvicorn", "main:app", "--port", str(port))
    run.wait_for("reload: drain")
    save(project / "main.py", APP.replace("v1", "v2222"))
    run.wait_for("new code serves")
    assert fetch(port) == (200, "v2222")
    assert run.stop() == 0
    assert len([line for line in run.own() if "reload: drain" in line]) == 1
    assert "main.py changed" in run.out


def test_verbose_lists_the_routes(plain: Callable[..., Plain], project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = plain("--verbose", "uvicorn", "main:app", "--port", str(port))
    assert run.wait_for("/slow").startswith("devsup")


def test_quiet_says_only_what_went_wrong(plain: Callable[..., Plain], project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = plain("--quiet", "uvicorn", "main:app", "--port", str(port))
    run.wait_for("Uvicorn running")
    assert fetch(port) == (200, "v1")
    save(project / "main.py", APP.replace("v1", "v2222"))
    wait_until(lambda: run.err.count("Uvicorn running") == 2, story=lambda: run.out + run.err)
    wait_until(lambda: fetch(port) == (200, "v2222"))
    wait_until(lambda: '"Reloaded"' in (project / ".devsup" / "events.jsonl").read_text())
    assert run.own() == []
    save(project / "main.py", APP + "\nthis is no python\n")
    assert run.wait_for("main.py:").startswith("devsup")
    assert fetch(port) == (200, "v2222")
    assert run.stop() == 0
    assert [line for line in run.own() if "main.py:" not in line and "no python" not in line] == []


@pytest.mark.parametrize("option", [[], ["--quiet"]], ids=["normal", "quiet"])
def test_the_death_of_a_worker_is_said(plain: Callable[..., Plain], project: Path, port: int, option: list[str]) -> None:
    """With --quiet too: it went wrong."""
    save(project / "main.py", APP)
    run = plain(*option, "uvicorn", "main:app", "--port", str(port))
    run.wait_for("Uvicorn running")
    assert fetch(port) == (200, "v1")
    found = re.search(r"Started server process \[(\d+)\]", run.err)
    assert found is not None
    os.kill(int(found[1]), signal.SIGKILL)
    said = run.wait_for("SIGKILL")
    assert found[1] in said
    assert said.startswith("devsup")
    assert run.stop() == 0


def test_a_script_that_ends_is_not_talked_about(plain: Callable[..., Plain], project: Path) -> None:
    """It prints what it prints, and devsup ends with 0."""
    save(project / "hello.py", "import sys; print('hello', *sys.argv[1:]); print('oops', file=sys.stderr)\n")
    run = plain("python", "hello.py", "--verbose", "--reload", "x")
    assert run.process.wait(LIMIT) == 0
    assert (run.out, run.err) == ("hello --verbose --reload x\n", "oops\n")


def test_double_dash_ends_devsups_options(plain: Callable[..., Plain], project: Path) -> None:
    run = plain("--", "python", "-c", "import sys; print(sys.argv)", "--", "-x")
    assert run.process.wait(LIMIT) == 0
    assert run.out == "['-c', '--', '-x']\n"


# The event log


def test_the_event_log_holds_what_stdout_held(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    save(project / "main.py", APP.replace("v1", "v2222"))
    run.ready(2)
    assert run.stop() == 0
    written = [json.loads(line) for line in (project / ".devsup" / "events.jsonl").read_text().splitlines()]
    assert written == [each for each in run.events if each["event"] != "Line"]
    assert {"ServiceStarted", "WorkerReady", "Reloaded", "Stopped"} <= {each["event"] for each in written}


def test_the_event_log_is_private_and_ignored_by_git(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str]
) -> None:
    git = [tool("git"), "-C", str(project)]
    subprocess.run([*git, "init", "--quiet"], check=True, env=environment)
    save(project / "hello.py", "print('hello')\n")
    old = os.umask(0)
    try:
        run = devsup("python", "hello.py")
        assert run.wait() == 0
    finally:
        os.umask(old)
    log = project / ".devsup" / "events.jsonl"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    seen = subprocess.run([*git, "status", "--porcelain", "-uall"], check=True, env=environment, capture_output=True, text=True)
    assert seen.stdout.split() == ["??", "hello.py"]


def test_two_runs_append(devsup: Callable[..., Run], project: Path) -> None:
    save(project / "hello.py", "print('hello')\n")
    for _ in range(2):
        assert devsup("python", "hello.py").wait() == 0
    names = [json.loads(line)["event"] for line in (project / ".devsup" / "events.jsonl").read_text().splitlines()]
    assert names.count("ServiceStarted") == names.count("Stopped") == 2


@pytest.mark.parametrize("obstacle", ["a read-only folder", "a file called .devsup"])
def test_without_an_event_log_it_works(devsup: Callable[..., Run], project: Path, port: int, obstacle: str) -> None:
    save(project / "main.py", APP)
    prefix: list[str] = []
    if obstacle == "a read-only folder":
        project.chmod(0o555)
        if os.geteuid() == 0:  # root may write everywhere, unless it gives that up
            prefix = [tool("setpriv"), "--bounding-set=-dac_override,-dac_read_search", "--"]
    else:
        save(project / ".devsup", "not a folder")
    run = devsup("uvicorn", "main:app", "--port", str(port), env={"PYTHONDONTWRITEBYTECODE": "1"}, prefix=prefix)
    run.ready()
    assert fetch(port) == (200, "v1")
    assert not (project / ".devsup").is_dir()
    project.chmod(0o755)
    save(project / "main.py", APP.replace("v1", "v2222"))
    run.ready(2)
    assert fetch(port) == (200, "v2222")
    assert run.stop() == 0


# Environments


def test_devsup_in_devsup(devsup: Callable[..., Run], project: Path, port: int) -> None:
    """The inner one has the listener and reloads; the outer one runs a program like any other."""
    save(project / "main.py", APP)
    inner = ["-m", "devsup", "run", "--log-format", "json", "uvicorn", "main:app", "--port", str(port)]
    outer = devsup(sys.executable, *inner)
    told: list[dict[str, object]] = []

    def said(name: str, count: int) -> bool:
        told[:] = [json.loads(line) for line in outer.lines() if line.startswith('{"at"')]
        return len([each for each in told if each["event"] == name]) >= count

    wait_until(lambda: said("WorkerReady", 1), story=outer.story)
    outer.ready()  # as a foreign program, which a save does not restart
    assert fetch(port) == (200, "v1")
    assert [each["url"] for each in told if each["event"] == "ListenerKept"] == [f"http://127.0.0.1:{port}"]
    assert outer.all("ListenerKept") == []
    save(project / "main.py", APP.replace("v1", "v2222"))
    wait_until(lambda: said("Reloaded", 1), story=outer.story)
    assert fetch(port) == (200, "v2222")
    assert len(outer.all("WorkerSpawned")) == 1
    assert outer.all("ReloadStarted") == []
    assert outer.stop() == 0
    assert said("Stopped", 1), "the inner one ended in order"
    assert outer.all("Stopped")[0]["left"] == []


SHOW = """
import json
import os
import subprocess
import sys

mine = "child" if len(sys.argv) > 1 else "self"
print(json.dumps({"who": mine, "path": sys.path, "argv": sys.argv[:1], "devsup": "devsup" in sys.modules}), flush=True)
if mine == "self":
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""


@pytest.mark.parametrize("flags", [[], ["-P"], ["-s"]], ids=["plain", "safe path", "no user site"])
def test_the_program_sees_the_path_it_would_see_alone(
    devsup: Callable[..., Run], project: Path, environment: dict[str, str], flags: list[str]
) -> None:
    """sys.path, in it and in its children, with the user's own PYTHONPATH."""
    if flags == ["-P"] and sys.version_info < (3, 11):
        pytest.skip("Python 3.11 brought -P")
    (project / "mine").mkdir()
    save(project / "show.py", SHOW)
    env = {**environment, "PYTHONPATH": f"{project / 'mine'}{os.pathsep}relative"}
    command = ["python", *flags, "show.py"]
    alone = subprocess.run([sys.executable, *command[1:]], cwd=project, env=env, check=True, capture_output=True, text=True)
    run = devsup(*command, env=env)
    assert run.wait() == 0, run.story()
    told = [json.loads(line) for line in run.lines()]
    assert told == [json.loads(line) for line in alone.stdout.splitlines()]
    assert len(told) == 2
    assert not [entry for each in told for entry in each["path"] if entry.startswith(GUEST)]
    assert str(project / "mine") in told[0]["path"]


def test_the_users_own_sitecustomize_runs(devsup: Callable[..., Run], project: Path) -> None:
    (project / "mine").mkdir()
    save(project / "mine" / "sitecustomize.py", "import builtins; builtins.mine = 'mine ran as ' + __name__\n")
    save(project / "show.py", "import sitecustomize, os; print(mine); print(os.path.dirname(sitecustomize.__file__))\n")
    run = devsup("python", "show.py", env={"PYTHONPATH": str(project / "mine")})
    assert run.wait() == 0, run.story()
    assert run.lines() == ["mine ran as sitecustomize", str(project / "mine")]


def test_a_sitecustomize_that_fails_does_not_stop_the_program(devsup: Callable[..., Run], project: Path, port: int) -> None:
    """As without devsup: Python reports it and goes on; devsup's hooks are there."""
    (project / "mine").mkdir()
    save(project / "mine" / "sitecustomize.py", "raise RuntimeError('mine is broken')\n")
    save(project / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port), env={"PYTHONPATH": str(project / "mine")})
    assert run.ready()["server"] == "uvicorn"
    assert fetch(port) == (200, "v1")
    assert run.stop() == 0
    assert [line for line in run.stderr.splitlines() if "mine is broken" in line and '"stream":"stderr"' in line], run.stderr


def test_the_environment_is_made_anew_from_devsups_own(devsup: Callable[..., Run], project: Path, port: int) -> None:
    """An edited env file counts at the next start, a removed line too, and nothing of the last worker stays."""
    body = "import os\n" + APP.replace('"v1"', "os.environ.get('A', '-') + os.environ.get('B', '-')")
    save(project / "main.py", body + "os.environ['B'] = 'set by the app'\n")
    save(project / "x.env", "A=one\nB=two\n")
    run = devsup("uvicorn", "main:app", "--port", str(port), options=["--env-file", "x.env"])
    run.ready()
    assert fetch(port) == (200, "oneset by the app")
    save(project / "main.py", body)
    run.ready(2)
    assert fetch(port) == (200, "onetwo")
    save(project / "x.env", "A=three\n")
    run.ready(3)
    assert fetch(port) == (200, "three-")
    assert run.stop() == 0
