"""Which Python is found, in folders laid out as users have them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devsup.errors import UsageError
from devsup.system.interpreter import Interpreter, environment, find, is_python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose .git keeps the search from leaving it."""
    folder = tmp_path.resolve() / "project"
    (folder / ".git").mkdir(parents=True)
    return folder


def make_python(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(sys.executable)
    return path


def make_venv(folder: Path, name: str = "python") -> Path:
    """A virtual environment as far as its layout goes; its python."""
    python = make_python(folder / "bin" / name)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    return python


def path_of(*folders: Path) -> dict[str, str]:
    return {"PATH": os.pathsep.join(map(str, folders))}


# The order


def test_virtual_env_comes_before_dot_venv(project: Path) -> None:
    python = make_venv(project / "active")
    make_venv(project / ".venv")
    found = find(project, None, {"VIRTUAL_ENV": str(project / "active")})
    assert found == Interpreter(str(python), "VIRTUAL_ENV", str(python.parent))


def test_explicit_comes_before_everything(project: Path) -> None:
    python = make_venv(project / "other")
    make_venv(project / "active")
    found = find(project, "other", {"VIRTUAL_ENV": str(project / "active")})
    assert found == Interpreter(str(python), "--python", str(python.parent))


def test_dot_venv_of_a_parent(project: Path) -> None:
    python = make_venv(project / ".venv", "python3")
    (project / "src" / "app").mkdir(parents=True)
    assert find(project / "src" / "app", None, {}) == Interpreter(str(python), ".venv", str(python.parent))


def test_dot_venv_beyond_the_repository_is_not_ours(project: Path, tmp_path: Path) -> None:
    make_venv(tmp_path / ".venv")
    python = make_python(tmp_path / "tools" / "python3")
    assert find(project, None, path_of(tmp_path / "tools")) == Interpreter(str(python), "PATH", None)


def test_python_on_path_without_a_three(project: Path, tmp_path: Path) -> None:
    python = make_python(tmp_path / "tools" / "python")
    assert find(project, None, path_of(tmp_path / "tools")).path == str(python)


def test_python3_comes_before_python(project: Path, tmp_path: Path) -> None:
    make_python(tmp_path / "first" / "python")
    python = make_python(tmp_path / "second" / "python3")
    assert find(project, None, path_of(tmp_path / "first", tmp_path / "second")).path == str(python)


def test_a_venv_that_is_only_on_path(project: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "env", "python3")
    assert find(project, None, path_of(python.parent)) == Interpreter(str(python), "PATH", str(python.parent))


def test_devsups_own_python_is_the_last_resort(project: Path, tmp_path: Path) -> None:
    found = find(project, None, path_of(tmp_path / "nothing"))
    assert (found.path, found.reason) == (sys.executable, "devsup's own")


# What is passed over


def test_stale_environments_are_passed_over(project: Path, tmp_path: Path) -> None:
    dangling = project / ".venv" / "bin" / "python"
    dangling.parent.mkdir(parents=True)
    dangling.symlink_to(tmp_path / "removed" / "python3.9")
    python = make_python(tmp_path / "tools" / "python3")
    environ = {"VIRTUAL_ENV": str(tmp_path / "deleted"), **path_of(tmp_path / "tools")}
    assert find(project, None, environ) == Interpreter(str(python), "PATH", None)


def test_a_python_that_may_not_be_run_is_passed_over(project: Path, tmp_path: Path) -> None:
    file = project / ".venv" / "bin" / "python"
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o644)
    python = make_python(tmp_path / "tools" / "python3")
    assert find(project, None, path_of(tmp_path / "tools")).path == str(python)


# What --python takes


@pytest.mark.parametrize("wanted", ["./env", "env", "env/bin/python", "../project/env/", "~/env", "~/env/bin/python"])
def test_a_folder_or_a_file(project: Path, wanted: str) -> None:
    python = make_venv(project / "env")
    found = find(project, wanted, {"HOME": str(project)})
    assert found.bin is not None
    assert Path(found.path).parent == Path(found.bin)
    # Only the folder may be compared by what it resolves to: the python itself is a link to elsewhere.
    assert Path(found.bin).resolve() / Path(found.path).name == python


def test_an_absolute_path(project: Path) -> None:
    python = make_venv(project / "env", "python3.12")
    assert find(project, str(python), {}) == Interpreter(str(python), "--python", str(python.parent))


