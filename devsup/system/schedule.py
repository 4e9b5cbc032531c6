"""How long a thread was kept from running by others."""

from __future__ import annotations

from pathlib import Path


def waited_for_core(pid: int, thread: int) -> float:
    """For how many seconds of its life a thread has waited for a core; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
