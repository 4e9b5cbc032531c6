"""Why a program has ended, and what to do about it: pure, a tuple of rules in order, the first that answers wins.

A rule that is not sure says so. What the program printed stays where it is: a diagnosis stands beside it, never in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from devsup.decide import stacks
from devsup.decide.rules import around, code, ends
from devsup.decide.rules.case import Case, Evidence, as_place, one_line, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from devsup.decide.tracebacks import Frame
    from devsup.events import Diagnosis, Place

__all__ = ["RULES", "Case", "Evidence", "diagnose"]

RULES: tuple[Callable[[Case], Diagnosis | None], ...] = (
    ends.signalled,
    code.syntax,
    code.module_shadowed,
    code.circular,
    code.relative_import,
    code.module_not_found,
    code.target_module,
    code.target_attribute,
    code.flask_app,
    code.import_name,
    around.cuda,
    around.shared_library,
    around.binary_mismatch,
    around.setting,
    around.refused,
    around.running_loop,
    around.operating_system,
    around.question,
    code.factory,
    ends.memory,
    ends.exception,
    ends.usage,
    ends.exited,
)

_FRAMES = 40


def diagnose(evidence: Evidence) -> Diagnosis:
    """The cause as far as it can be told, the place, the frames that led there, what speaks for it, and the remedy."""
    case = read(evidence)
    found = next(found for rule in RULES if (found := rule(case)) is not None)
    return msgspec.structs.replace(
        found,
        cause=one_line(found.cause),
        remedy=one_line(found.remedy),
        frames=_frames(case),
        evidence=[one_line(each) for each in _evidence(case)],
    )


def _frames(case: Case) -> list[Place]:
    """Of the exception that the place belongs to, or of the crash, the outermost first."""
    candidates: list[list[Frame]] = [list(reversed(stacks.visible(case.crashed)))]
    candidates += [stacks.visible(raised.frames) for raised in reversed(case.chain)]
    own = (each for each in candidates if any(case.project.is_own(frame.file) for frame in each))
    found = next(own, None) or next(filter(None, candidates), [])
    kept = found if len(found) <= _FRAMES else [*found[: _FRAMES // 2], *found[-_FRAMES // 2 :]]
    return [as_place(each, own=case.project.is_own(each.file)) for each in kept]


def _evidence(case: Case) -> list[str]:
    """What the diagnosis stands on, a fact a line."""
    evidence = case.evidence
    facts = [f"{evidence.exit.text}{f', {evidence.phase}' if evidence.phase else ''}"]
    facts += [f"before it: {raised.name}: {raised.message}" for raised in case.chain[:-1]]
    if case.raised is not None:
        facts.append(f"{case.raised.name}: {case.raised.message}" if case.raised.message else case.raised.name)
        facts += [f"note: {note}" for note in case.raised.notes]
    if case.has_crashed and stacks.fatal(evidence.native):
        facts.append(f"native code: {stacks.fatal(evidence.native)}")
        facts += [f"native stack: {each}" for each in stacks.native(evidence.native)[:_FRAMES]]
    if evidence.changed:
        facts.append(f"changed in this reload: {', '.join(evidence.changed[:5])}")
    if evidence.peak and evidence.exit.signal is not None:
        facts.append(f"peak memory: {evidence.peak / 2**20:.0f} MiB")
    if any(evidence.oom_kills):
        own, machine = evidence.oom_kills
        facts.append(f"meanwhile the kernel killed for want of memory: {own} in this cgroup, {machine} on this machine")
    facts.append(f"interpreter: {evidence.interpreter}")
    return facts
