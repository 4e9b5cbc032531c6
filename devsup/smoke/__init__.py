"""`devsup check`: services are started, looked at, and ended, once or several times; what is found is a Report.

Little is imported here before the first process runs.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from devsup.decide.addresses import LAUNCHER, served_at
from devsup.errors import DevsupError, UsageError
from devsup.events import Diagnosis, Outcome, Round
from devsup.launch import Style, child_environment, launch
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

__all__ = ["Names", "Told", "Wishes", "prepared", "refused", "run_reload", "run_round", "to_be_reloaded"]

_FOREVER = 86400.0  # seconds
_PREFIX = f"devsup-check-{os.getpid()}-"  # of temporary folders; the doctor looks for those of checks that were killed


class Told(NamedTuple):
    """Who hears what: each outcome, and each phase as it begins, with the seconds that it may take."""

    outcome: Callable[[Outcome], None]
    progress: Callable[[str, float], None]


def prepared(services: Sequence[Options], port: int | None, environ: Mapping[str, str]) -> list[Options]:
    """Services as they are checked: not watched, never started again, and stopped by a signal.

    They serve at their own ports. One that is alone, so that nobody asks for it there, serves at any free one where it names
    none, and at `port` where that is given. 0 is any free one, of all whose servers are known. UsageError is raised for a single
    one that is not, and for another port of several.
    """
    alone = len(services) == 1
    if port and not alone:
        names = ", ".join(each.name for each in services)
        raise UsageError(f"--port {port} is of one service, and these are {names}.", "Use --port 0, or check one of them.")
    return [_prepared(each, port, environ, alone=alone) for each in services]


def _prepared(options: Options, port: int | None, environ: Mapping[str, str], *, alone: bool) -> Options:
    probes = {name: msgspec.structs.replace(probe, on_stall="warn") for name, probe in options.service.probes.items()}
    service = msgspec.structs.replace(
        options.service, reload="off", restart="never", exit_on_failure=False, hold=_FOREVER, probes=probes
    )
    command = _placed(options, port, environ) if port is not None or (alone and not service.port) else None
    if command is None and port is not None and alone:
        problem = f"It is not known how {shlex.join(options.command[:3])} is told its port."
        raise UsageError(problem, "Leave --port out, and put the port into the command.")
    if command is not None and port is not None:
        service = msgspec.structs.replace(service, port=(port,) if port else ())
    return replace(options, service=service, command=command or options.command, config=None, retries=False, stops_by_signal=True)


def _placed(options: Options, port: int | None, environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """The command at this port, or at any; None where it is not known how that is said, or it says another itself."""
    words, service = options.command, options.service
    launcher = LAUNCHER if ":" in words[0] and "/" not in words[0] else ()
    files = [path for name in (".env", ".flaskenv") if (path := options.cwd / name).is_file()]
    with suppress(DevsupError):  # one that cannot be read: the start will tell
        environ = child_environment(
            environ, [*map(str, files), *(str(options.cwd / each) for each in service.env_files)], service.env
        )
    present = {path.name for path in options.cwd.iterdir()}
    found = served_at([*launcher, *words], port or 0, environ, present, instead=port is not None)
    return tuple(found[len(launcher) :]) if found is not None else None


def to_be_reloaded(services: Sequence[Options], environ: Mapping[str, str]) -> Options:
    """The one of which the reload test saves a file. Raises UsageError where there is none such."""
    from devsup.smoke.copying import main_file  # noqa: PLC0415 - only for this

    if len(services) > 1:
        names = ", ".join(each.name for each in services)
        raise UsageError(f"--reload-test is of one service, and these are {names}.", "Check one that waits for no other.")
    service = services[0]
    if service.service.reload == "off":
        raise UsageError(f'{service.name} has reload = "off", and --reload-test needs one.', "Choose another in devsup.toml.")
    main_file(service.command, service.cwd, service.cwd)
    return replace(service, command=_placed(service, None, environ) or service.command)


def run_round(services: Sequence[Options], wishes: Wishes, alone: Sequence[str], told: Told, *, shown: bool) -> Round:
    """One start of these, to their end. Raises DevsupError where nothing could be started, KeyboardInterrupt after Ctrl-C."""

    def smoke(subjects: list[Subject], signals: list[int]) -> Smoke:
        from devsup.smoke.round import Smoke  # noqa: PLC0415 - the first process runs before

        return Smoke(subjects, wishes, told.progress, signals)

    return _round(services, wishes, alone, told, smoke, shown=shown)


def run_reload(service: Options, wishes: Wishes, alone: Sequence[str], told: Told, *, shown: bool) -> Round:
    """The reload test of a service, in a copy of its project. Raises as `run_round`."""
    from devsup.smoke.copying import copied, main_file, moved  # noqa: PLC0415 - only for this

    found = interpreter.find(service.cwd, service.service.python, os.environ)
    root = service.project if service.cwd.is_relative_to(service.project) else service.cwd
    told.progress("copy", 0.0)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        copy = copied(root, Path(folder))
        cwd, command = copy / service.cwd.relative_to(root), moved(service.command, root, copy)
        path, marker = main_file(command, cwd, copy), f"devsup reload test {os.urandom(4).hex()}"
        settings = msgspec.structs.replace(service.service, python=found.path, hold=_FOREVER, restart="never")
        here = replace(service, service=settings, command=command, cwd=cwd, config=None, retries=False)

        def test(subjects: list[Subject], _signals: list[int]) -> ReloadTest:
            from devsup.smoke.reloading import ReloadTest  # noqa: PLC0415 - the first process runs before

            return ReloadTest(subjects[0], path, marker, wishes.timeout, told.progress)

        return _round([here], wishes, alone, told, test, shown=shown, find=[(marker, marker)])


def _round(
    services: Sequence[Options],
    wishes: Wishes,
    alone: Sequence[str],
    told: Told,
    story: Callable[[list[Subject], list[int]], Smoke | ReloadTest],
    *,
    shown: bool,
    find: Sequence[tuple[str, str]] = (),
) -> Round:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=runtime_folder()) as state:
        recorders = {each.name: Recorder([*looked_for(each.service), *find]) for each in services}
        ready = [replace(each, project=Path(state), ear=recorders[each.name].feed) for each in services]
        with launch(ready, Style(level="verbose" if shown else "quiet", headless=True)) as launched:
            spawned = time.monotonic()
            from devsup.run import run  # noqa: PLC0415 - as above
            from devsup.smoke.subject import Subject  # noqa: PLC0415 - as above

            subjects = [Subject(each, recorders[each.name], wishes.names, alone, told.outcome) for each in services]
            until = story(subjects, launched.signals)
            run(launched, spawned, until=until)
            until.conclude()
    if launched.signals:
        raise KeyboardInterrupt
    phases = {"prepare": spawned - began, **until.phases}
    return Round(outcomes=[each for subject in subjects for each in subject.outcomes], phases=phases)


def refused(service: Options, exc: DevsupError, code: int, name: str) -> Round:
    """It could not be begun: a round of one outcome."""
    why = Diagnosis(rule="refused", cause=exc.problem, remedy=exc.remedy)
    outcome = Outcome(name=name, service=service.name, verdict="failed", text=exc.problem, code=code, diagnosis=why)
    return Round(outcomes=[outcome], phases={})
