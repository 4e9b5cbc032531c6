"""Which Python, and the virtual environments around it: folders as users have them, and Pythons that run."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import devsup
from devsup.doctor import Finding
from devsup.doctor.pythons import interpreters, versions
from harness import find_python

Examine = Callable[..., list[Finding]]
VERSION = platform.python_version()


def make_venv(folder: Path, target: str | Path = sys.executable) -> Path:
    """A virtual environment as far as its layout goes; its python."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(target)
    (folder / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    return python


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def inactive(monkeypatch: pytest.MonkeyPatch) -> None:
    """No virtual environment is active."""
    monkeypatch.delenv("VIRTUAL_ENV")


def test_versions_are_those_of_devsup_and_of_the_project(examine: Examine) -> None:
    [found] = examine(versions)
    assert found.verdict == "ok"
    assert found.text.startswith(f"devsup {devsup.__version__} on Python {VERSION}; the project on Python {VERSION}; ")
    assert platform.system() in found.text


def test_the_version_of_a_python_that_does_not_run_is_not_told(examine: Examine, folder: Path) -> None:
    [found] = examine(versions, python=str(make_program(folder / "tool", "exit 3")))
    assert "the project" not in found.text


def test_the_environment_in_use_and_why(examine: Examine) -> None:
    [found] = examine(interpreters)
    assert found == Finding(
        "interpreter", "ok", f"Python {VERSION}, {sys.prefix}/bin/python (the virtual environment that is active)."
    )


@pytest.mark.usefixtures("inactive")
def test_the_nearest_environment_is_used(examine: Examine, folder: Path) -> None:
    python = make_venv(folder / ".venv")
    [found] = examine(interpreters)
    assert (found.verdict, found.text) == ("ok", f"Python {VERSION}, {python} (the nearest .venv).")


@pytest.mark.usefixtures("inactive")
def test_an_environment_whose_python_is_gone_fails_and_the_remedy_mends_it(examine: Examine, folder: Path) -> None:
    make_venv(folder / ".venv", "/nowhere/python3.12")
    *others, found = examine(interpreters)
    assert [each.verdict for each in others] == ["ok"]  # another is found, and that is not what was wanted
    assert found.verdict == "fail"
    assert found.text == "The virtual environment .venv is broken: its Python, /nowhere/python3.12, is gone."
    make, _, install = found.remedy.removeprefix("Make it anew: ").partition(" && ")
    assert install == f"{folder}/.venv/bin/python -m pip install …"
    subprocess.run(f"{make} --without-pip", shell=True, check=True, timeout=50, stdin=subprocess.DEVNULL)
    [found] = examine(interpreters)
    assert (found.verdict, f"{folder}/.venv/bin/python (the nearest .venv)" in found.text) == ("ok", True)


def test_one_that_would_not_be_used_is_a_warning(examine: Examine, folder: Path) -> None:
    make_venv(folder / ".venv", "/nowhere/python3.12")
    assert [each.verdict for each in examine(interpreters)] == ["ok", "warn"]


@pytest.mark.usefixtures("inactive")
def test_a_broken_environment_between_the_folder_and_the_one_in_use_fails(examine: Examine, folder: Path) -> None:
    make_venv(folder / ".venv")
    make_venv(folder / "app" / ".venv", "/nowhere/python3.12")
    verdicts = {each.text.partition(" ")[0]: each.verdict for each in examine(interpreters, start=folder / "app")}
    assert verdicts == {"Python": "ok", "The": "fail"}


def test_the_requirements_are_installed_again(examine: Examine, folder: Path) -> None:
    make_venv(folder / "env", "/nowhere/python3")
    (folder / "requirements.txt").touch()
    assert examine(interpreters)[-1].remedy.endswith(f"/env/bin/python -m pip install -r {folder}/requirements.txt")


def test_one_that_uv_has_made_is_made_again_by_uv(examine: Examine, folder: Path) -> None:
    make_venv(folder / ".venv", "/nowhere/python3")
    (folder / ".venv" / "pyvenv.cfg").write_text("home = /nowhere\nuv = 0.5.1\n")
    assert f"uv venv --clear {folder}/.venv" in examine(interpreters)[-1].remedy


def test_another_environment_beside_the_project_is_a_warning(examine: Examine, folder: Path) -> None:
    make_venv(folder / "env with space")
    found = examine(interpreters)
    assert [each.verdict for each in found] == ["ok", "warn"]
    assert found[1].text == (
        f"There is another virtual environment, env with space, and it is not the one in use ({sys.prefix}/bin/python)."
    )
    assert found[1].remedy == "To use it: devsup run --python 'env with space' …"


def test_the_one_in_use_is_no_other(examine: Examine, folder: Path) -> None:
    make_venv(folder / "env")
    (folder / ".venv").symlink_to("env")
    assert len(examine(interpreters, python="env")) == 1


def test_an_active_environment_that_is_none_is_a_warning(examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(folder / "gone"))
    found = examine(interpreters)[-1]
    assert found.verdict == "warn"
    assert found.text == f"VIRTUAL_ENV is {folder}/gone, where there is no virtual environment: it is passed over."


def test_a_python_that_does_not_run_fails_with_what_it_said(examine: Examine, folder: Path) -> None:
    python = make_program(folder / "env" / "bin" / "python", "echo libpython3.12.so.1.0: cannot open >&2; exit 127")
    (folder / "env" / "pyvenv.cfg").touch()
    [found] = examine(interpreters, python="env")
    assert found.verdict == "fail"
    assert found.text == f"{python} (as --python says) does not run: libpython3.12.so.1.0: cannot open."
    assert f"-m venv --clear {folder}/env" in found.remedy


def test_a_python_that_cannot_even_be_started_fails(examine: Examine, folder: Path) -> None:
    python = make_program(folder / "python", "")
    python.write_text("#!/nowhere/python\n")
    [found] = examine(interpreters, python="./python")
    assert (found.verdict, "does not run: No such file or directory." in found.text) == ("fail", True)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8"])
def test_an_old_python_fails(examine: Examine, folder: Path, version: str) -> None:
    name = f"python{version}"
    python = old_python() if version == "2.7" else find_python(version)
    [found] = examine(interpreters, python=python)
    assert found.verdict == "fail", name
    assert f"is Python {version}." in found.text
    assert "devsup runs programs of Python 3.9 and later" in found.text


def old_python() -> str:
    """A Python 2 that runs, or a skip that says so."""
    found = [shutil.which("python2.7"), *map(str, (Path.home() / ".pyenv" / "versions").glob("2.7*/bin/python"))]
    for each in filter(None, found):
        if not subprocess.run([each, "-c", ""], capture_output=True, timeout=20, check=False).returncode:
            return each
    pytest.skip("there is no Python 2.7")


def test_the_oldest_that_is_supported_is_well(examine: Examine) -> None:
    [found] = examine(interpreters, python=find_python("3.9"))
    assert (found.verdict, "(as --python says)" in found.text) == ("ok", True)


def test_an_environment_of_another_version_than_its_python_fails(examine: Examine, folder: Path) -> None:
    make_venv(folder / "env")
    (folder / "env" / "lib" / "python{}.{}".format(*sys.version_info)).rename(folder / "env" / "lib" / "python3.1")
    [found] = examine(interpreters, python="env")
    assert found.verdict == "fail"
    assert f"{folder}/env was made for python3.1, and its Python is {VERSION} now" in found.text


def test_a_python_of_the_config_that_is_not_there_fails(examine: Examine, folder: Path) -> None:
    (folder / "devsup.toml").write_text('[services.web]\ncommand = "python main.py"\npython = "nowhere"\n')
    [found] = examine(interpreters)
    assert (found.verdict, 'No Python was found for "nowhere"' in found.text) == ("fail", True)


def test_services_with_pythons_of_their_own_are_named(examine: Examine, folder: Path) -> None:
    make_venv(folder / "env")
    web = '[services.web]\ncommand = "python main.py"\n'
    (folder / "devsup.toml").write_text(f'{web}[services.job]\ncommand = "python job.py"\npython = "env"\n')
    texts = [each.text for each in examine(interpreters)]
    assert texts == [
        f"web: Python {VERSION}, {sys.prefix}/bin/python (the virtual environment that is active).",
        f"job: Python {VERSION}, {folder}/env/bin/python (as the config says).",
    ]
