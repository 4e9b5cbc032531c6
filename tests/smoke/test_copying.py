"""What the reload test saves: a copy of the project, in which a module says that it was loaded."""

import os
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
