"""What is gathered once a worker has ended as nobody meant it to, so that the rules can say why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from devsup.decide.rules import Evidence, diagnose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devsup.current import Current
    from devsup.events import Diagnosis, Exit
    from devsup.launch import Plan

_LEFT_OUT = frozenset({"node_modules", "site-packages", "__pycache__", "venv", "env", "build", "dist"})
_DEEPEST = 3
_MOST = 2000  # files


def explain(plan: Plan, current: Current, ended: Exit, served: float | None, output: str) -> Diagnosis | None:
    """The diagnosis of an end, None where the program was done; `served` is in seconds, None where it never did."""
    if served is None and ended.code == 0 and not current.listened:
        return None
    folder = os.path.realpath(plan.cwd)
    evidence = Evidence(
        exit=ended,
        output=output.splitlines(),
        folder=folder,
        interpreter=plan.interpreter,
        files=frozenset(_files(folder)),
        served=served,
        listened=current.listened,
    )
    return diagnose(evidence)


def in_words(current: Current, ended: Exit, why: Diagnosis | None, output: str) -> str:
    """All that is known of an end, for who asks while nothing serves."""
    how = f"The worker (generation {current.generation}) ended: {ended.text}."
    return "\n\n".join(filter(None, (how, why.advice if why is not None else "", output)))


def _files(folder: str) -> Iterator[str]:
    """The project's Python files, near the top, relative to it."""
    count = 0
    for path, folders, files in os.walk(folder):
        inside = os.path.relpath(path, folder)
        depth = 0 if inside == "." else inside.count(os.sep) + 1
        folders[:] = [name for name in folders if depth < _DEEPEST and name not in _LEFT_OUT and not name.startswith(".")]
        for name in files:
            if name.endswith(".py"):
                yield os.path.normpath(os.path.join(inside, name))  # noqa: PTH118 - thousands, in the loop's time
                count += 1
        if count > _MOST:
            return
