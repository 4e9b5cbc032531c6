"""Where the system tells of no changes, files are looked at: real limits, set in a user namespace, and a real FUSE mount."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Run, fetch, save, tool

MAIN = """
import package
from flask import Flask

app = Flask(__name__)

@app.get("/")
def home():
    return str(package.value)
"""


@pytest.fixture
def limited(devsup: Callable[..., Run], project: Path, port: int) -> Callable[..., Run]:
    """`limited("echo 3 > /proc/sys/user/max_inotify_watches")` starts devsup in a namespace, after these lines of shell."""

    def start(setup: str, *options: str) -> Run:
        space = [tool("unshare"), "--user", "--map-root-user", "--mount", "sh", "-c", f'{setup}\nexec "$@"', "sh"]
        if subprocess.run([*space, "true"], cwd=project, capture_output=True, check=False).returncode:
            pytest.skip("this machine allows no user namespaces")
        return devsup("flask", "--app", "main", "run", "--port", str(port), options=list(options), prefix=space)

    (project / "package").mkdir()
    save(project / "package/__init__.py", "value = 1\n")
    save(project / "main.py", MAIN)
    return start


@pytest.mark.parametrize(
    ("limit", "number", "remedy"),
    [
        ("max_inotify_watches", 1, "sudo sysctl fs.inotify.max_user_watches=524288"),
        ("max_inotify_instances", 0, "sudo sysctl fs.inotify.max_user_instances=1024"),
    ],
)
def test_at_a_limit_files_are_looked_at_and_the_limit_is_named(
    limited: Callable[..., Run], project: Path, port: int, limit: str, number: int, remedy: str
) -> None:
    (project / "templates").mkdir()
    run = limited(f"echo {number} > /proc/sys/user/{limit}", "--watch", "templates/**")
    run.ready()
    assert remedy in run.wait_for("Trouble")["text"]
    save(project / "package/__init__.py", "value = 22\n")
    run.ready(2)
    assert fetch(port) == (200, "22")
    save(project / "package/new.py", "x = 1\n")
    run.ready(3)
    (project / "templates/deep").mkdir()
    save(project / "templates/deep/x.html", "x")
    run.ready(4)
    (project / "templates/deep/x.html").unlink()
    run.ready(5)
    assert len(run.all("Trouble")) == 1
    assert run.stop() == 0


def test_a_limit_that_is_reached_later(limited: Callable[..., Run], project: Path, port: int) -> None:
    (project / "templates").mkdir()
    run = limited("echo 4 > /proc/sys/user/max_inotify_watches", "--watch", "templates/**")
    run.ready()
    for name in ("a", "b", "c"):
        (project / "templates" / name).mkdir(parents=True)
    assert "max_user_watches" in run.wait_for("Trouble")["text"]
    save(project / "templates/c/x.html", "x")
    run.ready(2)
    assert run.stop() == 0


def test_a_bind_mount_tells_of_changes_made_at_its_other_end(limited: Callable[..., Run], project: Path, port: int) -> None:
    there = project.parent / "there"
    there.mkdir()
    save(there / "__init__.py", "value = 1\n")
    run = limited("mount --bind ../there package")
    run.ready()
    save(there / "__init__.py", "value = 22\n")
    run.ready(2)
    assert fetch(port) == (200, "22")
    assert not run.all("Trouble")
