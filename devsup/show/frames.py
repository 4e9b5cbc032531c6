"""How frames are shown: the user's own each by itself, those of libraries folded."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devsup.events import Place

_PACKAGE = re.compile(r"(?:site-packages|dist-packages|lib/python[\d.]+)/([\w.]+?)(?:/|\.py$)")


def folded(frames: Sequence[Place]) -> Iterator[tuple[bool, list[Place]]]:
    """(whether they are the user's own, neighbours): one of the user's at a time."""
    for own, group in itertools.groupby(frames, key=lambda each: each.own):
        if own:
            yield from ((True, [each]) for each in group)
        else:
            yield False, list(group)


def summary(frames: Sequence[Place]) -> str:
    """Frames of libraries in a line: "3 frames in starlette, anyio"."""
    names = dict.fromkeys(_package(each.file) for each in frames)
    return f"{len(frames)} frame{'s' if len(frames) > 1 else ''} in {', '.join(names)}"


def _package(path: str) -> str:
    found = _PACKAGE.findall(path)
    return found[-1] if found else path.rpartition("/")[2]
