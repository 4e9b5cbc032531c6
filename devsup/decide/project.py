"""Which files are the user's own, and how people write their names."""

from __future__ import annotations

import re
from typing import NamedTuple

_INSTALLED = re.compile(r"/(site-packages|dist-packages|\.venv|venv|node_modules|lib/python3[\d.]*|devsup_agent)/")


class Project(NamedTuple):
    """The folder that the service runs in, with all links resolved."""

    folder: str

    def is_own(self, path: str) -> bool:
        """Whether a file is the user's own."""
        inside = path.startswith(f"{self.folder}/") or not path.startswith(("/", "<"))
        return inside and not _INSTALLED.search(path)

    def short(self, path: str) -> str:
        """A file as seen from there."""
        return path.removeprefix(f"{self.folder}/")
