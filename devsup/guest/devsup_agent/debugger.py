"""debugpy under the agent: it tells when a client attaches and goes; no clock runs while somebody looks at the program."""

import functools

from devsup_agent import guard
from devsup_agent.agent import agent


def patch(module):
    """Plant the hooks; `module` is pydevd, which debugpy carries with it."""
    debugger = module.PyDB
    for name, attached in (("on_configuration_done", True), ("on_initialize", False), ("on_disconnect", False)):
        setattr(debugger, name, _telling(getattr(debugger, name), attached))


def _telling(real, attached):
    @functools.wraps(real)
    def told(self):
        with guard("a hook of debugpy"):
            agent.debugging(attached)
        return real(self)

    return told
