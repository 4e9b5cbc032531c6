"""Compiles the files that are named on the standard input, and tells of those that do not; nothing is written or run."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import sys
import time
from pathlib import Path

LARGEST = 4 << 20  # bytes


def is_known(path: str, about: os.stat_result) -> bool:
    """Whether Python has compiled this very file before."""
    try:
        with Path(importlib.util.cache_from_source(path)).open("rb") as file:
            head = file.read(16)
    except (OSError, NotImplementedError):
        return False
    facts = (0, int(about.st_mtime) & 0xFFFFFFFF, about.st_size & 0xFFFFFFFF)
    return head == importlib.util.MAGIC_NUMBER + b"".join(each.to_bytes(4, "little") for each in facts)


def problem(path: str) -> tuple[int, str] | None:
    """Line and message of what does not compile, else None; a file that cannot be read has no line."""
    try:
        about = Path(path).stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST or is_known(path, about):
            return None
        source = Path(path).read_bytes()
    except OSError as exc:
        return 0, exc.strerror or type(exc).__name__
    try:
        compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as exc:
        return exc.lineno or 1, exc.msg
    except Exception as exc:  # noqa: BLE001 - such as a ValueError for a null byte
        return 1, str(exc) or type(exc).__name__
    return None


def main(told: str, seconds: str) -> None:
    """Until all are compiled, or the time is up."""
    ends, count = time.monotonic() + float(seconds), 0
    for path in json.load(sys.stdin):
        if time.monotonic() > ends:
            break
        found = problem(path)
        count += 1
        if found is not None:
            os.write(int(told), json.dumps({"file": path, "line": found[0], "text": found[1]}).encode() + b"\n")
    os.write(int(told), json.dumps({"count": count}).encode() + b"\n")


main(*sys.argv[1:])
