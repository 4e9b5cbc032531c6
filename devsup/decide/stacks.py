"""What faulthandler wrote of a process's threads, read back; and what a thread is doing, in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from devsup.decide.tracebacks import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_THREAD = re.compile(r"(?P<current>Current thread|Thread) 0x(?P<ident>[0-9a-f]+)(?: \[(?P<name>.*?)\])? \(.*\):?$")
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')
_FATAL = re.compile(r"Fatal Python error: (?P<what>.+)$")
_PACKAGES = re.compile(r"(?:site-packages|dist-packages|lib/python[\d.]+)/([\w.]+?)(?:/|\.py$|\.pyc$|$)")
_RUNS = {"run", "run_until_complete", "run_forever"}
_WAITS = {"select", "poll", "epoll_wait", "_poll"}


class Thread(NamedTuple):
    """One thread's stack, the innermost frame first; `is_current` where it is the one that wrote, or crashed."""

    ident: int
    name: str
    is_current: bool
    frames: tuple[Frame, ...]


def parse(text: str) -> list[Thread]:
    """The threads of one dump; of several dumps in a row, all of them."""
    found: list[tuple[re.Match[str], list[Frame]]] = []
    for line in text.splitlines():
        if head := _THREAD.match(line):
            found.append((head, []))
        elif found and (frame := _FRAME.match(line)):
            found[-1][1].append(Frame(frame["file"], int(frame["line"]), frame["function"], ""))
    return [
        Thread(int(head["ident"], 16), head["name"] or "", head["current"] != "Thread", tuple(frames)) for head, frames in found
    ]


def fatal(text: str) -> str:
    """What native code has died of, as CPython names it ("Segmentation fault"); empty where nothing says so."""
    return next((found["what"] for line in text.splitlines() if (found := _FATAL.match(line))), "")


def crash(text: str) -> str:
    """The last part of what was written: that of the end."""
    _, fatal_, after = text.rpartition("Fatal Python error: ")
    return fatal_ + after if fatal_ else ""


def native(text: str) -> list[str]:
    """The stack of C functions, where Python has told it (since 3.14)."""
    _, _, after = text.partition("C stack trace (most recent call first):\n")
    return [line.strip() for line in after.split("\n\n", 1)[0].splitlines() if line.startswith("  ")]


def visible(frames: Sequence[Frame]) -> list[Frame]:
    """Without Python's own importing and devsup's agent, which are no part of anybody's program."""
    return [each for each in frames if not each.file.startswith("<frozen") and not is_ours(each.file)]


def is_ours(path: str) -> bool:
    """Whether a file is devsup's, in the guest."""
    return "/devsup_agent/" in path or path.endswith("/guest/sitecustomize.py")


def own_frame(frames: Sequence[Frame], is_own: Callable[[str], bool]) -> Frame | None:
    """The innermost frame of the user's own."""
    return next((each for each in frames if is_own(each.file)), None)


def doing(frames: Sequence[Frame], is_own: Callable[[str], bool], short: Callable[[str], str]) -> str:
    """'in huggingface_hub.snapshot_download, called from start.py:127', 'importing torch (main.py:3)', 'in main.py:5 (work)'."""
    shown = visible(frames)
    if not shown:
        return ""
    if any(is_ours(each.file) and each.function == "input" for each in frames):
        return f"waiting for an answer to what it asks in {short(shown[0].file)}:{shown[0].line}"
    at = next((index for index, each in enumerate(shown) if is_own(each.file)), None)
    inner = shown[: at if at is not None else len(shown)]
    if at is None:
        return f"in {_library(inner[-1] if inner[-1].function != '<module>' or len(inner) == 1 else inner[-2])}"
    own = shown[at]
    line = f"{short(own.file)}:{own.line}"
    if not inner:
        return f"in {line}{'' if own.function == '<module>' else f' ({own.function})'}"
    called = inner[-1]
    if called.function == "<module>":
        return f"importing {package(called.file)} ({line})"
    return f"in {_library(called)}, called from {line}"


def is_waiting(frames: Sequence[Frame]) -> bool:
    """Whether an event loop's thread does nothing but wait for events; uvloop does so in no frame of its own."""
    if not frames:
        return True
    file, function = frames[0].file, frames[0].function
    if function in _WAITS and "selectors" in file:
        return True
    return function in _RUNS and ("/asyncio/" in file or "/uvicorn/" in file or "/uvloop/" in file)


def blocking(
    frames: Sequence[Frame], threads: Sequence[Thread], is_own: Callable[[str], bool], short: Callable[[str], str]
) -> str:
    """What blocks the loop whose thread has these frames: that, or what another thread does; "" where nothing seems to."""
    shown = visible(frames)
    if shown and not is_waiting(frames) and is_own(shown[0].file):
        return doing(frames, is_own, short)
    other = busy_elsewhere(threads, frames, is_own)
    busy = doing(other.frames, is_own, short) if other is not None else ""
    if is_waiting(frames):
        return f"probably by another thread, {busy}" if busy else ""
    return doing(frames, is_own, short) + (f", while another thread is {busy}" if busy else "")


def busy_elsewhere(threads: Sequence[Thread], loop: Sequence[Frame], is_own: Callable[[str], bool]) -> Thread | None:
    """Another thread, in the user's own code, which may keep the loop's from running: it holds the GIL, perhaps."""
    others = (each for each in threads if each.frames != loop and visible(each.frames))
    return next((each for each in others if is_own(visible(each.frames)[0].file)), None)


def package(path: str) -> str:
    """The package that a file of a library belongs to."""
    found = _PACKAGES.findall(path)
    return found[-1] if found else path.rpartition("/")[2].removesuffix(".py")


def _library(frame: Frame) -> str:
    return f"{package(frame.file)}.{frame.function}" if frame.function != "<module>" else package(frame.file)
