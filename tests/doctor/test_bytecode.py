"""Bytecode that would be run in place of a source: files as Python writes them."""

from __future__ import annotations

import importlib.util
import py_compile
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devsup.doctor import Finding
from devsup.doctor.bytecode import stale
from harness import save

Examine = Callable[..., list[Finding]]
Mode = py_compile.PycInvalidationMode


def compiled(path: Path, text: str, mode: Mode = Mode.UNCHECKED_HASH) -> Path:
    """A source, and its bytecode where Python keeps it."""
    save(path, text)
    return Path(py_compile.compile(str(path), doraise=True, invalidation_mode=mode) or "")


def test_a_project_without_any(examine: Examine, folder: Path) -> None:
    compiled(folder / "main.py", "x = 1\n", Mode.TIMESTAMP)
    [found] = examine(stale)
    assert (found.verdict, found.text) == ("ok", "No bytecode stands for a source that is gone or has changed.")


def test_bytecode_whose_source_is_gone_is_a_warning_and_the_remedy_removes_it(examine: Examine, folder: Path) -> None:
    (folder / "a pkg").mkdir()
    path = folder / "a pkg" / "views.pyc"
    compiled(folder / "views.py", "print('old code')\n").rename(path)
    done = subprocess.run([sys.executable, "-c", "import views"], cwd=path.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "old code\n", "Python does so"
    [found] = examine(stale)
    assert (found.verdict, found.text) == ("warn", "a pkg/views.pyc is imported as a module although its source is gone.")
    subprocess.run(found.remedy, shell=True, check=True, timeout=20)
    assert [each.verdict for each in examine(stale)] == ["ok"]


@pytest.mark.parametrize("source", ["views.py", "views/__init__.py"])
def test_python_takes_the_source_where_there_is_one(examine: Examine, folder: Path, source: str) -> None:
    compiled(folder / "old.py", "x = 1\n").rename(folder / "views.pyc")
    (folder / source).parent.mkdir(exist_ok=True)
    save(folder / source, "x = 2\n")
    assert [each.verdict for each in examine(stale)] == ["ok"]


def test_bytecode_that_is_never_checked_and_out_of_date_is_a_warning(examine: Examine, folder: Path) -> None:
    cached = compiled(folder / "main.py", "print('old')\n")
    assert [each.verdict for each in examine(stale)] == ["ok"]
    save(folder / "main.py", "print('new')\n")
    done = subprocess.run([sys.executable, "-c", "import main"], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "old\n", "Python does so"
    [found] = examine(stale)
    assert found.verdict == "warn"
    assert found.text.startswith(f"__pycache__/{cached.name} is run in place of its source, which has changed")
    subprocess.run(found.remedy, shell=True, check=True, timeout=20)
    assert [each.verdict for each in examine(stale)] == ["ok"]


def test_what_python_checks_by_itself_is_well(examine: Examine, folder: Path) -> None:
    compiled(folder / "main.py", "x = 1\n", Mode.CHECKED_HASH)
    compiled(folder / "other.py", "x = 1\n", Mode.TIMESTAMP)
    save(folder / "main.py", "x = 2\n")
    save(folder / "other.py", "x = 2\n")
    assert [each.verdict for each in examine(stale)] == ["ok"]


@pytest.mark.parametrize("damage", ["another Python's", "too short", "of no source", "of a strange name"])
def test_what_cannot_be_judged_is_passed_over(examine: Examine, folder: Path, damage: str) -> None:
    cached = compiled(folder / "main.py", "x = 1\n")
    save(folder / "main.py", "x = 2\n")
    data = cached.read_bytes()
    assert data.startswith(importlib.util.MAGIC_NUMBER)
    if damage == "another Python's":
        cached.write_bytes(b"\0\0" + data[2:])
    elif damage == "too short":
        cached.write_bytes(data[:6])
    elif damage == "of no source":
        (folder / "main.py").unlink()
    else:
        cached.rename(cached.with_name("strange.pyc"))
    assert [each.verdict for each in examine(stale)] == ["ok"]
