"""What is judged once the questions are over: that a service stayed up, how it ended, and what it has left."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from devsup import events
from devsup.decide.fields import cut
from devsup.decide.growth import leak
from devsup.smoke import listeners
from devsup.smoke.subject import standing, uncaught

if TYPE_CHECKING:
    from devsup.decide.growth import Sample
    from devsup.smoke.subject import Subject

DID_NOT_STAY_UP = 5  # exit code
_LINE = 120  # characters
_TOLD = 0.5  # seconds between what is printed of an exception, and the word of it


def held(subject: Subject, began: float) -> None:
    """It has served all the time."""
    if subject.has_failed:
        return
    if not (subject.member.is_down or subject.member.is_over):
        subject.passed("hold", "it stayed up", began)
        return
    ended, found = subject.last(events.WorkerExited), subject.last(events.Diagnosed)
    served = f" after {ended.served:.1f} s of service" if ended is not None and ended.served is not None else ""
    how = f" with {ended.exit.text}" if ended is not None else ""
    diagnosis = found.diagnosis if found is not None else None
    text = f"It ended{how}{served}{f': {diagnosis.text}' if diagnosis is not None else ''}"
    subject.failed("hold", text, began, code=DID_NOT_STAY_UP, diagnosis=diagnosis)


def unwell(subject: Subject, problem: str, began: float) -> None:
    """It is there, and does not do any more what it has done."""
    passed = time.monotonic() - began
    text = f"It did not stay well: {problem}, {passed:.1f} s after it was ready"
    subject.failed("hold", text, began, code=DID_NOT_STAY_UP)


def judge_memory(subject: Subject, samples: list[Sample]) -> None:
    """It is stable, and no more than the config allows."""
    most = max((size for _, size in samples), default=0)
    own = {name: check.max_memory for name, check in subject.service.checks.items() if check.max_memory is not None}
    for name, limit in own.items():
        text = f"{_mib(most)} at the most, {_mib(limit)} allowed"
        (subject.passed if most <= limit else subject.failed)(name, text)
    if "memory" in own or not samples or not subject.wants("memory"):
        return
    rate = leak(samples)
    if rate is None:
        subject.passed("memory", f"{_mib(most)} at the most")
    else:
        passed = samples[-1][0] - samples[0][0]
        text = f"It grew from {_mib(samples[0][1])} to {_mib(samples[-1][1])} in {passed:.1f} s, and goes on: {_mib(rate)}/s"
        subject.failed("memory", text, samples[0][0])


def stopped(subject: Subject, began: float) -> None:
    """It ended by itself, soon after it was asked to, and well. A server may end of the very signal, once it has cleaned up."""
    plan, ended, killed = subject.member.berth.plan, subject.last(events.WorkerExited), subject.last(events.NotStopping)
    name, seconds = signal.Signals(plan.stop_signal).name, time.monotonic() - began
    if ended is None or subject.has_failed:
        return
    if killed is not None or (ended.exit.signal == signal.SIGKILL and plan.stop_signal != signal.SIGKILL):
        text = f"It did not end within {plan.limits.stop_timeout:g} s of {name}, and was killed"
        diagnosis = standing(killed.stacks, "it did not end") if killed is not None else None
        subject.failed("stop", text, began, diagnosis=diagnosis)
    elif ended.exit.code in {0, 128 + plan.stop_signal} or ended.exit.signal == plan.stop_signal:
        subject.passed("stop", f"{ended.exit.text}, {seconds:.2f} s after {name}")
    else:
        subject.failed("stop", f"It ended with {ended.exit.text} after {name}; 0 expected", began)


def left(subject: Subject, names: dict[int, str]) -> None:
    """Nothing of it ran on after its end."""
    over = subject.last(events.Stopped)
    if over is not None and over.left:
        found = ", ".join(f"{names.get(pid, 'a process')} (pid {pid})" for pid in over.left)
        text = f"It left {'a process' if len(over.left) == 1 else f'{len(over.left)} processes'} behind, ended by devsup: {found}"
        subject.failed("leftovers", text)
    elif subject.last(events.WorkerExited) is not None:
        subject.passed("leftovers", "no process was left")


def freed(subjects: list[Subject], before: dict[int, int]) -> None:
    """Nobody holds the ports of the services any more; told as of the service that had it."""
    for subject in subjects:
        ports = subject.ports & set(before.values())
        mine = {inode: port for inode, port in before.items() if port in ports}
        found = listeners.still_held(mine)
        if found:
            subject.failed("port", found, lines=[])
        elif ports:
            subject.passed("port", f"{', '.join(map(str, sorted(ports)))} free again")


def printed(subject: Subject) -> None:
    """What must not be printed was not: errors, unless they belong to a request that has failed, or what the config names."""
    if subject.has_failed:
        return
    checks = subject.service.checks
    for name in ["log"] * ("log" not in checks) + [name for name, check in checks.items() if check.never]:
        found = [
            (at, line)
            for at, line in subject.recorder.found(name)
            if name != "log" or not any(began <= at <= ended for began, ended in subject.spells)
        ]
        if found and subject.wants(name):
            at, line = found[0]
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            lines, why = subject.recorder.lines(at, at + 0.5), uncaught(subject.near(events.Unhandled, at, _TOLD))
            subject.failed(name, f"It has printed {cut(line.strip(), _LINE)!r}{more}", lines=lines, diagnosis=why)
        else:
            subject.passed(name, "no error was printed" if name == "log" else "nothing of it was printed")


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"
