"""Compiled code of a source that has just been changed is neither read nor written; asked for, it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

GUEST = str(Path(__file__).resolve().parents[2] / "devsup" / "guest")
PATCHED = f"""
import sys, _frozen_importlib_external
sys.path.append({GUEST!r})
from devsup_agent import bytecode
bytecode.patch(_frozen_importlib_external)
"""


def python(folder: Path, words: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    run = subprocess.run(
        [sys.executable, "-c", PATCHED + words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return run.stdout + run.stderr


def compiled(folder: Path) -> list[Path]:
    return list((folder / "__pycache__").glob("part.*.pyc"))


def changed(path: Path, text: str, ago: float) -> None:
    path.write_text(text)
    os.utime(path, (time.time() - ago, time.time() - ago))


def test_a_young_source_leaves_no_compiled_code_an_old_one_does(tmp_path: Path) -> None:
    changed(tmp_path / "part.py", "print('one')", ago=0.0)
    assert python(tmp_path, "import part") == "one\n"
    assert compiled(tmp_path) == []
    changed(tmp_path / "part.py", "print('two')", ago=10.0)
    assert python(tmp_path, "import part") == "two\n"
    assert len(compiled(tmp_path)) == 1


def test_compiled_code_from_elsewhere_is_not_believed_of_a_young_source(tmp_path: Path) -> None:
    """Another program has imported the file between two saves in one second."""
    second = int(time.time()) + 1.0
    (tmp_path / "part.py").write_text("print('one')")
    os.utime(tmp_path / "part.py", (second, second))
    subprocess.run([sys.executable, "-m", "py_compile", "part.py"], cwd=tmp_path, check=True, timeout=20)
    assert len(compiled(tmp_path)) == 1
    (tmp_path / "part.py").write_text("print('two')")
    os.utime(tmp_path / "part.py", (second + 0.5, second + 0.5))
    assert python(tmp_path, "import part") == "two\n"


@pytest.mark.parametrize(
    "words",
    ["import py_compile; py_compile.compile('part.py', doraise=True)", "import compileall; compileall.compile_dir('.', quiet=1)"],
)
def test_who_compiles_on_purpose_gets_it(tmp_path: Path, words: str) -> None:
    changed(tmp_path / "part.py", "print('one')", ago=0.0)
    assert python(tmp_path, words) == ""
    assert len(compiled(tmp_path)) == 1


def test_a_mistake_in_a_young_source_is_shown_as_ever(tmp_path: Path) -> None:
    """No line of ours in the traceback."""
    changed(tmp_path / "part.py", "one +", ago=0.0)
    shown = python(tmp_path, "import part")
    assert "SyntaxError" in shown
    assert "devsup" not in shown
    assert "importlib" not in shown
