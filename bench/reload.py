"""Time from a save to the first answer of the new code, while nothing else goes on."""

import time
from pathlib import Path

from bench import apps, harness
from bench.report import Result

SAVES = 15
SETTLE = 0.6  # between an answer and the next save: a reloader may still be looking away


def measure() -> list[Result]:
    """Both run all the time, each in its own folder, and are saved in turn."""
    ours_port, peer_port = harness.free_port(), harness.free_port()
    ours_command = [*harness.DEVSUP, "run", "uvicorn", "app:app", "--port", str(ours_port)]
    peer_command = ["uvicorn", "app:app", "--port", str(peer_port), "--reload"]
    files = {"app.py": apps.starlette("v0")}
    ours: list[float] = []
    peer: list[float] = []
    with (
        harness.app_folder(files) as ours_folder,
        harness.app_folder(files) as peer_folder,
        harness.Server(ours_command, ours_folder) as ours_server,
        harness.Server(peer_command, peer_folder) as peer_server,
    ):
        ours_server.wait_for(ours_port, b"v0")
        peer_server.wait_for(peer_port, b"v0")
        time.sleep(2 * SETTLE)
        for number in range(1, SAVES + 1):
            harness.progress(f"reload: save {number} of {SAVES}")
            ours.append(_save(ours_server, ours_port, ours_folder, number))
            peer.append(_save(peer_server, peer_port, peer_folder, number))
    return [Result("save to new code, idle", "ms", ours, peer, at_most=0.12)]


def _save(server: harness.Server, port: int, folder: Path, number: int) -> float:
    text = apps.starlette(f"v{number}", number)
    saved = time.perf_counter()
    (folder / "app.py").write_text(text, encoding="utf-8")
    answered = server.wait_for(port, f"v{number}".encode())
    time.sleep(SETTLE)
    return (answered - saved) * 1000
