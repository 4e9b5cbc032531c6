"""Run the programs that fail, and write down what they said: `python tests/decide/exits/record.py`."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

PROGRAMS = runpy.run_path(str(Path(__file__).with_name("programs.py")))["PROGRAMS"]
GUEST = str(Path(__file__).parents[3] / "devsup" / "guest")
RECORDED = Path(__file__).with_name("recorded.json")


def record(program: Any) -> dict[str, object]:
    """Its exit status and output, with the folders of this machine under other names."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in program.files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        words = [sys.executable if word == "python" else word for word in program.command]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DEVSUP"))}
        done = subprocess.run(
            words, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        output = (done.stdout + done.stderr).replace(os.path.realpath(folder), "/project").replace(folder, "/project")
        left = _with_agent(words, folder, env).replace(os.path.realpath(folder), "/project").replace(folder, "/project")
    for real, shown in (
        (sysconfig.get_paths()["purelib"], "/venv/lib/python3/site-packages"),
        (sysconfig.get_paths()["stdlib"], "/usr/lib/python3"),
        (sys.prefix, "/venv"),
    ):
        output, left = output.replace(real, shown), left.replace(real, shown)
    return {
        "name": program.name,
        "status": done.returncode,
        "files": sorted(program.files),
        "output": output.splitlines(),
        "left": left.splitlines(),
    }


def _with_agent(words: list[str], folder: str, env: dict[str, str]) -> str:
    """What it leaves in the black box of devsup's agent."""
    with tempfile.TemporaryDirectory() as meeting:
        ours = {"PYTHONPATH": GUEST, "DEVSUP_LINK": f"{meeting}/link", "DEVSUP_TOKEN": "run-1"}
        quiet = subprocess.DEVNULL
        subprocess.run(words, cwd=folder, env=env | ours, stdin=quiet, stdout=quiet, stderr=quiet, timeout=60, check=False)
        path = Path(meeting, "link.run-1")
        return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(list(map(record, PROGRAMS)), indent=1) + "\n")
