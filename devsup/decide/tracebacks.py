"""What Python printed of its exceptions, read back: the last report in a program's output, with all that led to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD = "Traceback (most recent call last):"
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_FRAME = re.compile(r'\s*File "(?P<file>.+?)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_RAISED = re.compile(r"(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$")
_BOX = re.compile(r"[╭┌+][─-]+ Traceback \(most recent call last\) [─-]+[╮┐+]$")  # drawn by rich
_BOXED_FRAME = re.compile(r"(?P<file>\S.*?):(?P<line>\d+) in (?P<function>.+)$")
_BOXED_SOURCE = re.compile(r"[❱>]\s+\d+ (?P<source>.*)$")
_COMPLAINT = re.compile(r"(?:^|[\s\[|])(?:ERROR|CRITICAL|FATAL)(?:[\s\]|:]|$)|[Aa]ddress already in use")
_LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}  # a line of a log, in between
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_GROUP = re.compile(r"(\s*)\+ Exception Group ")
_MARGIN = re.compile(r"[\s|+]*")
_MESSAGE_LINES = 30
_LONGEST = 2000  # characters of a line


class Frame(NamedTuple):
    """One line of a traceback; `function` is empty for the place of a syntax error."""

    file: str
    line: int
    function: str
    source: str


class Raised(NamedTuple):
    """An exception: its type as printed, its message, and the frames from the outermost in."""

    type: str
    message: str
    frames: tuple[Frame, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its type without the module."""
        return self.type.rpartition(".")[2]


def complaints(output: Sequence[str], most: int = 3) -> list[str]:
    """The last lines that a log marks as errors, and the exception of the last report: what is worth a look, though it runs."""
    lines = [_COLOUR.sub("", line[:_LONGEST]).strip() for line in output]
    found = [line for line in lines if _COMPLAINT.search(line) and not line.endswith(_HEAD)]
    found += [f"{raised.name}: {raised.message}".partition("\n")[0] for raised in last(output)[-1:]]
    return list(dict.fromkeys(found))[-most:]


def last(output: Sequence[str]) -> tuple[Raised, ...]:
    """The exceptions of the last report in these lines, the first that was raised first; empty where there is none."""
    lines = [_COLOUR.sub("", line[:_LONGEST]).rstrip() for line in output]
    chain: list[Raised] = []
    linked, at = False, 0
    while at < len(lines):
        boxed = _BOX.search(lines[at])
        if boxed is not None or lines[at].endswith(_HEAD):
            raised, at = _read_box(lines, at + 1) if boxed else _read(lines, at + 1, lines[at][: -len(_HEAD)])
            if raised is not None:
                chain = [*chain, raised] if linked else [raised]
            linked = False
            continue
        alone = _FRAME.match(lines[at])
        if alone is not None and alone["function"] is None:  # a script that does not compile has no traceback
            raised, at = _read(lines, at, "")
            chain = [raised] if raised is not None else chain
            continue
        text = lines[at].strip(" |")
        linked = linked or text in _CHAINED or " ".join((text, *lines[at + 1 : at + 2])) in _CHAINED  # wrapped
        at += 1
    return tuple(chain)


def _read(lines: Sequence[str], at: int, prefix: str) -> tuple[Raised | None, int]:
    """The exception whose frames begin here, and where its report ends; `prefix` stood before its head."""
    group = _GROUP.fullmatch(prefix)
    margin = f"{group[1]}| " if group is not None else prefix if _MARGIN.fullmatch(prefix) else ""
    frames: list[Frame] = []
    while at < len(lines):
        line = lines[at].removeprefix(margin)
        frame = _FRAME.match(line)
        if frame is not None:
            following = lines[at + 1].removeprefix(margin) if at + 1 < len(lines) else ""
            source = following.strip() if following.startswith("    ") and not _FRAME.match(following) else ""
            frames.append(Frame(frame["file"], int(frame["line"]), frame["function"] or "", source))
        elif line and not line.startswith(" "):
            raised = _RAISED.match(line)
            if raised is None:
                return None, at
            if raised["type"] in _LEVELS:
                at += 1
                continue
            message, end = _message(lines, at, raised["message"] or "", margin)
            return Raised(raised["type"], message, tuple(frames)), end
        at += 1
    return None, at


def _read_box(lines: Sequence[str], at: int) -> tuple[Raised | None, int]:
    """As `_read`, of a traceback that is drawn into a box; a long path goes on in the next line."""
    frames: list[Frame] = []
    path = ""
    while at < len(lines) and not lines[at].startswith(("╰", "└", "+-")):
        text = lines[at].strip("│| ")
        if frame := _BOXED_FRAME.match(f"{path}{' ' if path.endswith(' in') else ''}{text}"):
            frames.append(Frame(frame["file"], int(frame["line"]), frame["function"], ""))
        elif frames and (source := _BOXED_SOURCE.match(text)):
            frames[-1] = frames[-1]._replace(source=re.sub(r"^[│| ]+", "", source["source"]).strip())
        path = text if text.startswith("/") and not frame else ""
        at += 1
    raised = _RAISED.match(lines[at + 1]) if at + 1 < len(lines) else None
    if raised is None:
        return None, at + 1
    message, end = _message(lines, at + 1, raised["message"] or "", "")
    return Raised(raised["type"], message, tuple(frames)), end


def _message(lines: Sequence[str], at: int, first: str, margin: str) -> tuple[str, int]:
    """A message may go on over several lines: to the next report, or the first that looks like a log's."""
    found = [first]
    for end in range(at + 1, min(len(lines), at + _MESSAGE_LINES)):
        line = lines[end].removeprefix(margin)
        if not line or line in _CHAINED or line.endswith(_HEAD) or re.match(r"[A-Z]{4,8}[: ]|\[|\d{4}-\d\d", line):
            break
        found.append(line)
    return "\n".join(found).strip(), at + 1
