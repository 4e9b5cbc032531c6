"""What git ignores: the .gitignore files from the repository's top down, .git/info/exclude, and the user's own excludes file.

As in git, an entry is judged together with the folders above it: what lies in an ignored folder is ignored, whatever is said
below. Each entry by itself follows the last pattern that matches it in the nearest file that has one. Paths are matched as
bytes: git's `?` is one byte of a name.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devsup.system.gitpattern import Pattern

_BUSY = 60.0  # seconds; a lock that is older was left by a git that died


class Gitignore:
    """The rules that hold below `root`; outside a repository `root` is the top. Files are read again when they change."""

    def __init__(self, root: str) -> None:
        self.top = next((str(each) for each in (Path(root), *Path(root).parents) if (each / ".git").exists()), root)
        self._lock, self.exclude = _places(Path(self.top, ".git"))
        self._users = _users_file(root)
        self._read: dict[str, tuple[object, list[Pattern]]] = {}

    def is_busy(self) -> bool:
        """Whether git is changing files: it holds its lock."""
        try:
            return time.time() - os.stat(self._lock).st_mtime < _BUSY  # noqa: PTH116 - for each save
        except OSError:
            return False

    def look(self) -> Callable[[str], bool]:
        """What is ignored as the files are now: a function of a path, absolute and without links; a folder's ends with /."""
        top = self.top.rstrip("/") + "/"
        known = {top: False}
        rules: dict[str, list[Pattern]] = {}

        def is_ignored(path: str) -> bool:
            if path not in known:
                folder = os.path.dirname(path.rstrip("/")).rstrip("/") + "/"  # noqa: PTH120 - hot
                known[path] = is_ignored(folder) or self._decides(path, rules)
            return known[path]

        return lambda path: path.startswith(top) and is_ignored(path)

    def _decides(self, path: str, rules: dict[str, list[Pattern]]) -> bool:
        for file, folder in self._files_for(path.rstrip("/")):
            if file not in rules:
                rules[file] = self._patterns(file)
            entry = os.fsencode(path.removeprefix(folder.rstrip("/") + "/")) if rules[file] else b""
            for pattern in reversed(rules[file]):
                if pattern.matches(entry):
                    return pattern.ignores
        return False

    def _files_for(self, entry: str) -> Iterator[tuple[str, str]]:
        """The files that may speak of an entry, and the folders that their patterns start from; the first that does decides."""
        folder = entry
        while folder != self.top:
            folder = os.path.dirname(folder)  # noqa: PTH120 - hot
            yield f"{folder.rstrip('/')}/.gitignore", folder
        for file in (*self.exclude, self._users):
            yield file, self.top

    def _patterns(self, file: str) -> list[Pattern]:
        try:
            found = os.stat(file)  # noqa: PTH116 - hot
            version = found.st_mtime_ns, found.st_size, found.st_ino
            if self._read.get(file, (None,))[0] != version:
                self._read[file] = version, _parsed(file)
        except OSError:
            self._read[file] = None, []
        return self._read[file][1]


def _parsed(file: str) -> list[Pattern]:
    from devsup.system.gitpattern import patterns  # noqa: PLC0415 - most folders have no such file

    return list(patterns(Path(file).read_bytes()))


def _places(git: Path) -> tuple[str, list[str]]:
    """The repository's lock and its info/exclude; in a work tree or a submodule, `.git` is a file that says where they lie."""
    common = git
    try:
        if git.is_file():
            common = git = git.parent / git.read_text().removeprefix("gitdir:").strip()
            if (git / "commondir").exists():
                common = git / (git / "commondir").read_text().strip()
    except (OSError, ValueError):
        return str(git / "index.lock"), []
    return str(git / "index.lock"), [os.path.realpath(common / "info/exclude")]


def _users_file(folder: str) -> str:
    """core.excludesFile, as git itself finds it, or where it would look without."""
    import subprocess  # noqa: PLC0415 - a worker is spawned before it is needed

    try:
        asked = subprocess.run(
            ["git", "config", "--type=path", "--get", "core.excludesFile"], cwd=folder, capture_output=True, check=False
        )
        named = os.fsdecode(asked.stdout.removesuffix(b"\n"))
    except OSError:  # there is no git here
        named = ""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - it may be unknown
    return os.path.join(folder, named or f"{base}/git/ignore")  # noqa: PTH118 - an absolute name stays as it is
