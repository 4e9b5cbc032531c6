from __future__ import annotations

import os
from pathlib import Path

import pytest

from devsup.system.polling import Poll, remote

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 27 0:30 / /mnt/c rw,relatime - 9p C:\134 rw,dirsync
31 27 0:31 / /home/x/my\040share rw - cifs //server/share rw
32 27 0:32 / /home/x/far rw - fuse.sshfs x@far:/ rw
33 27 0:33 / /home/x/disk rw - fuseblk /dev/sdb1 rw
34 32 8:1 /y /home/x/far/local rw - ext4 /dev/sda1 rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/x/project", None),
        ("/mnt/c/project/src", "9p"),
        ("/mnt/c", "9p"),
        ("/mnt/cd", None),
        ("/home/x/my share/a", "cifs"),
        ("/home/x/far/a", "fuse.sshfs"),
        ("/home/x/far/local/a", None),
        ("/home/x/disk/a", None),
    ],
)
def test_which_file_systems_do_not_tell_of_every_change(folder: str, kind: str | None) -> None:
    assert remote([folder], MOUNTS) == ({folder: kind} if kind else {})


def _age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (1000, 1000))


def test_what_a_look_finds(tmp_path: Path) -> None:
    a, b, inner = tmp_path / "a.py", tmp_path / "b.py", tmp_path / "inner"
    inner.mkdir()
    for path in (a, b, tmp_path / "c.txt"):
        path.write_text("x")
    _age(a, b, tmp_path)
    poll = Poll(lambda: lambda path: path.endswith(".py"))
    assert poll.look([str(tmp_path)]) == ({str(a), str(b)}, {str(inner)})
    assert poll.look([str(tmp_path)]) == (set(), {str(inner)})
    a.write_text("longer")
    _age(a, tmp_path)
    assert poll.look([str(tmp_path)])[0] == {str(a)}
    b.unlink()
    _age(tmp_path)
    assert poll.look([str(tmp_path)])[0] == {str(b)}
    b.write_text("again")
    (tmp_path / "c.txt").write_text("longer")
    assert poll.look([str(tmp_path)])[0] == {str(b)}
    # As young as the coarsest of clocks: it may have been saved again in the same tick.
    assert poll.look([str(tmp_path)])[0] == {str(b)}
