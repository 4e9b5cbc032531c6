"""One owner per project and service: a lock that a dead process cannot hold, and beside it what the owner tells others.

The lock is the kernel's (`flock`), on `NAME.lock` in the project's `.devsup` folder, or, where that cannot be written, in a
folder of the user's beside the sockets. `NAME.json` beside it is a `Record`, there while the service runs; one that is there
although nobody holds the lock was left by an owner that was killed, and names what it may have left behind.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from devsup.errors import DevsupError
from devsup.system import keeper
from devsup.system.meeting import runtime_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devsup.system.meeting import Meeting

_TELLS = 1.0  # seconds that an owner takes to say who it is, once it has the lock
_POLL = 0.01  # seconds


@dataclass(frozen=True)
class Record:
    """What an owner tells of itself. `started` and those of the workers are kernel ticks, as of `keeper.start_of`."""

    pid: int
    started: int
    boot: str
    namespace: str
    run: str
    service: str
    project: str
    command: list[str]
    log: str
    since: float
    cwd: str = ""
    control: str = ""
    config: str = ""
    urls: list[str] = field(default_factory=list)
    workers: dict[str, int] = field(default_factory=dict)

    @property
    def is_visible(self) -> bool:
        """Whether its process numbers mean anything here: same boot, same namespace of processes."""
        return (self.boot, self.namespace) == (boot(), namespace())

    @property
    def is_running(self) -> bool:
        """Whether that very process still runs."""
        return self.is_visible and keeper.lives(self.pid, self.started)


class OwnedError(DevsupError):
    """Another devsup runs this very service. `record` is None where it does not say who it is."""

    def __init__(self, record: Record | None, service: str) -> None:
        self.record = record
        super().__init__(*_told(record, service))


class Owner:
    """The service is ours until `close`; `about` are more fields of the record. Raises OwnedError where it is another's."""

    def __init__(self, project: Path, service: str, command: Sequence[str], meeting: Meeting, **about: Any) -> None:
        self._path, self._link = _place(project, service, command), Path(meeting.file("owner"))
        self._fd = self._lock(service)
        self.former = read(self._path)  # nobody had the lock: it has ended without a word
        self.record = Record(
            pid=os.getpid(),
            started=keeper.start_of(os.getpid()),
            boot=boot(),
            namespace=namespace(),
            run=meeting.run,
            service=service,
            project=str(project),
            command=list(command),
            log=str(self._path.with_name("events.jsonl")) if self._path.parent.name == ".devsup" else "",
            since=time.time(),
            **about,
        )
        if self._fd is None and self.former is not None and self.former.is_running:
            raise OwnedError(self.former, service)
        self.tell()

    def end_leftovers(self) -> list[int]:
        """End what a former owner has left that was killed together with its keeper. Returns who had to be ended."""
        former, self.former = self.former, None
        if former is None or not former.is_visible or former.is_running:
            return []
        return keeper.end(f"{former.run}-", {int(pid): start for pid, start in former.workers.items()})

    def tell(self, *, worker: int = 0, gone: int = 0, urls: list[str] | None = None) -> None:
        """Say who owns the service: with another worker, one less, or on these addresses."""
        import json  # noqa: PLC0415 - as in read

        workers = {pid: start for pid, start in self.record.workers.items() if pid != str(gone)}
        if worker:
            workers[str(worker)] = keeper.start_of(worker)
        self.record = replace(self.record, workers=workers, urls=self.record.urls if urls is None else urls)
        path = self._path.with_suffix(".json")
        if not self._is_ours():
            return
        with suppress(OSError):  # a full disk must not stop the service
            new = path.with_suffix(".new")
            new.touch(0o600)
            new.write_text(json.dumps(asdict(self.record)))
            new.replace(path)
            if not self._link.is_symlink():
                self._link.symlink_to(path)

    def close(self) -> None:
        """Let others have it."""
        with suppress(OSError):
            if self._is_ours():
                self._path.with_suffix(".json").unlink(missing_ok=True)
                self._path.unlink(missing_ok=True)  # before the lock is gone: who waits for it looks whether it is still there
        if self._fd is not None:
            os.close(self._fd)

    def _is_ours(self) -> bool:
        """Whether the lock is still where others look for it: somebody may have cleaned the folder, and another have come."""
        if self._fd is None:
            return True
        with suppress(OSError):
            return os.fstat(self._fd).st_ino == self._path.stat().st_ino
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self, service: str) -> int | None:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_ino == self._path.stat().st_ino:
                    return fd
            except FileNotFoundError:
                pass  # its owner has just ended, and taken the file with him
            except BlockingIOError:
                os.close(fd)
                raise OwnedError(self._wait_for_its_word(), service) from None
            except OSError:  # a file system without locks
                os.close(fd)
                return None
            os.close(fd)

    def _wait_for_its_word(self) -> Record | None:
        ends = time.monotonic() + _TELLS
        while time.monotonic() < ends:
            record = read(self._path)
            if record is not None and (record.is_running or not record.is_visible):
                return record
            time.sleep(_POLL)  # noqa: TID251 - nothing else runs yet, and the other writes it any moment
        return None


