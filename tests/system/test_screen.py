"""The terminal of several services: never waited for, whole lines, and a last row that is not torn."""

from __future__ import annotations

import os
import pty
import select
import termios
import threading
import time
from collections.abc import Iterator

import pytest

from devsup.system.output import Output, Voice
from devsup.system.screen import Screen
from harness import wait_until

ERASE = b"\r\x1b[2K"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal's two ends: what a program writes to, and what the user would see."""
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    yield slave, master
    os.close(slave)
    os.close(master)


def seen(master: int) -> bytes:
    """All that is there to be read now."""
    data = b""
    while select.select([master], [], [], 0.2)[0]:
        data += os.read(master, 65536)
    return data


def test_who_floods_loses_its_own_lines_and_is_counted_the_others_lose_none(terminal: tuple[int, int]) -> None:
    slave, master = terminal
    screen = Screen(slave)
    began = time.monotonic()
    for number in range(2000):
        screen.write("flood", b"flood\n" * 1000)
        screen.write("web", b"web %d\n" % number)
    assert time.monotonic() - began < 5, "nobody reads, and nobody waits"
    assert screen.wants_to_write
    data = b""
    while screen.wants_to_write or b"skipped" not in data:
        data += seen(master)
        screen.flush()
    data += seen(master)
    lines = data.decode().splitlines()
    assert [line for line in lines if line.startswith("web")] == [f"web {number}" for number in range(2000)]
    skipped = next(line for line in lines if "skipped" in line)
    count = int(skipped.partition(": ")[2].partition(" ")[0].replace(",", ""))
    assert count + lines.count("flood") == 2_000_000, "the count is exact"
    screen.close()


def test_the_last_row_is_taken_away_before_each_line_and_drawn_again_after_it(terminal: tuple[int, int]) -> None:
    slave, master = terminal
    screen = Screen(slave)
    screen.status(b"[row]")
    screen.write("web", b"one\n")
    screen.write("web", b"two\n")
    screen.write("web", b"who? ")
    screen.write("web", b"joe\n")
    screen.status(b"[new]")
    screen.close()
    expected = b"[row]" + ERASE + b"one\n[row]" + ERASE + b"two\n[row]" + ERASE + b"who? joe\n[row]" + ERASE + b"[new]" + ERASE
    assert seen(master) == expected, "no row while a question is open"


def test_lines_of_several_are_never_torn_and_an_unfinished_one_is_shown_after_a_moment() -> None:
    read_end, write_end = os.pipe()
    sources = [os.pipe() for _ in range(2)]
    stdout = os.dup(1)
    os.dup2(write_end, 1)
    try:
        with Output() as output:
            channels = [
                output.add(source, 1, "stdout", Voice(name, prefix="{} | "))
                for (source, _), name in zip(sources, "ab", strict=True)
            ]

            def write(fd: int, text: bytes) -> None:
                for _ in range(300):
                    os.write(fd, text[:7])
                    os.write(fd, text[7:])

            writers = [threading.Thread(target=write, args=(fd, b"a whole line\n")) for _, fd in sources]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            os.write(sources[0][1], b"name? ")
            data = bytearray()
            wait_until(lambda: _more(data, read_end).endswith(b"a | name? "))
            os.write(sources[1][1], b"meanwhile\n")
            wait_until(lambda: _more(data, read_end).endswith(b"\nb | meanwhile\n"))
            for channel in channels:
                output.finish(channel)
                assert channel.done.wait(5)
    finally:
        os.dup2(stdout, 1)
        for fd in (stdout, read_end, write_end, *(fd for _, fd in sources)):
            os.close(fd)
    lines = data.decode().splitlines()
    assert lines.count("a | a whole line") == lines.count("b | a whole line") == 300
    assert len(lines) == 602


def _more(data: bytearray, fd: int) -> bytearray:
    data += os.read(fd, 65536)
    return data
