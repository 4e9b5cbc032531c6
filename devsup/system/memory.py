"""What the kernel tells of memory: whether it has killed for want of it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_COUNTED = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def oom_kills() -> tuple[int, int]:
    """How many processes the kernel has killed for want of memory: in our own cgroup, and on the whole machine."""
    return _count(_events()), _count(Path("/proc/vmstat"))


def _events() -> Path:
    """Our cgroup's counters: version 2's, else version 1's."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0" and not controllers:
                return Path(f"/sys/fs/cgroup{path}/memory.events")
            if "memory" in controllers.split(","):
                return Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
    return Path("/dev/null")


def _count(path: Path) -> int:
    with suppress(OSError):
        found = _COUNTED.search(path.read_text())
        return int(found[1]) if found else 0
    return 0
