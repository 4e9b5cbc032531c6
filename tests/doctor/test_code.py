"""The app is imported as its server would, and the files compile, in the project's interpreter."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devsup.doctor import Finding, code, files
from devsup.doctor.code import Target, apps, syntax, target_of
from devsup.system import keeper
from harness import save, tool, wait_until

Examine = Callable[..., list[Finding]]

APP = "async def app(scope, receive, send): pass\n"
BIN = Path(sys.prefix, "bin")
PYTHON = str(BIN / "python")


def runs(pid: int) -> bool:
    return keeper.lives(pid, keeper.start_of(pid))


# The app


@pytest.mark.parametrize(
    "words",
    [("main:app",), ("uvicorn", "main:app", "--port", "8000"), ("python", "-m", "uvicorn", "main:app")],
    ids=" ".join,
)
def test_an_app_that_can_be_imported(examine: Examine, folder: Path, words: tuple[str, ...]) -> None:
    save(folder / "main.py", f"print('hello')\n{APP}")
    [found] = examine(apps, *words)
    assert found.verdict == "ok", found
    assert found.text.startswith("main:app is imported in 0.")
    assert found.text.endswith(": function.")
    assert not list(folder.rglob("*.pyc")), "nothing is left in the project"


def test_the_app_of_a_service_in_its_folder_with_its_variables(examine: Examine, folder: Path) -> None:
    config = '[services.web]\ntarget = "main:app"\ncwd = "api"\nenv = { COLOUR = "red" }\nenv_files = ["dev.env"]\n'
    save(folder / "devsup.toml", config)
    (folder / "api").mkdir()
    save(folder / "api" / "dev.env", "SIZE=5\n")
    save(folder / "api" / "main.py", f"import os\nassert (os.environ['COLOUR'], os.environ['SIZE']) == ('red', '5')\n{APP}")
    [found] = examine(apps)
    assert (found.verdict, found.text[:28]) == ("ok", "web: main:app is imported in"), found


def test_one_app_of_two_services_is_imported_once(examine: Examine, folder: Path) -> None:
    save(folder / "devsup.toml", '[services.a]\ntarget = "main:app"\n[services.b]\ntarget = "main:app"\n')
    save(folder / "main.py", f"open('imports', 'a').write('x')\n{APP}")
    assert [each.verdict for each in examine(apps)] == ["ok"]
    assert (folder / "imports").read_text() == "x"


def test_a_package_that_is_missing_is_named_with_the_line_that_wants_it(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", f"import os\nimport nowhere_to_be_found\n{APP}")
    [found] = examine(apps, "uvicorn", "main:app")
    assert found.verdict == "fail"
    assert "main:app cannot be imported: Module nowhere_to_be_found is not installed" in found.text
    assert "(main.py:2)" in found.text
    assert "ModuleNotFoundError: No module named 'nowhere_to_be_found'" in found.text
    assert found.remedy == f"{PYTHON} -m pip install nowhere_to_be_found"


def test_an_exception_is_told_with_the_deepest_line_of_the_project(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", f"import settings\n{APP}")
    save(folder / "settings.py", "def read():\n    raise ValueError('no colour')\n\nread()\n")
    [found] = examine(apps, "main:app")
    assert found.verdict == "fail"
    assert found.text == "main:app cannot be imported: ValueError: no colour (settings.py:2)."
    done = subprocess.run(found.remedy.partition(": ")[2], shell=True, capture_output=True, text=True, timeout=20, check=False)
    assert "ValueError: no colour" in done.stderr, "the remedy shows all of it"


def test_a_syntax_error_is_told(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", "import views\n")
    save(folder / "views.py", "\ndef f(:\n")
    [found] = examine(apps, "main:app")
    assert (found.verdict, "views.py:2 does not compile" in found.text) == ("fail", True), found


def test_an_app_of_another_name_is_named(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", "from starlette.applications import Starlette\napi = Starlette()\n")
    [found] = examine(apps, "main:app")
    assert (found.verdict, found.text) == ("fail", "main:app cannot be imported: module main has no app.")
    assert found.remedy == "Name the app that it has: devsup run main:api"


def test_what_cannot_be_called_is_no_app(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", "app = {}\n")
    [found] = examine(apps, "main:app")
    assert (found.verdict, found.text) == ("fail", "main:app is no app: it is of type dict, and cannot be called.")


WSGI = "def app(environ, start_response): pass\n"


@pytest.mark.parametrize(("text", "server"), [(APP, "uvicorn"), (WSGI, "werkzeug")], ids=["ASGI", "WSGI"])
def test_the_server_of_an_app_has_to_be_installed(examine: Examine, folder: Path, text: str, server: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True, timeout=50)
    save(folder / "main.py", text)
    [found] = examine(apps, "main:app", python="env")
    assert (found.verdict, found.text) == (
        "fail",
        f"main:app needs {server}, which is not installed for {folder}/env/bin/python.",
    )
    assert found.remedy == f"{folder}/env/bin/python -m pip install {server}"
    assert [each.verdict for each in examine(apps, "main:app")] == ["ok"]


def test_a_module_in_another_folder_is_found_there(examine: Examine, folder: Path) -> None:
    (folder / "src").mkdir()
    save(folder / "src" / "main.py", APP)
    [found] = examine(apps, "main:app")
    assert (found.verdict, found.remedy) == ("fail", "Run it there: devsup run --cwd src …")
    assert [each.verdict for each in examine(apps, "uvicorn", "main:app", "--app-dir", "src")] == ["ok"]


def test_an_import_that_does_not_end_is_ended_and_its_place_told(
    examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_IMPORT", 1.0)
    save(folder / "main.py", f"import os, threading\nopen('pid', 'w').write(str(os.getpid()))\nthreading.Event().wait()\n{APP}")
    [found] = examine(apps, "main:app")
    assert found.verdict == "fail"
    assert found.text.startswith("main:app is not imported after 1 s: it is in threading")
    assert found.text.endswith("called from main.py:3.")
    assert not runs(int((folder / "pid").read_text()))


def test_one_that_cannot_be_interrupted_is_ended_too(examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_IMPORT", 0.5)
    monkeypatch.setattr(code, "_SLACK", 0.5)
    stopped = (
        "import faulthandler, os, signal\nfaulthandler.cancel_dump_traceback_later()\nos.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    save(folder / "main.py", f"open('pid', 'w').write(str(__import__('os').getpid()))\n{stopped}{APP}")
    [found] = examine(apps, "main:app")
    assert (found.verdict, found.text) == ("fail", "main:app is not imported after 0.5 s.")
    assert not runs(int((folder / "pid").read_text()))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("raise SystemExit(0)", "SystemExit: 0 (main.py:1)"),
        ("import os; os._exit(0)", "It ended by itself"),
        ("input()", "main.py:1"),
        ("import ctypes; ctypes.string_at(0)", "It crashed in native code (SIGSEGV: Segmentation fault)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Somebody killed it (SIGKILL)"),
    ],
)
def test_however_an_import_ends_it_fails(examine: Examine, folder: Path, statement: str, said: str) -> None:
    save(folder / "main.py", f"{statement}\n{APP}")
    [found] = examine(apps, "main:app")
    assert (found.verdict, said in found.text) == ("fail", True), found


@pytest.mark.parametrize("session", [False, True], ids=["in its session", "in one of its own"])
def test_what_an_import_has_started_is_ended(examine: Examine, folder: Path, session: bool) -> None:
    child = f"subprocess.Popen([sys.executable, '-c', 'import sys, time; time.sleep(600)'], start_new_session={session})"
    thread = "threading.Thread(target=threading.Event().wait).start()"
    save(
        folder / "main.py",
        f"import subprocess, sys, threading\nchild = {child}\n{thread}\nopen('pid', 'w').write(str(child.pid))\n{APP}",
    )
    began = time.monotonic()
    [found] = examine(apps, "main:app")
    assert found.verdict == "ok", found
    assert time.monotonic() - began < code._IMPORT / 2, "its thread is not waited for"
    pid = int((folder / "pid").read_text())
    wait_until(lambda: not runs(pid), 5)


def test_a_script_is_compiled_and_not_run(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", "open('ran', 'w')\n")
    [found] = examine(apps, "python", "main.py", "--port", "8000")
    assert (found.verdict, found.text) == ("ok", "main.py compiles; it is not run.")
    assert not (folder / "ran").exists()
    save(folder / "main.py", "open('ran', 'w'\n")
    [found] = examine(apps, "python", "-X", "dev", "main.py")
    assert (found.verdict, found.text) == ("fail", "main.py:1: '(' was never closed."), found


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("python", "nowhere.py"), "There is no file nowhere.py"),
        (("nowhere-to-be-found", "main:app"), 'There is no program "nowhere-to-be-found"'),
    ],
)
def test_a_command_that_is_not_there_fails(examine: Examine, words: tuple[str, ...], problem: str) -> None:
    [found] = examine(apps, *words)
    assert (found.verdict, problem in found.text) == ("fail", True), found


def test_what_is_no_python_is_not_imported(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", "open('ran', 'w')\n")
    [found] = examine(apps, "sh", "-c", "exit", "main:app")
    assert (found.verdict, "no app is imported for it" in found.text) == ("ok", True)
    assert not (folder / "ran").exists()


def test_a_server_of_another_environment_is_a_warning(
    examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save(folder / "main.py", APP)
    server = tmp_path / "elsewhere" / "some-server"
    server.parent.mkdir()
    server.write_text(f"#!{PYTHON}\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{server.parent}")
    found = examine(apps, "some-server", "main:app")
    assert [each.verdict for each in found] == ["warn", "ok"]
    assert found[0].text == f"some-server is {server}, which is not of the environment in use, {sys.prefix}."


def test_without_a_command_nothing_is_imported(examine: Examine) -> None:
    [found] = examine(apps)
    assert (found.verdict, found.text.partition(" To ")[0]) == ("ok", "No command is named, so nothing is imported.")


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["uvicorn", "main:app"], ("main", "app")),
        (["uvicorn", "--factory", "pkg.main:make()"], ("pkg.main", "make()")),
        (["gunicorn", "-b", "127.0.0.1:8000", "-w", "2", "main:app.wsgi"], ("main", "app.wsgi")),
        (["gunicorn", "-b", "localhost:8000"], None),
        (["flask", "--app", "main:app", "run"], ("main", "app")),
        (["python", "-X", "dev", "-m", "hypercorn", "main:app"], ("main", "app")),
        (["python", "-m", "devsup_agent.target", "main:app"], ("main", "app")),
        (["python", "manage.py", "runserver", "main:app"], None),
        (["python", "-c", "print", "main:app"], None),
        (["sh", "dev:server"], None),
    ],
)
def test_the_target_of_a_command_line(words: list[str], target: tuple[str, str] | None, folder: Path) -> None:
    program = str(BIN / words[0]) if words[0] != "sh" else tool("sh")
    found = target_of([program, *words[1:]], folder)
    assert (found and found[:2]) == target


def test_the_folders_that_a_server_puts_on_the_path(folder: Path) -> None:
    command = [str(BIN / "uvicorn"), "main:app", "--app-dir=src"]
    assert target_of(command, folder) == Target("main", "app", (f"{folder}/src", str(folder)))


# The syntax


def test_files_that_compile(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", APP)
    (folder / "pkg").mkdir()
    save(folder / "pkg" / "odd.py", "x = '\\d' is 1\n")  # two warnings
    [found] = examine(syntax)
    assert (found.verdict, found.text) == ("ok", "2 Python files compile with Python {}.{}.{}.".format(*sys.version_info))
    assert not list(folder.rglob("*.pyc"))


def test_a_project_without_python(examine: Examine) -> None:
    [found] = examine(syntax)
    assert (found.verdict, found.text) == ("ok", "There are no Python files.")


def test_files_that_do_not_compile_are_told_with_their_lines(examine: Examine, folder: Path) -> None:
    (folder / "pkg").mkdir()
    save(folder / "pkg" / "models.py", "x = 1\nclass Model\n    pass\n")
    save(folder / "outside.py", "return 1\n")
    (folder / "null.py").write_bytes(b"x = 1\0\n")
    (folder / "latin.py").write_bytes(b"x = '\xe9'\n")
    found = examine(syntax)
    assert {each.verdict for each in found} == {"fail"}
    told = {each.text.partition(": ")[0]: each.text.partition(": ")[2] for each in found}
    assert told["pkg/models.py:2"] == "expected ':'."
    assert told["outside.py:1"] == "'return' outside function."
    assert told["null.py:1"].startswith("source code ")
    assert "latin.py:1" in told


def test_many_are_counted(examine: Examine, folder: Path) -> None:
    for number in range(14):
        save(folder / f"bad{number}.py", "(\n")
    found = examine(syntax)
    assert (len(found), found[-1].text) == (11, "… and 4 more of these.")


@pytest.mark.parametrize("place", ["node_modules/x", "env", ".hidden", "build", "dist", "lib/site-packages"])
def test_what_is_not_the_projects_own_is_left_out(examine: Examine, folder: Path, place: str) -> None:
    save(folder / "main.py", APP)
    (folder / place).mkdir(parents=True)
    (folder / "env").mkdir(exist_ok=True)
    (folder / "env" / "pyvenv.cfg").touch()
    save(folder / place / "bad.py", "(\n")
    [found] = examine(syntax)
    assert found.text.startswith("1 Python file compiles"), found


def test_no_module_of_the_project_is_run(examine: Examine, folder: Path) -> None:
    for name in ("json", "time", "stat", "sitecustomize", "os"):
        save(folder / f"{name}.py", f"open('ran-{name}', 'w')\n")
    [found] = examine(syntax)
    assert found.verdict == "ok"
    assert not list(folder.glob("ran-*"))


def test_what_was_compiled_before_is_looked_at_again_once_it_has_changed(examine: Examine, folder: Path) -> None:
    path = folder / "main.py"
    path.write_text("x = 1\n")
    py_compile.compile(str(path))
    assert [each.verdict for each in examine(syntax)] == ["ok"]
    path.write_text("x = (1\n")
    assert [each.verdict for each in examine(syntax)] == ["fail"]


def test_what_cannot_be_read_is_a_warning(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", APP)
    (folder / "loop.py").symlink_to("loop.py")
    os.mkfifo(folder / "pipe.py")
    found = examine(syntax)
    assert [each.verdict for each in found] == ["warn"]
    assert "loop.py (Too many levels of symbolic links)" in found[0].text
    assert "pipe.py" not in found[0].text


def test_a_very_large_project_is_not_looked_through(examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOST", 3)
    for number in range(5):
        (folder / f"part{number}").mkdir()
        save(folder / f"part{number}" / "main.py", APP)
    [found] = examine(syntax)
    assert (found.verdict, found.text[:14], "There are more" in found.text) == ("ok", "3 Python files", True)


def test_what_takes_too_long_is_told(examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_COMPILE", 0)
    save(folder / "main.py", APP)
    [found] = examine(syntax)
    assert (found.verdict, "Only 0 of 1 files" in found.text) == ("warn", True)


def test_without_a_python_nothing_is_compiled(examine: Examine, folder: Path) -> None:
    save(folder / "main.py", APP)
    save(folder / "broken", "#!/bin/sh\nexit 3\n")
    (folder / "broken").chmod(0o755)
    assert [each.verdict for each in examine(syntax, python="./broken")] == ["warn"]
    assert [each.verdict for each in examine(apps, "main:app", python="./broken")] == ["warn"]
