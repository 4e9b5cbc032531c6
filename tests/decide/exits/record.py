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
RECORDED = Path(__file__).with_name("recorded.json")


def record(program: Any) -> dict[str, object]:
    """Its exit status and output, with the folders of this machine under other names."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in program.files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        words = [sys.executable if word == "python" else word for word in program.command]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DEVSUP"))}
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
        output = (done.stdout + done.stderr).replace(os.path.realpath(folder), "/project").replace(folder, "/project")
    for real, shown in (
        (sysconfig.get_paths()["purelib"], "/venv/lib/python3/site-packages"),
        (sysconfig.get_paths()["stdlib"], "/usr/lib/python3"),
        (sys.prefix, "/venv"),
    ):
        output = output.replace(real, shown)
    return {"name": program.name, "status": done.returncode, "files": sorted(program.files), "output": output.splitlines()}


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(list(map(record, PROGRAMS)), indent=1) + "\n")
