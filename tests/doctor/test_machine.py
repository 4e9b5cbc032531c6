"""The machine's limits: the real ones, and small ones."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from devsup.doctor import Finding, machine
from devsup.doctor.machine import descriptors, disk, inotify
from devsup.system.inotify import Inotify
from harness import Answer, tool

Examine = Callable[..., list[Finding]]

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """What the kernel would say."""

    def say(watches: int, instances: int) -> None:
        (tmp_path / "max_user_watches").write_text(f"{watches}\n")
        (tmp_path / "max_user_instances").write_text(f"{instances}\n")

    monkeypatch.setattr(machine, "LIMITS", tmp_path)
    return say


# File watches


@linux_only
def test_enough_watches(examine: Examine, limits: Callable[[int, int], None]) -> None:
    limits(524_288, 1024)
    [found] = examine(inotify)
    assert (found.verdict, found.text.startswith("524,288 watches, ")) == ("ok", True)
    assert found.text.endswith("; 1 folder here.")


@linux_only
def test_few_watches_that_are_enough(examine: Examine, limits: Callable[[int, int], None]) -> None:
    limits(60_000, 1024)
    assert [each.verdict for each in examine(inotify)] == ["ok"]


@linux_only
def test_too_few_watches_are_a_warning(examine: Examine, folder: Path, limits: Callable[[int, int], None]) -> None:
    for number in range(9):
        (folder / str(number)).mkdir()
    limits(8, 1024)
    [found] = examine(inotify)
    assert (found.verdict, found.text.startswith("Of 8 inotify watches ")) == ("warn", True)
    assert found.text.endswith("and this project has 10 folders.")
    assert found.remedy == "sudo sysctl fs.inotify.max_user_watches=524288"


@linux_only
def test_watches_that_others_have_taken_count(examine: Examine, folder: Path, limits: Callable[[int, int], None]) -> None:
    for number in range(50):
        (folder / str(number)).mkdir()
    with Inotify() as taken:
        taken.add(map(str, folder.iterdir()))
        limits(1120, 1024)
        [found] = examine(inotify)
    assert found.verdict == "warn"
    assert int(found.text.split()[4].replace(",", "")) >= 50


@linux_only
def test_too_few_instances_are_a_warning(examine: Examine, limits: Callable[[int, int], None]) -> None:
    limits(524_288, 16)
    [found] = examine(inotify)
    assert (found.verdict, found.text.startswith("This user may have 16 inotify instances")) == ("warn", True)
    assert found.remedy == "sudo sysctl fs.inotify.max_user_instances=512"


@linux_only
def test_instances_that_others_have_taken_count(
    examine: Examine, limits: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_INSTANCES", 2)
    limits(524_288, 2)
    with Inotify(), Inotify():
        [found] = examine(inotify)
    assert (found.verdict, found.text.startswith("This user may have 2 inotify instances, and has ")) == ("warn", True)


def test_elsewhere_they_are_not_needed(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    [found] = examine(inotify)
    assert (found.verdict, found.text.startswith("Not needed")) == ("ok", True)


# Open files


@pytest.fixture
def soft() -> Iterator[Callable[[int], None]]:
    """Sets how many files may be open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda number: resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_enough_open_files(examine: Examine, soft: Callable[[int], None]) -> None:
    soft(1024)
    assert examine(descriptors) == [Finding("descriptors", "ok", "1,024 files may be open at once.")]


def test_few_open_files_are_a_warning(examine: Examine, soft: Callable[[int], None]) -> None:
    soft(1000)
    [found] = examine(descriptors)
    assert (found.verdict, found.remedy) == ("warn", "ulimit -n 4096")


def test_the_limit_of_the_shell_is_the_one_that_counts(project: Path, environment: dict[str, str]) -> None:
    words = ["sh", "-c", 'ulimit -n 600; exec "$0" -m devsup doctor', sys.executable]  # the hard limit, too
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "warn  descriptors  A program may have 600 files open" in done.stdout
    assert "→ sudo prlimit --pid $$ --nofile=4096" in done.stdout


# Disks


class Usage(NamedTuple):
    """As of shutil."""

    total: int
    used: int
    free: int


def test_room_enough(examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, 5 * 2**30))
    found = examine(disk)
    assert (found[0].verdict, found[0].text.startswith(f"5.0 GiB are free for {folder}")) == ("ok", True)


@pytest.mark.parametrize(("mib", "verdict"), [(99, "fail"), (100, "warn"), (1023, "warn"), (1024, "ok")])
def test_little_room(examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch, mib: int, verdict: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, mib * 2**20))
    found = examine(disk)[0]
    assert found.verdict == verdict
    if verdict != "ok":
        assert found.text == f"Only {mib:,} MiB are free for {folder}."
        assert str(folder) in found.remedy


def test_the_temporary_folder_counts_where_it_is_on_another_disk(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("there is one disk alone")
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    little = {"/dev/shm": 2**20}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, little.get(str(path), 2**40)))
    assert "Only 1 MiB are free for /dev/shm." in [each.text for each in examine(disk) if each.verdict == "fail"]


@pytest.mark.parametrize("place", ["", ".devsup"])
def test_a_folder_that_cannot_be_written_is_a_warning(project: Path, environment: dict[str, str], place: str) -> None:
    folder = project / place
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    # Root may write everywhere, unless it gives that up.
    prefix = [tool("setpriv"), "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    words = [*prefix, sys.executable, "-m", "devsup", "doctor"]
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False)
    folder.chmod(0o755)
    answer = Answer(done.returncode, done.stdout, done.stderr)
    assert answer.code == 0, answer
    assert f"warn  disk         {folder} cannot be written, so what devsup keeps goes to " in answer.out
    assert f"ls -ld {folder}" in answer.out
