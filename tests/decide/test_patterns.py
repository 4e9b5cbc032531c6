from __future__ import annotations

import pytest

from devsup.decide.patterns import Patterns


def find(expression: str, data: bytes) -> str | None:
    return Patterns([("log", expression)]).find(data).get(("log", expression))


@pytest.mark.parametrize(
    ("expression", "data", "line"),
    [
        ("CUDA error", b"fine\nRuntimeError: CUDA error: no\nCUDA error 2\n", "RuntimeError: CUDA error: no"),
        ("^tick$", b"no tick\ntick\n", "tick"),
        ("^tick$", b"a\r\ntick\r\nb\r\n", "tick"),
        ("tick", b"without an end: tick", "without an end: tick"),
        ("(?i)out of memory", b"Killed: Out Of Memory\n", "Killed: Out Of Memory"),
        (r"(\w)\1", b"abc\nabba\n", "abba"),
        ("[äö]", "für Zoë\nHöhe\n".encode(), "Höhe"),
        ("^INFO: +ready", b"\x1b[32mINFO\x1b[0m:     ready\n", "INFO:     ready"),
        ("tick", b"\xff tick\n", "\ufffd tick"),
        (r"error\s+here", b"error\nhere\n", None),
        (r"error\s+here", b"error\nhere\nan error here\n", "an error here"),
        (r"\s+here", b"x\n\n\n  here\n", "  here"),
        ("$", b"\n", ""),
        ("tock", b"tick\n", None),
        ("tock", b"", None),
    ],
)
def test_the_first_line_with_a_match(expression: str, data: bytes, line: str | None) -> None:
    assert find(expression, data) == line


def test_each_expression_has_its_own_line() -> None:
    keys = [("never", "CUDA error"), ("never", r"(?P<code>500) Internal"), ("ready", "CUDA error"), ("ready", r"(?P<code>404)")]
    found = Patterns(keys).find(b"GET / 500 Internal Server Error\nCUDA error\n500 Internal again\n")
    assert found == {keys[0]: "CUDA error", keys[1]: "GET / 500 Internal Server Error", keys[2]: "CUDA error"}


def test_a_long_line_is_cut() -> None:
    line = find("tick", b"tick" + b"x" * 100_000 + b"\n")
    assert line is not None
    assert len(line) == 1000


def test_nobody_asks() -> None:
    assert Patterns([]).find(b"tick\n") == {}
