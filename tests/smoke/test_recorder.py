"""What is kept of what a service prints, and what was looked for."""

import threading
import time

import pytest

from devsup.smoke.recorder import Recorder


@pytest.fixture
def anyio_backend() -> str:
    """Lines come from another thread, by way of asyncio."""
    return "asyncio"


def test_lines_of_a_time() -> None:
    recorder = Recorder([])
    recorder.feed(b"one\ntwo\n")
    middle = time.monotonic()
    recorder.feed(b"three\n")
    assert recorder.lines(0, time.monotonic()) == ["one", "two", "three"]
    assert recorder.lines(middle, time.monotonic()) == ["three"]
    assert recorder.lines(0, middle) == ["one", "two"]


def test_the_last_lines_are_told_and_long_ones_cut() -> None:
    recorder = Recorder([])
    recorder.feed(b"".join(b"%d\n" % number for number in range(100)) + b"x" * 1000 + b"\n")
    lines = recorder.lines(0, time.monotonic())
    assert lines[:-1] == [str(number) for number in range(81, 100)]
    assert lines[-1] == "x" * 300


def test_a_flood_is_not_kept() -> None:
    recorder = Recorder([("log", "needle")])
    recorder.feed(b"first\n")
    for _ in range(200):
        recorder.feed(b"y" * 65_535 + b"\n")
    recorder.feed(b"a needle\n")
    assert sum(len(block) for _, block in recorder._blocks) <= 1 << 22
    assert recorder.lines(0, time.monotonic())[-1] == "a needle"
    assert [line for _, line in recorder.found("log")] == ["a needle"]


def test_each_check_has_its_own() -> None:
    recorder = Recorder([("a", "x+"), ("b", "^y")])
    recorder.feed(b"xx\n\x1b[31my\x1b[0m\n")
    assert [line for _, line in recorder.found("a")] == ["xx"]
    assert [line for _, line in recorder.found("b")] == ["y"]
    assert recorder.found("c") == []


def test_what_was_found_once_is_not_forgotten_for_what_is_found_often() -> None:
    recorder = Recorder([("clean", "CUDA"), ("ticks", "tick")])
    recorder.feed(b"CUDA error\n")
    for _ in range(1000):
        recorder.feed(b"tick\n")
    assert [line for _, line in recorder.found("clean")] == ["CUDA error"]
    assert 0 < len(recorder.found("ticks")) < 1000


async def test_waiting_for_a_line() -> None:
    recorder = Recorder([("a", "ready")])
    thread = threading.Timer(0.1, recorder.feed, [b"is ready\n"])
    thread.start()
    assert await recorder.until_found("a", 10)
    thread.join()
    assert await recorder.until_found("a", 0)
    assert not await recorder.until_found("b", 0.05)
