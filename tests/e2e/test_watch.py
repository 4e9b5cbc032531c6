"""Which saves bring new code: what git ignores, links, editors, checkouts, the rules of uvicorn's own reloader."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Event, Run, fetch, save, thinned, tool, wait_until

APP = """
import {imports}
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse(str({value}))

app = Starlette(routes=[Route("/", home)])
"""


def app(value: str = "1", imports: str = "os") -> str:
    return APP.format(value=value, imports=imports)


def started(devsup: Callable[..., Run], port: int, *options: str, server: tuple[str, ...] = ()) -> Run:
    run = devsup("uvicorn", "main:app", "--port", str(port), *server, options=list(options))
    run.ready()
    return run


def files(event: Event) -> set[str]:
    return {Path(path).name for path in event["files"]}


def marker(run: Run, project: Path, name: str) -> None:
    """Save a script that is named: whatever was saved before it has been judged."""
    save(project / name, f"# {time.monotonic_ns()}\n")
    run.wait_for("ChangeIgnored", path=str(project / name))


def git(folder: Path, *words: str) -> None:
    settings = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run([tool("git"), *settings, *words], cwd=folder, check=True, capture_output=True)


# -- what git ignores --------------------------------------------------------------------------------------------------


def test_what_git_ignores_is_not_named_and_an_edit_of_its_rules_counts_at_once(
    devsup: Callable[..., Run], project: Path, port: int
) -> None:
    save(project / "main.py", app())
    save(project / ".gitignore", "/out_*.py\n")
    run = started(devsup, port)
    save(project / "out_1.py", "x = 1\n")
    marker(run, project, "one.py")
    save(project / ".gitignore", "/out_1.py\n")
    save(project / "out_2.py", "x = 1\n")
    run.wait_for("ChangeIgnored", path=str(project / "out_2.py"))
    assert not run.all("ChangeIgnored", path=str(project / "out_1.py"))
    assert not run.all("ReloadStarted")


def test_imported_and_explicit_beat_gitignore(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / ".gitignore", "_version.py\nbuild/\n.env\n")
    save(project / "_version.py", "version = 1\n")
    (project / "build/deep").mkdir(parents=True)
    save(project / "main.py", app("_version.version", "_version"))
    run = started(devsup, port, "--watch", "build/**/*.json")
    save(project / "_version.py", "version = 22\n")
    run.ready(2)
    assert fetch(port) == (200, "22")
    save(project / "build/deep/a.json", "{}")
    run.ready(3)
    save(project / ".env", "A=1\n")
    run.ready(4)
    shutil.rmtree(project / "build")
    run.wait_for("ReloadStarted", 4)
    run.ready(5)
    (project / "build/deep").mkdir(parents=True)
    save(project / "build/deep/a.json", "{} ")
    run.ready(6)


def test_an_ignored_folder_counts_as_soon_as_it_is_no_longer_ignored(
    devsup: Callable[..., Run], project: Path, port: int
) -> None:
    save(project / "main.py", app())
    save(project / ".gitignore", "gen/\n")
    (project / "gen/deep").mkdir(parents=True)
    run = started(devsup, port, "--watch-mode", "all")
    save(project / "free.py", "a = 1\n")
    run.ready(2)
    save(project / "gen/deep/a.py", "a = 1\n")
    save(project / ".gitignore", "other/\n")
    save(project / "free.py", "a = 22\n")
    run.ready(3)
    save(project / "gen/deep/a.py", "a = 22\n")
    run.ready(4)
    assert [files(each) for each in run.all("ReloadStarted")] == [{"free.py"}, {"free.py"}, {"a.py"}]


def test_while_no_worker_runs_ignored_files_mend_nothing_unless_they_were_imported(
    devsup: Callable[..., Run], project: Path, port: int
) -> None:
    save(project / ".gitignore", "gen_*.py\n")
    save(project / "gen_a.py", "value = 1\n")
    save(project / "main.py", app("gen_a.value", "gen_a"))
    run = started(devsup, port)
    save(project / "gen_a.py", "raise SystemExit(7)\n")
    run.wait_for("WorkerFailed", generation=2)
    save(project / "gen_b.py", "x = 1\n")
    save(project / "gen_a.py", "value = 3\n")
    run.ready(3)
    assert fetch(port) == (200, "3")
    save(project / "gen_a.py", "raise SystemExit(77)\n")
    run.wait_for("WorkerFailed", generation=4)
    save(project / "gen_b.py", "x = 22\n")
    save(project / "free.py", "x = 22\n")
    run.wait_for("WorkerFailed", generation=5)
    assert not run.all("WorkerSpawned", generation=6)


# -- links -------------------------------------------------------------------------------------------------------------


def test_a_linked_file_its_target_and_another_target(devsup: Callable[..., Run], project: Path, port: int) -> None:
    other = project.parent / "other"
    other.mkdir()
    save(other / "a.py", "value = 1\n")
    save(other / "b.py", "value = 333\n")
    (project / "linked.py").symlink_to(other / "a.py")
    save(project / "main.py", app("linked.value", "linked"))
    run = started(devsup, port)
    save(other / "a.py", "value = 22\n")
    run.ready(2)
    assert fetch(port) == (200, "22")
    (project / "new").symlink_to(other / "b.py")
    (project / "new").replace(project / "linked.py")
    run.ready(3)
    assert fetch(port) == (200, "333")
    save(other / "b.py", "value = 4444\n")
    run.ready(4)
    assert fetch(port) == (200, "4444")


def test_a_linked_package_its_files_and_another_target(devsup: Callable[..., Run], project: Path, port: int) -> None:
    for name, value in (("v1", 1), ("v2", 22)):
        package = project.parent / name
        package.mkdir()
        save(package / "__init__.py", f"value = {value}\n")
    (project / "package").symlink_to("../v1")
    save(project / "main.py", app("package.value", "package"))
    run = started(devsup, port)
    save(project.parent / "v1/__init__.py", "value = 111\n")
    run.ready(2)
    assert fetch(port) == (200, "111")
    (project / "new").symlink_to("../v2")
    (project / "new").replace(project / "package")
    run.ready(3)
    assert fetch(port) == (200, "22")


def test_a_project_in_a_linked_folder(devsup: Callable[..., Run], project: Path, port: int) -> None:
    (project.parent / "link").symlink_to(project)
    save(project / "main.py", app())
    run = devsup(
        "uvicorn", "main:app", "--port", str(port), cwd=project.parent / "link", env={"PWD": str(project.parent / "link")}
    )
    run.ready()
    save(project.parent / "link/main.py", app("22"))
    run.ready(2)
    assert fetch(port) == (200, "22")
    marker(run, project, "script.py")


# -- editors -----------------------------------------------------------------------------------------------------------


def _in_place(path: Path, text: str) -> None:
    path.write_text(text)


def _like_vim(path: Path, text: str) -> None:
    (path.parent / "4913").touch()
    (path.parent / "4913").unlink()
    swap, backup = path.with_name(f".{path.name}.swp"), path.with_name(f"{path.name}~")
    swap.write_text("swap")
    path.rename(backup)
    path.write_text(text)
    backup.unlink()
    swap.unlink()


def _like_sed(path: Path, text: str) -> None:
    beside = path.with_name("sedAbc123")
    beside.write_text(text)
    beside.rename(path)


def _by_link(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    path.unlink()
    path.hardlink_to(beside)
    beside.unlink()


def _again(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize("write", [_in_place, _like_vim, _like_sed, _by_link, _again])
def test_editors(devsup: Callable[..., Run], project: Path, port: int, write: Callable[[Path, str], None]) -> None:
    save(project / "main.py", app())
    run = started(devsup, port)
    for generation in (2, 3):
        write(project / "main.py", app("2" * generation))
        run.ready(generation)
        assert fetch(port) == (200, "2" * generation)
    assert run.stop() == 0
    assert not run.all("WorkerSpawned", generation=4)
    assert not run.all("ChangeIgnored")


def test_a_file_that_goes_and_comes_back(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "part.py", "value = 1\n")
    save(project / "main.py", app("part.value", "part"))
    run = started(devsup, port)
    (project / "part.py").unlink()
    run.wait_for("WorkerFailed", generation=2)
    save(project / "part.py", "value = 1\n")
    run.ready(3)
    assert fetch(port) == (200, "1")


# -- many files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("imported", [True, False])
def test_a_checkout_of_3000_files_is_one_reload_or_none(
    devsup: Callable[..., Run], project: Path, port: int, *, imported: bool
) -> None:
    git(project, "init", "-q")
    for branch, value in (("main", "1"), ("other", "22")):
        git(project, "checkout", "-q", "-B", branch)
        save(project / "main.py", app(f"zz.value + {value if imported else '1'}", "zz"))
        save(project / "zz.py", f"value = {value if imported else '1'}\n")  # the last that git writes
        for number in range(3000 if branch == "other" else 0):
            file = project / f"scripts{number % 30}/script{number}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"value = {number}\n")
        git(project, "add", "-A")
        git(project, "commit", "-q", "-m", branch)
    git(project, "checkout", "-q", "main")
    run = started(devsup, port)
    git(project, "checkout", "-q", "other")
    if imported:
        run.ready(2)
        assert fetch(port) == (200, "44")
        assert files(run.wait_for("ReloadStarted")) == {"main.py", "zz.py"}
    marker(run, project, "script.py")
    assert len(run.all("ReloadStarted")) == imported
    named = run.all("ChangeIgnored")
    assert sum(1 + each["more"] for each in named) == 3001
    assert len(named) < 20
    assert run.stop() == 0


# -- --watch-mode all --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "reloads", "does_not"),
    thinned(
        [
            ((), "beside.py lib/deep/x.py src/x.py", "x.html .venv/lib/x.py .hidden.py data.json"),
            (("--reload",), "beside.py lib/deep/x.py src/x.py", "x.html .venv/lib/x.py .hidden.py"),
            (("--reload", "--reload-include", "*.html"), "beside.py x.html lib/deep/x.html", "data.json"),
            (("--reload", "--reload-include", "lib"), "lib/deep/x.py beside.py", "lib/x.html"),
            (("--reload", "--reload-exclude", "lib"), "beside.py", "lib/x.py lib/deep/x.py"),
            (("--reload", "--reload-exclude", "{root}/lib"), "beside.py", "lib/x.py lib/deep/x.py"),
            (("--reload", "--reload-exclude", "lib/*"), "beside.py", "lib/x.py lib/deep/x.py"),
            (("--reload", "--reload-exclude", "b*.py"), "lib/x.py", "beside.py"),
            (("--reload", "--reload-exclude", "*.py", "--reload-include", "b*.py"), "beside.py", "lib/x.py"),
            (("--reload", "--reload-dir", "src"), "src/x.py src/deep/x.py", "beside.py lib/x.py"),
            (("--reload", "--reload-dir", "{root}/src", "--reload-include", "*.html"), "src/x.html src/deep/x.html", "x.html"),
            (("--reload", "--reload-dir", "../outside"), "../outside/x.py", "beside.py"),
            (("--reload", "--reload-dir", ".", "--reload-dir", "src"), "beside.py src/x.py", ".venv/lib/x.py"),
            (("--reload", "--reload-include", ".hidden.*"), ".hidden.py beside.py", ".other.py"),
        ]
    ),
)
def test_all_files_by_uvicorns_documented_rules(
    devsup: Callable[..., Run], project: Path, port: int, server: tuple[str, ...], reloads: str, does_not: str
) -> None:
    for folder in ("lib/deep", "src/deep", ".venv/lib", "../outside"):
        (project / folder).mkdir(parents=True)
    save(project / "main.py", app())
    words = [word.format(root=project) for word in server]
    run = started(devsup, port, "--watch-mode", "all", server=tuple(words))
    for generation, name in enumerate(reloads.split(), 2):
        for other in does_not.split():
            save(project / other, f"x = {generation}{'0' * generation}\n")
        save(project / name, f"x = {generation}{'0' * generation}\n")
        assert run.wait_for("ReloadStarted", generation - 1)["files"] == [os.path.realpath(project / name)]
        run.ready(generation)
    assert run.stop() == 0
    assert len(run.all("ReloadStarted")) == len(reloads.split())


# -- devsup itself -----------------------------------------------------------------------------------------------------


def test_devsups_own_files_never_trigger(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "main.py", app())
    run = started(devsup, port, "--watch", "**/*", "--watch", "*.jsonl")
    wait_until((project / ".devsup/events.jsonl").exists)
    save(project / ".devsup/x.py", "x = 1\n")
    save(project / "any.txt", "x")
    assert files(run.wait_for("ReloadStarted")) == {"any.txt"}
    run.ready(2)
    assert run.stop() == 0
    assert len(run.all("ReloadStarted")) == 1


@pytest.mark.parametrize("text", ["x = 1\n", "x = 22\n"])
def test_a_save_before_the_watch_began_counts(devsup: Callable[..., Run], project: Path, port: int, text: str) -> None:
    save(project / "part.py", "x = 1\n")
    save(project / "main.py", app("part.x", "time, sys, part") + "\nif not sys.flags.no_site: time.sleep(0.4)\n")
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.wait_for("WorkerSpawned")
    save(project / "part.py", text)
    run.ready()
    wait_until(lambda: fetch(port) == (200, text.rsplit(maxsplit=1)[-1]), story=run.story)


def test_saves_of_one_size_in_one_second(devsup: Callable[..., Run], project: Path, port: int) -> None:
    """Python itself would believe the compiled code of the first of them."""
    save(project / "part.py", "value = 1\n")
    save(project / "main.py", app("part.value", "part"))
    run = started(devsup, port)
    second = int(time.time()) + 30
    for generation in (2, 3, 4):
        changed = project / "part.new"
        changed.write_text(f"value = {generation}\n")
        os.utime(changed, (second, second))
        changed.replace(project / "part.py")
        run.ready(generation)
        assert fetch(port) == (200, str(generation))