def test_a_name_on_path(project: Path, tmp_path: Path) -> None:
    python = make_python(tmp_path / "tools" / "python3.12")
    found = find(project, "python3.12", path_of(tmp_path / "tools"))
    assert found == Interpreter(str(python), "--python", None)


def test_a_venv_beats_a_command_of_the_same_name(project: Path, tmp_path: Path) -> None:
    make_python(tmp_path / "tools" / "env")
    python = make_venv(project / "env")
    assert find(project, "env", path_of(tmp_path / "tools")).path == str(python)


def test_a_folder_that_is_no_venv_leaves_the_name_to_path(project: Path, tmp_path: Path) -> None:
    (project / "pypy3").mkdir()
    python = make_python(tmp_path / "tools" / "pypy3")
    assert find(project, "pypy3", path_of(tmp_path / "tools")).path == str(python)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("missing", 'No Python was found for "missing"'),
        ("./missing", 'No Python was found for "./missing"'),
        ("", 'No Python was found for ""'),
        ("empty", 'The folder "empty" has no Python that runs in bin. Make it a virtual environment with'),
        ("./notes.txt", '"./notes.txt" is a file that cannot be run.'),
    ],
)
def test_nothing_to_run(project: Path, wanted: str, said: str) -> None:
    make_venv(project / ".venv")
    (project / "empty").mkdir()
    (project / "notes.txt").write_text("")
    with pytest.raises(UsageError) as caught:
        find(project, wanted, path_of(project / "nothing"))
    assert str(caught.value).startswith(said)
    assert caught.value.remedy
    assert caught.value.exit_code == 2


# The environment


def test_the_environment_of_a_venv(project: Path) -> None:
    python = make_venv(project / ".venv")
    environ = {"PATH": f"/usr/bin{os.pathsep}{python.parent}{os.pathsep}/bin", "PYTHONHOME": "/x", "HOME": "/home/me"}
    before = dict(environ)
    assert environment(find(project, None, environ), environ) == {
        "PATH": os.pathsep.join([str(python.parent), "/usr/bin", "/bin"]),
        "VIRTUAL_ENV": str(project / ".venv"),
        "HOME": "/home/me",
    }
    assert environ == before


def test_without_a_path_the_systems_own_is_kept(project: Path) -> None:
    python = make_venv(project / ".venv")
    path = environment(find(project, None, {}), {})["PATH"]
    assert path == f"{python.parent}{os.pathsep}{os.defpath}"


def test_a_python_outside_of_a_venv_drops_the_active_one() -> None:
    found = Interpreter("/usr/bin/python3", "--python", None)
    assert environment(found, {"PATH": "/bin", "VIRTUAL_ENV": "/x", "PYTHONHOME": "/y"}) == {"PATH": "/bin"}


def test_a_folder_of_another_tool_is_put_on_path_alone(project: Path) -> None:
    python = make_python(project / "conda" / "bin" / "python")
    result = environment(find(project, "./conda", {}), {"PATH": "/bin"})
    assert result == {"PATH": f"{python.parent}{os.pathsep}/bin"}


def test_a_real_venv_is_entered(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True)
    found = find(project, None, {})
    result = environment(found, {"PATH": os.defpath})
    for command in ([found.path], ["/bin/sh", "-c", 'exec python "$@"', "sh"]):
        code = [*command, "-c", "import sys; print(sys.prefix)"]
        prefix = subprocess.run(code, env=result, capture_output=True, text=True, check=True).stdout.strip()
        assert Path(prefix) == project / ".venv"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#!/usr/bin/env python3\n", True),
        ("#!/opt/venv/bin/python\nimport uvicorn\n", True),
        ("#!/bin/sh\n'''exec' \"/path with spaces/python\" \"$0\" \"$@\"\n' '''\n", True),
        ("#!/bin/sh\nexec python main.py\n", False),
        ("#!/usr/bin/env node\n", False),
        ("", False),
    ],
)
def test_what_is_python_from_its_first_instruction(tmp_path: Path, text: str, expected: bool) -> None:
    program = tmp_path / "program"
    program.write_text(text)
    assert is_python(program) == expected


def test_an_interpreter_is_python_and_a_program_that_is_not_there_is_not(tmp_path: Path) -> None:
    assert is_python(Path(sys.executable))
    assert not is_python(Path("/bin/sh"))
    assert not is_python(tmp_path / "none")
