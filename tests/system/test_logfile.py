"""A service's log file: every line, whole, after its time; rotation by size and age."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import closing
from pathlib import Path

import pytest

from devsup.system.logfile import LogFile, rotated, time_of
from devsup.system.logs import Line, Reader

STAMP = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "web.log"


def lines(path: Path) -> list[bytes]:
    found = path.read_bytes().splitlines()
    assert all(STAMP.match(line) for line in found)
    return [line[24:] for line in found]


def history(files: dict[str, Path], since: float = 0.0, last: int | None = None) -> list[Line]:
    with closing(Reader(files)) as reader:
        return reader.history(since, last)


def test_lines_are_whole_however_their_bytes_come_and_streams_are_kept_apart(path: Path) -> None:
    log = LogFile(path)
    for stream, data in (
        (1, b"one\ntw"),
        (2, b"err"),
        (1, b"o\n"),
        (2, b"or\n"),
        (1, b"rest"),
    ):
        log.write(stream, data)
    assert lines(path) == [b"one", b"two", b"error"]
    log.close()
    assert lines(path)[-1] == b"rest"
    assert path.stat().st_mode & 0o777 == 0o600


def test_colours_links_and_carriage_returns_are_left_out(path: Path) -> None:
    log = LogFile(path)
    log.write(1, b"\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07\r\n")
    log.close()
    assert lines(path) == [b"red link"]


def test_a_line_without_end_is_written_in_pieces(path: Path) -> None:
    log = LogFile(path)
    for _ in range(40):
        log.write(1, b"x" * 65536)
    log.close()
    assert b"".join(lines(path)) == b"x" * 40 * 65536
    assert len(lines(path)) == 3


def test_by_size_it_is_rotated_between_lines_and_the_oldest_goes(path: Path) -> None:
    log = LogFile(path, max_size=1000, keep=2)
    for number in range(100):
        log.write(1, f"line {number:04}\n".encode())
    log.close()
    files = [rotated(path, number) for number in range(4)]
    assert [file.exists() for file in files] == [True, True, True, False]
    assert all(file.stat().st_size <= 1000 for file in files[:3])
    kept = [line for file in reversed(files[:3]) for line in lines(file)]
    assert kept == [f"line {number:04}".encode() for number in range(100 - len(kept), 100)]
    assert [line.text for line in history({"web": path})] == [line.decode() for line in kept]


def test_without_a_limit_it_is_never_rotated_and_with_none_kept_it_begins_anew(path: Path) -> None:
    log = LogFile(path, max_size=0)
    log.write(1, b"x" * 100_000 + b"\n")
    log.close()
    assert not rotated(path, 1).exists()
    log = LogFile(path, max_size=1000, keep=0)
    log.write(1, b"new\n")
    log.close()
    assert lines(path) == [b"new"]
    assert not rotated(path, 1).exists()


def test_by_age_it_is_rotated_and_old_ones_go(path: Path) -> None:
    path.parent.mkdir()
    old = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - 3600))
    path.write_bytes(f"{old}.000 long ago\n".encode())
    rotated(path, 1).write_bytes(f"{old}.000 longer ago\n".encode())
    os.utime(rotated(path, 1), (time.time() - 7200, time.time() - 7200))
    log = LogFile(path, max_age=600)
    log.write(1, b"now\n")
    log.close()
    assert lines(path) == [b"now"]
    assert lines(rotated(path, 1)) == [b"long ago"]
    assert not rotated(path, 2).exists()


def test_a_disk_that_is_full_is_no_reason_to_stop(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    log = LogFile(path)
    log.write(1, b"lost\n")
    log.close()


def test_several_are_read_in_the_order_of_time_from_a_moment_on(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.log" for name in ("a", "b")}
    files["a"].write_text("2026-01-01 10:00:00.000 a1\n2026-01-01 10:00:02.000 a2\n")
    files["b"].write_text("2026-01-01 10:00:01.000 b1\n2026-01-01 10:00:03.000 b2\n")
    assert [line.text for line in history(files)] == ["a1", "b1", "a2", "b2"]
    assert [line.text for line in history(files, last=1)] == ["b2"]
    since = time_of(b"2026-01-01 10:00:02.000 x")
    assert since is not None
    assert [(line.service, line.text) for line in history(files, since)] == [("a", "a2"), ("b", "b2")]


def test_it_is_followed_over_rotations_without_a_line_lost_or_told_twice(path: Path) -> None:
    log = LogFile(path, max_size=400, keep=9)
    log.write(1, b"before\n")
    with closing(Reader({"web": path})) as reader:
        told = [line.text for line in reader.history()]
        written = ["before"]
        for burst in (1, 3, 30, 2, 25, 1):
            for _ in range(burst):
                written.append(f"line {len(written)} {'x' * 20}")
                log.write(1, f"{written[-1]}\n".encode())
            told += [line.text for line in reader.follow(lambda: iter(()))]
        assert told == written
    assert rotated(path, 3).exists()
    log.close()


def test_two_streams_of_one_name_do_not_mix_and_a_folder_that_was_cleaned_comes_back(path: Path) -> None:
    log = LogFile(path)
    log.write(1, b"one beg")
    log.write(3, b"two beg")
    log.write(1, b"un\n")
    log.end(1)
    log.write(3, b"un\n")
    assert lines(path) == [b"one begun", b"two begun"]
    shutil.rmtree(path.parent)
    log.write(1, b"again\n")
    assert lines(path) == [b"again"]
    log.close()
