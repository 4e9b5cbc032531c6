"""The start of the services: that each comes up, and in time; and why not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from devsup import events
from devsup.smoke.subject import standing

if TYPE_CHECKING:
    from devsup.smoke.subject import Subject
    from devsup.team import Team

DID_NOT_START, NOT_READY, PORT_TAKEN, USAGE = 3, 4, 6, 2  # exit codes


class Beginning:
    """Of all services of a team, in at most `timeout` seconds."""

    def __init__(self, team: Team, subjects: list[Subject], timeout: float) -> None:
        self._team, self._subjects, self._timeout = team, subjects, timeout

    async def is_made(self) -> bool:
        """Wait until all are ready, or it is sure that one will not be; tells of each. Whether all are."""
        members = [each.member for each in self._subjects]
        with anyio.move_on_after(self._timeout):
            await self._team.until(lambda: self._team.has_come(members, "ready"))
        outcomes = [await self._tell(each) for each in self._subjects]
        return all(outcomes)

    async def _tell(self, subject: Subject) -> bool:
        status = subject.member.status
        if status.is_up:
            return self._is_up(subject)
        if status.state == "completed":
            return self._has_completed(subject)
        if _has_ended(subject):
            self._has_failed(subject)
        elif any(map(_has_ended, self._subjects)):
            subject.skipped("start", "another one has failed")
        elif status.state == "waiting":
            subject.failed("start", f"It never started: it {status.reason}", subject.began, code=NOT_READY)
        else:
            await self._is_late(subject)
        return False

    def _is_up(self, subject: Subject) -> bool:
        ready = subject.last(events.WorkerReady)
        seconds = ready.seconds if ready is not None else 0.0
        where = " ".join(subject.member.status.urls) or "it runs, and serves no port"
        python = f", Python {ready.python}" if ready is not None and ready.python else ""
        server = "its own server" if ready is None or ready.server == "foreign" else ready.server
        subject.passed("start", "it serves", seconds=seconds)
        subject.passed("ready", f"{where} ({server}{python})")
        for name, check in subject.service.checks.items():
            if check.ready_within is not None and seconds > check.ready_within:
                subject.failed(name, f"It was ready after {seconds:.2f} s, {check.ready_within:g} s allowed", subject.began)
            elif check.ready_within is not None:
                subject.passed(name, f"ready after {seconds:.2f} s, {check.ready_within:g} s allowed")
        return True

    def _has_completed(self, subject: Subject) -> bool:
        """That is well of a job, which serves nobody; and where others wait for it."""
        waits = any(each.member.depends_on.get(subject.name) == "completed" for each in self._subjects)
        if waits or subject.member.berth.plan.is_portless:
            subject.passed("start", "it has ended with 0, as a job does")
            return True
        text = "It ended with exit code 0 before it served anybody"
        subject.failed("start", text, subject.began, code=DID_NOT_START)
        return False

    def _has_failed(self, subject: Subject) -> None:
        refused, found, failed = subject.last(events.Refused), subject.last(events.Diagnosed), subject.last(events.WorkerFailed)
        if refused is not None:
            code = PORT_TAKEN if refused.taken else USAGE if refused.code == USAGE else DID_NOT_START
            why = events.Diagnosis(rule="refused", cause=refused.problem, remedy=refused.remedy)
            subject.failed("start", refused.problem, subject.began, code=code, diagnosis=why)
            return
        diagnosis = found.diagnosis if found is not None else None
        how = f"It ended with {failed.exit.text}" if failed is not None else f"It failed: {subject.member.status.reason}"
        text = diagnosis.text if diagnosis is not None else how
        subject.failed("start", text, subject.began, code=DID_NOT_START, diagnosis=diagnosis)

    async def _is_late(self, subject: Subject) -> None:
        seconds, supervisor, reason = time.monotonic() - subject.began, subject.member.supervisor, subject.member.status.reason
        diagnosis = None
        if supervisor is not None:
            found = await supervisor.hangs.stacks(supervisor.current)
            diagnosis = standing(found, f"not ready after {seconds:.0f} s")
        subject.passed("start", "its process runs", subject.began)
        text = f"It was not ready after {seconds:.1f} s{f': {reason}' if reason else ''}"
        if diagnosis is not None and diagnosis.place is not None:
            text += f"; it stands in {diagnosis.place.file.rpartition('/')[2]}:{diagnosis.place.line}"
        subject.failed("ready", text, subject.began, code=NOT_READY, diagnosis=diagnosis)


def _has_ended(subject: Subject) -> bool:
    return subject.member.status.state != "completed" and (subject.member.is_over or subject.member.status.state == "failed")
