"""What devsup takes for ignored is what `git check-ignore` says, over repositories made from a seed."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from devsup.system.gitignore import Gitignore
from harness import tool

NAMES = [*"foo bar a b foo.py x.o é [ {x} a* #h !n a\\b ab - A".split(), "a b", "sp ", " s", "t\t"]
# Not `foo**/`: there git 2.39 compares pointers into different strings, and answers one way or the other.
PLAIN = "foo bar a b * ** *** ? ?? *.py *.o f*r **bar a**b é é* {x} #h \\a \\* \\#h \\!n a\\\\b \\f\\o\\o \\[ \\"
SETS = """[ab] [!a] [^a] [a-c] []a] [ [!] [a [] []] [-] [[] [a- [z-a] [\\]] [a\\-c] [!a-b]* [/] a[/]b
    [[:alpha:]] [[:digit:][:upper:]] [[:bad:]] [[:alpha:"""
PARTS = [*PLAIN.split(), *SETS.split(), " s", "t\t", "sp ", "sp\\ ", "a\\ b", "\\ "]
ENDS = [" ", "  ", "\\ ", "\\", "\t", "\r", " \\ ", "\\  "]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with no settings of git but those of the test."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return tmp_path


def git(folder: Path, *words: str, given: str = "") -> str:
    done = subprocess.run([tool("git"), *words], cwd=folder, input=given.encode(), capture_output=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.decode()


def pattern(rng: random.Random) -> str:
    text = "/".join(rng.choice(PARTS) for _ in range(rng.choice([1, 1, 1, 2, 2, 3])))
    text = "/" * (rng.random() < 0.3) + text + "/" * (rng.random() < 0.3)
    text = "!" * (rng.random() < 0.25) + text
    return text + rng.choice(ENDS) * (rng.random() < 0.15)


def grow(rng: random.Random, folder: Path, depth: int = 0) -> list[Path]:
    """Files and folders, up to four deep."""
    found = []
    for name in rng.sample(NAMES, rng.randint(2, 5)):
        path = folder / name
        found.append(path)
        if depth < 3 and rng.random() < 0.5:
            path.mkdir()
            found += grow(rng, path, depth + 1)
        else:
            path.touch()
    return found


def write(rng: random.Random, file: Path, most: int) -> None:
    file.parent.mkdir(exist_ok=True, parents=True)
    lines = "\n".join(pattern(rng) for _ in range(rng.randint(1, most)))
    file.write_text(lines + rng.choice(["\n", ""]), newline="")


def told(root: Path, paths: list[Path]) -> tuple[set[str], set[str]]:
    """What git says is ignored, and what devsup says."""
    asked = "\0".join(str(path.relative_to(root)) for path in paths)
    answer = git(root, "check-ignore", "--no-index", "--stdin", "-z", given=asked)
    is_ignored = Gitignore(str(root)).look()
    ours = {str(path.relative_to(root)) for path in paths if is_ignored(f"{path}/" if path.is_dir() else str(path))}
    return set(answer.split("\0")) - {""}, ours


@pytest.mark.parametrize("start", range(0, 80, 20))
def test_generated_repositories(start: int, home: Path) -> None:
    cases = ignored = 0
    for seed in range(start, start + 20):
        rng = random.Random(seed)
        root = home / f"repository{seed}"
        root.mkdir()
        git(root, "init", "-q")
        paths = grow(rng, root)
        write(rng, root / ".gitignore", 4)
        for folder in [path for path in paths if path.is_dir() and rng.random() < 0.4]:
            write(rng, folder / ".gitignore", 3)
        if rng.random() < 0.4:
            write(rng, root / ".git/info/exclude", 2)
        if rng.random() < 0.4:
            write(rng, home / "xdg/git/ignore", 2)
        gits, ours = told(root, paths)
        assert ours == gits, f"seed {seed}: {ours ^ gits}"
        cases, ignored = cases + len(paths), ignored + len(gits)
    assert cases > 200
    assert ignored > 20


def test_a_work_tree_has_its_repositorys_excludes(home: Path) -> None:
    root, other = home / "repository", home / "other"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "--allow-empty", "-m", "x")
    git(root, "worktree", "add", "-q", str(other))
    (root / ".git/info/exclude").write_text("x.py\n")
    (other / "x.py").touch()
    assert told(other, [other / "x.py"]) == ({"x.py"}, {"x.py"})


@pytest.mark.parametrize("name", ["~/mine", "mine"])
def test_the_users_own_excludes_file(home: Path, name: str) -> None:
    root = home / "repository"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "config", "--global", "core.excludesFile", name)
    (home / "mine" if name.startswith("~") else root / "mine").write_text("x.py\n")
    (root / "x.py").touch()
    assert told(root, [root / "x.py"]) == ({"x.py"}, {"x.py"})


def test_the_project_may_lie_below_the_repositorys_top(home: Path) -> None:
    git(home, "init", "-q")
    root = home / "services/web"
    root.mkdir(parents=True)
    (home / ".gitignore").write_text("/services/web/out.py\nlib/\n")
    (root / ".gitignore").write_text("!out.py\n")
    (root / "lib").mkdir()
    paths = [root / "out.py", root / "lib/a.py"]
    for path in paths:
        path.touch()
    is_ignored = Gitignore(str(root)).look()
    assert [is_ignored(str(path)) for path in paths] == [False, True]


def test_an_edit_counts_at_the_next_look(home: Path) -> None:
    ignore = Gitignore(str(home))
    assert not ignore.look()(str(home / "x.py"))
    (home / ".gitignore").write_text("x.py\n")
    assert ignore.look()(str(home / "x.py"))
    (home / ".gitignore").write_text("y.py # longer\n")
    assert not ignore.look()(str(home / "x.py"))
    (home / ".gitignore").unlink()
    assert not ignore.look()(str(home / "y.py"))


def test_git_is_busy_while_it_holds_its_lock_unless_it_died(home: Path) -> None:
    git(home, "init", "-q")
    ignore = Gitignore(str(home))
    assert not ignore.is_busy()
    lock = home / ".git/index.lock"
    lock.touch()
    assert ignore.is_busy()
    os.utime(lock, (0, 0))
    assert not ignore.is_busy()
