"""What is gathered once a worker has ended as nobody meant it to, so that the rules can say why."""

from __future__ import annotations

import linecache
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import msgspec

from devsup.decide.project import Project
from devsup.decide.rules import Evidence, diagnose
from devsup.decide.tracebacks import Frame, Raised
from devsup.system.blackbox import Left
from devsup.system.memory import oom_kills

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from devsup.current import Current
    from devsup.events import Diagnosis, Exit, Place
    from devsup.launch import Plan

_LEFT_OUT = frozenset({"node_modules", "site-packages", "__pycache__", "venv", "env", "build", "dist"})
_DEEPEST = 3
_MOST = 2000  # files
_AROUND = 2  # lines before and after the one that failed
_PACKAGES = 5
_LARGEST = 2 << 20  # bytes of a file that is looked into


class End(NamedTuple):
    """How a worker ended; `served` is in seconds, None where it never did."""

    exit: Exit
    pid: int
    served: float | None
    output: str


async def explain(plan: Plan, current: Current, end: End, hide: Callable[[Any], Any]) -> Diagnosis | None:
    """The diagnosis of an end, None where the program was done. `hide` takes secrets out, before anything is cut."""
    if end.served is None and end.exit.code == 0 and not current.listened and current.intended is None:
        return None
    return await anyio.to_thread.run_sync(_explain, plan, current, end, hide)


def _explain(plan: Plan, current: Current, end: End, hide: Callable[[Any], Any]) -> Diagnosis:
    folder = os.path.realpath(plan.cwd)
    left = current.box.read()
    exceptions, guess = last_raised(Left(hide(left.exceptions), left.text), end.pid)
    now = oom_kills()
    evidence = Evidence(
        exit=end.exit,
        output=hide(end.output).splitlines(),
        folder=folder,
        interpreter=plan.interpreter,
        files=frozenset(_files(folder)),
        served=end.served,
        listened=current.listened,
        exceptions=exceptions,
        guess=guess,
        native=left.text,
        intended="{}:{}".format(*current.intended) if current.intended is not None else "",
        phase=current.phase,
        changed=tuple(sorted(os.path.relpath(path, folder) for path in current.changed)),
        oom_kills=(now[0] - current.oom_kills[0], now[1] - current.oom_kills[1]),
        environments=tuple(_environments(folder, plan.interpreter)),
        peak=current.handle.process.peak if current.handle is not None else 0,
    )
    found = diagnose(evidence)
    frames = sourced(found.frames)
    return msgspec.structs.replace(
        found,
        place=sourced([found.place])[0] if found.place is not None else None,
        frames=frames,
        code=_code(found.place),
        evidence=[*found.evidence, *_versions(frames)],
    )


def raised(chain: Iterable[dict[str, Any]]) -> tuple[Raised, ...]:
    """Exceptions as the agent has described them."""
    return tuple(
        Raised(each["type"], each["message"], tuple(Frame(*frame) for frame in each["frames"]), tuple(each["notes"]))
        for each in chain
    )


def last_raised(left: Left, pid: int) -> tuple[tuple[Raised, ...], bool]:
    """What the main process has ended of, and whether that is a guess: of a launcher without an agent the last of all.

    Where it has one and left nothing, what it printed need not be what it has ended of either.
    """
    ended = [each for each in left.exceptions if each.get("where") == "main"]
    own = [each for each in ended if each.get("pid") == pid]
    if own:
        return raised(own[-1]["chain"]), False
    has_agent = any(each.get("where") == "begin" and each.get("pid") == pid for each in left.exceptions)
    return (raised(ended[-1]["chain"]) if ended and not has_agent else ()), has_agent or bool(ended)


def sourced(frames: list[Place]) -> list[Place]:
    """The frames with their lines of code, as the files have them now."""
    linecache.checkcache()
    return [
        each if each.source else msgspec.structs.replace(each, source=_line(each.file, each.line).strip()[:200])
        for each in frames
    ]


def _line(file: str, number: int) -> str:
    """A line of a file; "" where that is no file of a program: what an exception names may be anything."""
    try:
        about = Path(file).stat()
    except (OSError, ValueError):
        return ""
    return linecache.getline(file, number) if stat.S_ISREG(about.st_mode) and about.st_size <= _LARGEST else ""


def _code(place: Place | None) -> list[tuple[int, str]]:
    """The lines around the one that failed."""
    if place is None:
        return []
    lines = [(number, _line(place.file, number)) for number in range(place.line - _AROUND, place.line + _AROUND + 1)]
    shown = [(number, text.rstrip().expandtabs(4)[:200]) for number, text in lines if text]
    while shown and not shown[-1][1]:
        shown.pop()
    return shown


def _versions(frames: list[Place]) -> list[str]:
    """The installed packages that the frames are in: "starlette 0.27.0"."""
    found: dict[str, str] = {}
    for each in frames:
        before, name, after = each.file.partition("/site-packages/")
        top = after.partition("/")[0]
        if name and top and top not in found and len(found) < _PACKAGES:
            infos = sorted(Path(before + name).glob(f"{top}-*.dist-info"))
            found[top] = infos[0].name.removesuffix(".dist-info").replace("-", " ", 1) if infos else ""
    return [f"package: {version}" for version in found.values() if version]


def _environments(folder: str, interpreter: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The project's virtual environments but for the one in use, and what is installed in them."""
    for config in Path(folder).glob("*/pyvenv.cfg"):
        if not interpreter.startswith(f"{config.parent}/"):
            for packages in config.parent.glob("lib/python*/site-packages"):
                with suppress(OSError):
                    yield str(config.parent), frozenset(each.name.partition(".")[0] for each in packages.iterdir())


def _files(folder: str) -> Iterator[str]:
    """The project's Python files, near the top, relative to it."""
    count = 0
    for path, folders, files in os.walk(folder):
        inside = os.path.relpath(path, folder)
        depth = 0 if inside == "." else inside.count(os.sep) + 1
        folders[:] = [name for name in folders if depth < _DEEPEST and name not in _LEFT_OUT and not name.startswith(".")]
        for name in files:
            if name.endswith(".py"):
                yield os.path.normpath(os.path.join(inside, name))  # noqa: PTH118 - thousands
                count += 1
        if count > _MOST:
            return


def project(plan: Plan) -> Project:
    """The project that a service belongs to."""
    return Project(os.path.realpath(plan.cwd))
