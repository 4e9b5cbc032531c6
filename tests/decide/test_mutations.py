"""Working apps, broken by one small mistake: the cause is found, with devsup's agent in the process and without."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import devsup
from devsup.decide.rules import Evidence, diagnose
from devsup.events import Exit
from devsup.explain import last_raised
from devsup.system.blackbox import BlackBox

PATH = Path(__file__).with_name("exits") / "mutations.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = module
    spec.loader.exec_module(module)
    return module


MUTATIONS = _load()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def mutate(folder: Path, mutation: object) -> list[str]:
    files, command = MUTATIONS.APPS[mutation.app]  # type: ignore[attr-defined]
    write(folder, files)
    path = folder / mutation.file  # type: ignore[attr-defined]
    old, new = mutation.old, mutation.new  # type: ignore[attr-defined]
    if new == "DELETE":
        path.unlink()
    elif old or new:
        before = path.read_text() if path.exists() else ""
        assert old in before
        path.write_text(before.replace(old, new, 1))
    return [sys.executable if word == "python" else word for word in command]


@pytest.mark.parametrize("mutation", MUTATIONS.MUTATIONS, ids=lambda each: each.name.replace(" ", "-"))
def test_the_cause_of_a_small_mistake_is_found(mutation: object, tmp_path: Path) -> None:
    folder = Path(os.path.realpath(tmp_path)) / "project"
    folder.mkdir()
    words = mutate(folder, mutation)
    box = tmp_path / "link.run-1"
    guest = str(Path(devsup.__file__).with_name("guest"))
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DEVSUP"))}
    env |= MUTATIONS.ENVIRONMENT | {"PYTHONPATH": guest, "DEVSUP_LINK": str(tmp_path / "link"), "DEVSUP_TOKEN": "run-1"}
    env.pop(mutation.unset, None)  # type: ignore[attr-defined]
    done = subprocess.run(
        words, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    left = BlackBox(str(box)).read()
    files = frozenset(str(path.relative_to(folder)) for path in folder.rglob("*.py"))
    blind = Evidence(Exit(code=done.returncode), (done.stdout + done.stderr).splitlines(), str(folder), sys.executable, files)
    told, guess = last_raised(left, left.exceptions[0]["pid"])
    for evidence in (blind, blind._replace(exceptions=told, guess=guess)):
        found = diagnose(evidence)
        assert found.rule == mutation.rule, f"{found.cause}\n{done.stderr}"  # type: ignore[attr-defined]
        assert mutation.says in found.cause  # type: ignore[attr-defined]