def read(path: Path) -> Record | None:
    """The record beside this lock; None where there is none of this user's that can be understood."""
    import json  # noqa: PLC0415 - 2 ms

    try:
        with path.with_suffix(".json").open() as file:
            fields = json.load(file) if os.fstat(file.fileno()).st_uid == os.getuid() else {}
        record = Record(**{**fields, "workers": {str(int(pid)): int(start) for pid, start in fields["workers"].items()}})
        texts = (
            record.boot,
            record.namespace,
            record.run,
            record.service,
            record.project,
            record.log,
            record.cwd,
            record.control,
            record.config,
        )
        numbers, lists = (record.pid, record.started, record.since + 0.0), (record.command, record.urls)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    plain = all(isinstance(each, str) for each in (*texts, *(word for words in lists for word in words)))
    return record if plain and record.run and record.command and all(isinstance(each, int | float) for each in numbers) else None


def running() -> Iterator[Record]:
    """Every owner of this user and machine that runs."""
    for base in {runtime_folder(), "/tmp"}:  # noqa: S108 - where a shell without XDG_RUNTIME_DIR has put it
        for folder in Path(base).glob("devsup-*"):
            links = list[Path]()
            with suppress(OSError):  # it is another user's, or has just gone
                links = [link for link in folder.iterdir() if link.name.startswith("owner")]
            for link in links:
                with suppress(OSError):
                    record = read(link.readlink()) if link.lstat().st_uid == os.getuid() else None
                    if record is not None and record.is_running:
                        yield record


def boot() -> str:
    """What tells this boot of the machine from the one before."""
    with suppress(OSError):
        if sys.platform == "linux":
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        import subprocess  # noqa: PLC0415 - not on Linux

        return subprocess.run(
            ["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False
        ).stdout.strip()
    return ""


def namespace() -> str:
    """What tells this namespace of processes from a container's."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return sys.platform


def _place(project: Path, service: str, command: Sequence[str]) -> Path:
    """The path of the lock, in a folder that is there and ours."""
    safe, words = re.sub(r"[^\w.-]", "_", service), "\0".join(command).encode(errors="surrogateescape")
    name = f"{safe}-{zlib.crc32(words):08x}.lock"
    folder = project / ".devsup"
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        with suppress(OSError):
            (folder / ".gitignore").write_text("*\n")
        if os.access(folder, os.W_OK) and (os.access(folder / name, os.W_OK) or not (folder / name).exists()):
            return folder / name
    base = Path(runtime_folder(), f"devsup-{os.getuid()}")
    base.mkdir(mode=0o700, exist_ok=True)
    about = base.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise DevsupError(f"{base} is not yours alone.", "Set XDG_RUNTIME_DIR to a folder of your own.")
    return base / f"{zlib.crc32(os.fsencode(project)):08x}-{name}"


def _told(record: Record | None, service: str) -> tuple[str, str]:
    """In words: who runs it, where its log is, and what to do."""
    if record is None:
        return f"Service {service} runs already, under a devsup that cannot be seen from here.", "Stop that one first."
    minutes = max(0, int(time.time() - record.since)) // 60
    since = f"since {minutes} min" if minutes else "since less than a minute"
    urls = " ".join(record.urls)
    if not record.is_visible:
        text = f"Service {service} runs already, in a container or on another machine ({since})."
        return text, f"Stop it there. Its log: {record.log}".removesuffix(" Its log: ")
    text = f"Service {service} runs already: devsup, pid {record.pid}, {since}{f', on {urls}' if urls else ''}."
    use = f"Use it: {urls}. " if urls else ""
    log = f"Its log: {record.log}. " if record.log else ""
    return text, f'{use}{log}Replace it with "devsup run --take-over …", or stop it with "kill {record.pid}".'
