"""What the reload test saves: a copy of the project, in which a module says that it was loaded."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devsup.errors import UsageError
from devsup.smoke import copying
from devsup.smoke.copying import copied, main_file, marked, moved, save


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n",
        "",
        '"""Docs."""\n',
        '"""Docs."""\nfrom __future__ import annotations\nimport os\n',
        "from __future__ import annotations",
        "# -*- coding: utf-8 -*-\n#!x\n@staticmethod\ndef f(): pass\n",
        "if True:\n    x = 1\n",
        '"""Docs."""; x = 1\n',
        "import os; x = 1\n",
        "def f():\n    print('later')\nif __name__ == '__main__':\n    f()\n",
    ],
)
def test_a_marked_module_prints_first_and_is_the_same_otherwise(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain, told = dict[str, object](), dict[str, object]()
    exec(compile(source, "m.py", "exec"), plain)
    exec(compile(marked(source, "here it is"), "m.py", "exec"), told)
    assert capsys.readouterr().out == "here it is\n"
    assert told.keys() == plain.keys()
    assert told.get("__doc__") == plain.get("__doc__")


def test_a_copy_has_the_code_and_links_to_the_rest(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("app/main.py", "node_modules/x/index.js", "own-env/pyvenv.cfg", ".git/HEAD", "app/__pycache__/main.pyc", ".env"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / "gone").symlink_to("nowhere")
    (project / "link").symlink_to("app")
    copy = copied(project, tmp_path / "to")
    found = {path.relative_to(copy).as_posix() for path in copy.rglob("*")}
    assert {".env", "app", "app/main.py", "link", "node_modules", "own-env"} <= found
    assert "app/__pycache__" not in found
    assert (copy / "own-env").is_symlink()
    assert (copy / "node_modules" / "x" / "index.js").read_text() == "node_modules/x/index.js"
    assert (copy / "link").resolve() == copy / "app"
    (copy / "app" / "main.py").write_text("other")
    assert (project / "app" / "main.py").read_text() == "app/main.py"


def test_what_is_too_large_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "data").write_bytes(os.urandom(2000))
    monkeypatch.setattr(copying, "_LARGEST", 1000)
    with pytest.raises(UsageError, match="too much to be copied"):
        copied(project, tmp_path / "to")


def test_everything_of_a_copy_may_be_written_and_no_link_leads_back(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "backend").mkdir(parents=True)
    (project / "backend" / "main.py").write_text("x = 1\n")
    (project / "app").symlink_to(project / "backend")  # absolute
    (project / "backend" / "main.py").chmod(0o444)
    os.mkfifo(project / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(project / "sock"))
        (project / "backend").chmod(0o555)
        copy = copied(project, tmp_path / "to")
    assert not {"pipe", "sock"} & {path.name for path in copy.iterdir()}
    assert (copy / "app" / "main.py").resolve() == copy / "backend" / "main.py"
    assert os.access(copy / "backend", os.W_OK)
    assert (copy / "backend" / "main.py").stat().st_mode & 0o200
    (project / "backend").chmod(0o755)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_a_file_is_saved_as_it_is_encoded(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "main.py"
    head = "# coding: latin-1\n" if encoding == "latin-1" else ""
    path.write_bytes(f"{head}x = 'é'\r\n".encode(encoding))
    path.chmod(0o640)
    save(path, "here")
    assert path.read_bytes().decode(encoding).endswith("x = 'é'\r\n")
    assert path.stat().st_mode & 0o777 == 0o640
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "here\n"
    assert [each.name for each in tmp_path.iterdir()] == ["main.py"]


@pytest.mark.parametrize("data", [b"def f(:\n", b"# coding: nothing\n", b"x = '\xe9'\n"])
def test_what_is_no_python_is_refused_and_stays(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "main.py"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"main\.py cannot be read as Python"):
        save(path, "here")
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("uvicorn app.main:app", "app/main.py"),
        ("uvicorn --app-dir backend web:app", "backend/web.py"),
        ("python {}/run.py", "run.py"),
        ("python -m app", "app/__main__.py"),
        ("flask run", "app.py"),
        ("flask --app=run run", "run.py"),
        ("gunicorn app.main", "app/main.py"),
    ],
)
def test_the_file_that_is_saved(tmp_path: Path, command: str, name: str) -> None:
    for each in ("app/main.py", "app/__main__.py", "backend/web.py", "run.py", "app.py"):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        (tmp_path / each).write_text("")
    assert main_file(command.format(tmp_path).split(), tmp_path, tmp_path) == tmp_path / name


def test_a_file_elsewhere_is_never_saved(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "main.py").write_text("")
    (tmp_path / "copy" / "main.py").symlink_to(tmp_path / "main.py")
    for command in (["uvicorn", "main:app"], ["python", str(tmp_path / "main.py")], ["node", "x.js"]):
        with pytest.raises(UsageError, match="which file of the project is to be saved"):
            main_file(command, tmp_path / "copy", tmp_path / "copy")


def test_a_command_is_one_of_the_copy() -> None:
    words = ["/p/a/bin/python", "/p/a/main.py", "--x=/p/a", "/p/ab/main.py", "/q/p/a/x"]
    found = moved(words, Path("/p/a"), Path("/t/a"))
    assert found == ("/t/a/bin/python", "/t/a/main.py", "--x=/t/a", "/p/ab/main.py", "/q/p/a/x")
