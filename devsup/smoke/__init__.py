"""`devsup check`: services are started, looked at, and ended, once or several times; what is found is a Report.

Little is imported here before the first process runs.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from devsup.decide.addresses import served_at
from devsup.errors import DevsupError, UsageError
from devsup.events import Diagnosis, Outcome, Round
from devsup.launch import Style, launch
from devsup.smoke.recorder import Recorder
from devsup.smoke.wishes import Names, Wishes, looked_for
from devsup.system import interpreter
from devsup.system.meeting import runtime_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devsup.launch import Options
    from devsup.smoke.reloading import ReloadTest
    from devsup.smoke.round import Smoke
    from devsup.smoke.subject import Subject

__all__ = ["Names", "Told", "Wishes", "prepared", "refused", "run_reload", "run_round"]

_FOREVER = 86400.0  # seconds
_LAUNCHER = ("python", "-m", "devsup_agent.target")  # what stands before MODULE:APP where it is run


class Told(NamedTuple):
    """Who hears what: each outcome, and each phase as it begins, with the seconds that it may take."""

    outcome: Callable[[Outcome], None]
    progress: Callable[[str, float], None]


def prepared(options: Options, port: int | None, environ: Mapping[str, str], *, alone: bool) -> Options:
    """A service as it is checked: not watched, never started again, and stopped by a signal.

    It serves at this `port` (0: any free one; None: its own, and `alone`, with nobody else who would ask it there, any where it
    names none). Raises UsageError where a port is asked for and it is not known how to say so.
    """
    probes = {name: msgspec.structs.replace(probe, on_stall="warn") for name, probe in options.service.probes.items()}
    service = msgspec.structs.replace(
        options.service, reload="off", restart="never", exit_on_failure=False, hold=_FOREVER, probes=probes
    )
    words = options.command
    launcher = _LAUNCHER if ":" in words[0] and "/" not in words[0] else ()
    may_choose = port is not None or (alone and not service.port)
    environ = {**environ, **service.env}
    found = served_at([*launcher, *words], port or 0, environ, instead=port is not None) if may_choose else None
    if found is None and port is not None:
        problem = f"It is not known how {words[0]} is told its port."
        raise UsageError(problem, "Leave --port out, and put the port into the command.")
    command = tuple(found[len(launcher) :]) if found is not None else words
    return replace(options, service=service, command=command, config=None, retries=False, stops_by_signal=True)


def run_round(services: Sequence[Options], wishes: Wishes, alone: Sequence[str], told: Told, *, shown: bool) -> Round:
    """One start of these, to their end. Raises DevsupError where nothing could be started, KeyboardInterrupt after Ctrl-C."""

    def smoke(subjects: list[Subject]) -> Smoke:
        from devsup.smoke.round import Smoke  # noqa: PLC0415 - the first process runs before

        return Smoke(subjects, wishes, told.progress)

    return _round(services, wishes, alone, told, smoke, shown=shown)


def run_reload(service: Options, wishes: Wishes, alone: Sequence[str], told: Told, *, shown: bool) -> Round:
    """The reload test of a service, in a copy of its project. Raises as `run_round`, and UsageError where it never reloads."""
    from devsup.smoke.reloading import copied  # noqa: PLC0415 - as above

    if service.service.reload == "off":
        raise UsageError(f'{service.name} has reload = "off", and --reload-test needs one.', "Choose another in devsup.toml.")
    found = interpreter.find(service.cwd, service.service.python, os.environ)
    root = service.project if service.cwd.is_relative_to(service.project) else service.cwd
    told.progress("copy", 0.0)
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        copy = copied(root, Path(folder))
        settings = msgspec.structs.replace(service.service, python=found.path, hold=_FOREVER, restart="never")
        here = replace(service, service=settings, cwd=copy / service.cwd.relative_to(root), config=None, retries=False)

        def test(subjects: list[Subject]) -> ReloadTest:
            from devsup.smoke.reloading import ReloadTest  # noqa: PLC0415 - as above

            return ReloadTest(subjects[0], wishes.timeout, told.progress)

        return _round([here], wishes, alone, told, test, shown=shown)


def _round(
    services: Sequence[Options],
    wishes: Wishes,
    alone: Sequence[str],
    told: Told,
    story: Callable[[list[Subject]], Smoke | ReloadTest],
    *,
    shown: bool,
) -> Round:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="check-", dir=runtime_folder()) as state:
        recorders = {each.name: Recorder(looked_for(each.service)) for each in services}
        ready = [replace(each, project=Path(state), ear=recorders[each.name].feed) for each in services]
        with launch(ready, Style(level="verbose" if shown else "quiet", headless=True)) as launched:
            spawned = time.monotonic()
            from devsup.run import run  # noqa: PLC0415 - as above
            from devsup.smoke.subject import Subject  # noqa: PLC0415 - as above

            subjects = [Subject(each, recorders[each.name], wishes.names, alone, told.outcome) for each in services]
            until = story(subjects)
            run(launched, spawned, until=until)
            until.conclude()
    if until.is_interrupted:
        raise KeyboardInterrupt
    phases = {"prepare": spawned - began, **until.phases}
    return Round(outcomes=[each for subject in subjects for each in subject.outcomes], phases=phases)


def refused(service: Options, exc: DevsupError, seconds: float, code: int) -> Round:
    """Nothing was started: a round of one outcome."""
    why = Diagnosis(rule="refused", cause=exc.problem, remedy=exc.remedy)
    outcome = Outcome(
        name="start", service=service.name, verdict="failed", text=exc.problem, seconds=seconds, code=code, diagnosis=why
    )
    return Round(outcomes=[outcome], phases={"prepare": seconds})
