"""A service's log file: every line, whole, after its time; rotation by size and age."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from devsup.system.logfile import LogFile, rotated, time_of
from devsup.system.logs import Follower, read

STAMP = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "web.log"


def lines(path: Path) -> list[bytes]:
    found = path.read_bytes().splitlines()
    assert all(STAMP.match(line) for line in found)
    return [line[24:] for line in found]


def test_lines_are_whole_however_their_bytes_come_and_streams_are_kept_apart(path: Path) -> None:
    log = LogFile(path)
    for stream, data in (
        ("stdout", b"one\ntw"),
        ("stderr", b"err"),
        ("stdout", b"o\n"),
        ("stderr", b"or\n"),
        ("stdout", b"rest"),
    ):
        log.write(stream, data)
    assert lines(path) == [b"one", b"two", b"error"]
    log.close()
    assert lines(path)[-1] == b"rest"
    assert path.stat().st_mode & 0o777 == 0o600


def test_colours_links_and_carriage_returns_are_left_out(path: Path) -> None:
    log = LogFile(path)
    log.write("stdout", b"\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07\r\n")
    log.close()
    assert lines(path) == [b"red link"]


def test_a_line_without_end_is_written_in_pieces(path: Path) -> None:
    log = LogFile(path)
    for _ in range(40):
        log.write("stdout", b"x" * 65536)
    log.close()
    assert b"".join(lines(path)) == b"x" * 40 * 65536
    assert len(lines(path)) == 3


def test_by_size_it_is_rotated_between_lines_and_the_oldest_goes(path: Path) -> None:
    log = LogFile(path, max_size=1000, keep=2)
    for number in range(100):
        log.write("stdout", f"line {number:04}\n".encode())
    log.close()
    files = [rotated(path, number) for number in range(4)]
    assert [file.exists() for file in files] == [True, True, True, False]
    assert all(file.stat().st_size <= 1000 for file in files[:3])
    kept = [line for file in reversed(files[:3]) for line in lines(file)]
    assert kept == [f"line {number:04}".encode() for number in range(100 - len(kept), 100)]
    assert [line.text for line in read({"web": path})] == [line.decode() for line in kept]


def test_without_a_limit_it_is_never_rotated_and_with_none_kept_it_begins_anew(path: Path) -> None:
    log = LogFile(path, max_size=0)
    log.write("stdout", b"x" * 100_000 + b"\n")
    log.close()
    assert not rotated(path, 1).exists()
    log = LogFile(path, max_size=1000, keep=0)
    log.write("stdout", b"new\n")
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
    log.write("stdout", b"now\n")
    log.close()
    assert lines(path) == [b"now"]
    assert lines(rotated(path, 1)) == [b"long ago"]
    assert not rotated(path, 2).exists()


def test_a_disk_that_is_full_is_no_reason_to_stop(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    log = LogFile(path)
    log.write("stdout", b"lost\n")
    log.close()


def test_several_are_read_in_the_order_of_time_from_a_moment_on(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.log" for name in ("a", "b")}
    files["a"].write_text("2026-01-01 10:00:00.000 a1\n2026-01-01 10:00:02.000 a2\n")
    files["b"].write_text("2026-01-01 10:00:01.000 b1\n2026-01-01 10:00:03.000 b2\n")
    assert [line.text for line in read(files)] == ["a1", "b1", "a2", "b2"]
    assert [line.text for line in read(files, last=1)] == ["b2"]
    since = time_of(b"2026-01-01 10:00:02.000 x")
    assert since is not None
    assert [(line.service, line.text) for line in read(files, since)] == [("a", "a2"), ("b", "b2")]


def test_it_is_followed_over_a_rotation(path: Path) -> None:
    log = LogFile(path, max_size=200, keep=3)
    log.write("stdout", b"before\n")
    follower = Follower({"web": path})
    following = follower.follow(lambda: iter(range(10)))
    try:
        for number in range(8):
            log.write("stdout", f"line {number} {'x' * 40}\n".encode())
            assert next(following).text.startswith(f"line {number} ")
        assert rotated(path, 1).exists()
    finally:
        follower.close()
        log.close()
