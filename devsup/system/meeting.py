"""Where a worker's agents find the supervisor: a Unix socket in devsup's own folder, there before the first worker is."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Self

_LONGEST = 70  # bytes of a folder's path, such that a socket's below it is none too many


def runtime_folder() -> str:
    """Where sockets and locks of this user go. Not the temporary folder of the environment, which may be long."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return base if os.access(base, os.W_OK) and len(os.fsencode(base)) <= _LONGEST else "/tmp"  # noqa: S108 - as said


def folder_of(run: str) -> str:
    """Where a run of devsup has its sockets and files."""
    return f"{runtime_folder()}/devsup-{run}"


class Quarters:
    """The folder of one run of devsup, with its sockets and files; `run` tells it from others'. A context: it goes with it."""

    def __init__(self) -> None:
        self.run = os.urandom(8).hex()
        self.folder = folder_of(self.run)
        self.control = f"{self.folder}/control"  # where other commands of devsup ask
        os.mkdir(self.folder, 0o700)  # noqa: PTH102 - pathlib would cost the first worker 4 ms

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            for name in os.listdir(self.folder):  # noqa: PTH208
                os.unlink(f"{self.folder}/{name}")  # noqa: PTH108
            os.rmdir(self.folder)  # noqa: PTH106


class Meeting:
    """The bound socket of a service, its path, and the token that its processes carry. A context."""

    def __init__(self, quarters: Quarters, number: int = 0) -> None:
        self._suffix = f".{number}" if number else ""
        self.run = f"{quarters.run}{self._suffix}"
        self._folder = quarters.folder
        self.path = self.file("link")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o600)  # noqa: PTH101
        self.sock.listen(512)
        self.sock.setblocking(False)

    def file(self, name: str) -> str:
        """The path of a file of this service's."""
        return f"{self._folder}/{name}{self._suffix}"

    def token(self, whose: int | str) -> str:
        """What a process of that generation, or fork server, carries in its environment: all are of the same length."""
        return f"{self.run}-{whose:0>8}"

    def environment(self, whose: int | str) -> dict[str, str]:
        """The two variables by which its processes find us."""
        return {"DEVSUP_LINK": self.path, "DEVSUP_TOKEN": self.token(whose)}

    def box(self, generation: int) -> str:
        """The black box of that generation's processes: there as soon as one of them has an agent."""
        return f"{self.path}.{self.token(generation)}"

    def has_agent(self, generation: int) -> bool:
        """Whether any process of that generation has an agent, linked or not."""
        return os.path.exists(self.box(generation))  # noqa: PTH110

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
