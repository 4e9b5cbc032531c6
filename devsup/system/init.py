"""devsup as process 1 of a container: somebody has to reap what others leave, and that is all that this process does."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)


def stand_in() -> int | None:
    """In process 1: go on in a child (None); here, reap, and pass signals on, until its end. Returns its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # what comes now is for the child
    child = os.fork()
    if not child:
        _lead()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        return None
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _frame: _pass_on(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    while True:
        pid, status = os.waitpid(-1, os.WUNTRACED)
        if pid == child and os.WIFSTOPPED(status):  # Ctrl-Z: there is no shell that would bring it back
            _pass_on(child, signal.SIGCONT)
        elif pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _lead() -> None:
    """The terminal's keys are for this process, not for the one that reaps."""
    os.setpgid(0, 0)
    with suppress(OSError):  # there is no terminal
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, before)


def _pass_on(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)
