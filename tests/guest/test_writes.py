"""What counts as a program's own writing."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

writes: Any = importlib.import_module("devsup_agent.writes")


@pytest.mark.parametrize(
    ("event", "args", "expected"),
    [
        ("subprocess.Popen", ("/sbin/ldconfig", ["/sbin/ldconfig", "-p"], None, {}), None),
        ("subprocess.Popen", ("git", ["git", "checkout", "x"], None, {}), b"*"),
        ("subprocess.Popen", (b"/usr/bin/make", [], None, {}), b"*"),
        ("os.system", (b"make all",), b"*"),
        ("open", ("/x/y", "w", os.O_WRONLY), b"/x/y"),
        ("open", ("/x/y", "r", os.O_RDONLY), None),
        ("os.rename", ("/x/a", Path("/x/b"), -1, -1), b"/x/b"),
    ],
)
def test_files_that_are_written_and_programs_that_may_write_any(
    event: str, args: tuple[Any, ...], expected: bytes | None
) -> None:
    assert writes._written(event, args) == expected
