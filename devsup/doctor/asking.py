"""Asks the project's own interpreter: runs one of `asked` in it, with nothing left when it has answered."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from devsup.events import Exit
from devsup.system import keeper

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

OURS = "doctor"  # what the run of devsup is called in the environment of a script, before the number of our process
ISOLATED = ("-I", "-S", "-W", "ignore")  # only the library: nothing of the project or the environment is run

_SCRIPTS = Path(__file__).with_name("asked")
_KEPT = 1 << 18  # bytes of what it has printed, from the end


class Answer(NamedTuple):
    """What it has answered, what it has printed, and how it ended: None where its time was over."""

    lines: list[Any]
    output: str
    exit: Exit | None

    @property
    def last_line(self) -> str:
        """Of what it has printed."""
        return next((line.strip() for line in reversed(self.output.splitlines()) if line.strip()), "")


def ask(
    python: str,
    script: str,
    *words: str,
    options: tuple[str, ...] = (),
    cwd: Path,
    env: Mapping[str, str],
    seconds: float,
    given: str = "",
) -> Answer:
    """Run a script, in a session of its own, for so long; `given` is its input. Raises OSError where it cannot be started."""
    token = f"{OURS}{os.getpid()}.{os.urandom(8).hex()}"
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as asked:
        asked.write(given.encode())
        asked.seek(0)
        text = (_SCRIPTS / f"{script}.py").read_text()
        process = subprocess.Popen(
            [python, *options, "-c", text, str(told.fileno()), *words],
            cwd=cwd,
            env={**env, "DEVSUP_TOKEN": f"{token}-"},
            stdin=asked if given else subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            pass_fds=[told.fileno()],
            start_new_session=True,
        )
        start, in_time = keeper.start_of(process.pid), False
        try:
            in_time = _ends(process, seconds)
        finally:
            _end(process, token, start)
        lines = [json.loads(line) for line in _read(told, 0).splitlines() if line.endswith("}")]
        return Answer(lines, _read(printed, _KEPT), _exit(process.returncode) if in_time else None)


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it has ended in time. It is not reaped, where that can be: the number of its group stays its own."""
    with suppress(AttributeError, OSError):  # not Linux, or an old kernel
        pidfd = os.pidfd_open(process.pid)
        try:
            return bool(select.select([pidfd], [], [], seconds)[0])
        finally:
            os.close(pidfd)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def _end(process: subprocess.Popen[bytes], token: str, start: int) -> None:
    """All of its group, and what has left that; then reap it."""
    keeper.end(f"{token}-", {process.pid: start})
    process.wait()


def _read(file: IO[bytes], most: int) -> str:
    """All of it (0), or the end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - most) if most else 0)
    return file.read().decode(errors="replace")


def _exit(code: int) -> Exit:
    return Exit(code=code) if code >= 0 else Exit(signal=-code)
