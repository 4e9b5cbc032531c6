"""The end itself: signals, exit codes, and exceptions of which no other rule knows."""

from __future__ import annotations

import re

import msgspec

from devsup.decide import stacks
from devsup.decide.rules.case import NATIVE, Case
from devsup.events import Diagnosis, Exit

_KILL = 9
_SHELL = {130, 132, 134, 135, 136, 137, 139, 143}  # as a shell tells of signals
_LAST_WORDS = re.compile(r"terminate called|Assertion|abort|CUDA|free\(\)|Fatal Python error")
_CODES = {  # what servers mean by an exit code: (a word of the output, code)
    ("uvicorn", 3): "uvicorn: the app did not start",
    ("gunicorn", 3): "gunicorn: a worker did not start",
    ("gunicorn", 4): "gunicorn: the app could not be loaded",
    ("werkzeug", 3): "werkzeug: its reloader wants to start it again",
}


def signalled(case: Case) -> Diagnosis | None:
    """It was ended from outside, or by its own native code."""
    ended = case.evidence.exit
    number = ended.signal
    if number is None and ended.code in _SHELL and case.raised is None:
        number = ended.code - 128
        found = _signalled(case, number)
        return msgspec.structs.replace(found, sure=False)
    return _signalled(case, number) if number is not None else None


def _signalled(case: Case, number: int) -> Diagnosis:
    if number in NATIVE:
        return _native(case, NATIVE[number])
    if number == _KILL:
        return _killed(case)
    cause = f"Somebody ended it with {Exit(signal=number).text}{case.healthy()}"
    return Diagnosis(rule="signal", cause=cause, remedy="")


def _native(case: Case, name: str) -> Diagnosis:
    said = (line for line in reversed(case.evidence.output) if _LAST_WORDS.search(line))
    what = stacks.fatal(case.evidence.native) or next(said, "")
    doing = stacks.doing(case.crashed, case.project.is_own, case.project.short)
    cause = f"It crashed in native code ({name}{f': {what}' if what else ''}){f' {doing}' if doing else ''}{case.healthy()}"
    cuda = re.search(r"CUDA\D{0,40}\b35\b|driver version is insufficient", case.text[-20_000:])
    remedy = "Compare driver and runtime: nvidia-smi" if cuda else "Update the library that crashed, or report it to its makers."
    return Diagnosis(rule="native-crash", cause=cause, remedy=remedy, place=case.place)


def _killed(case: Case) -> Diagnosis:
    own, machine = case.evidence.oom_kills
    peak = f", with {case.evidence.peak / 2**20:.0f} MiB" if case.evidence.peak else ""
    if own or machine:  # whose they were, the counters do not tell
        cause = f"The kernel killed it for want of memory{peak}{case.healthy()}"
        return Diagnosis(rule="out-of-memory", cause=cause, sure=False, remedy="See the kernel's log: dmesg | tail")
    cause = f"Somebody killed it (SIGKILL){peak}{case.healthy()}; the kernel has counted none for want of memory"
    return Diagnosis(rule="killed", cause=cause, sure=False, remedy="See the kernel's log: dmesg | tail")


def memory(case: Case) -> Diagnosis | None:
    """It asked for more memory than there is."""
    if case.raised is None or not re.fullmatch(r"(_Array)?MemoryError|OutOfMemoryError", case.raised.name):
        return None
    cause = f"It asked for more memory than there is{case.where()}: {case.raised.message or case.raised.name}"
    return Diagnosis(rule="out-of-memory", cause=cause, remedy="See what is free: free -m", place=case.place)


def exception(case: Case) -> Diagnosis | None:
    """Any other exception: what it says, and the deepest line of the user's own."""
    raised = case.raised
    if raised is None:
        return None
    lifespan = "Application startup failed" in case.text
    first = raised.message.partition("\n")[0]
    what = f"{raised.name}: {first}" if first else raised.name
    # What was printed while it served need not be what it has ended of.
    guess = case.evidence.guess or (not case.evidence.exceptions and case.evidence.served is not None)
    return Diagnosis(
        rule="lifespan" if lifespan else "exception",
        cause=f"{'Its start-up failed: ' if lifespan else ''}{what}{case.where()}",
        sure=lifespan or not guess,
        remedy="",
        place=case.place,
    )


def usage(case: Case) -> Diagnosis | None:
    """The command line is not what the program takes."""
    if case.evidence.exit.code != 2 or not re.search(r"^usage:", case.text, re.IGNORECASE | re.MULTILINE):
        return None
    said = re.findall(r"(?:^|: )(?:error|Error): (.+)$", case.text, re.MULTILINE)
    if not said:
        return None
    remedy = next(iter(re.findall(r"Try '(.+)' for help", case.text)), "")
    return Diagnosis(rule="usage", cause=f"The program does not take this command line: {said[-1]}", remedy=remedy)


def exited(case: Case) -> Diagnosis:
    """No exception is known of: the exit code, and the last words."""
    code, evidence = case.evidence.exit.code, case.evidence
    said = next((line.strip() for line in reversed(evidence.output) if line.strip()), "")
    if code == 0:
        never = f" before it listened on {evidence.intended}" if evidence.intended and not evidence.listened else ""
        cause = f"It ended by itself{never}{case.healthy()}, and says that all is well (exit code 0)"
        return Diagnosis(rule="clean-exit", cause=cause, remedy="")
    meant = next((text for (word, number), text in _CODES.items() if number == code and word in case.text.lower()), "")
    cause = f"It ended with exit code {code}{f' ({meant})' if meant else ''}{case.healthy()}{f': {said}' if said else ''}"
    return Diagnosis(rule="exit-code", cause=cause, remedy="")
