"""werkzeug and flask: their reloader off, and where they are going to listen. They serve by `socketserver`."""

import functools
import sys

from devsup_agent.agent import agent


def patch(module):
    """Plant the hooks; `module` is werkzeug.serving or flask.cli."""
    agent.connect()
    {"werkzeug.serving": _patch_run_simple, "flask.cli": _patch_flask}[module.__name__](module)


def _patch_run_simple(module):
    run_simple = module.run_simple

    def is_running_from_reloader():
        # For the app we are the reloader's child; werkzeug and flask themselves would then expect a socket by number.
        return sys._getframe(1).f_globals.get("__name__") not in ("werkzeug.serving", "flask.cli")

    @functools.wraps(run_simple)
    def run(hostname, port, application, use_reloader=False, *args, **kwargs):
        if use_reloader:
            extra = [str(path) for path in kwargs.get("extra_files") or ()]
            agent.reloader_off("werkzeug", includes=extra, excludes=list(kwargs.get("exclude_patterns") or ()))
        return run_simple(hostname, port, application, False, *args, **kwargs)

    module.is_running_from_reloader, module.run_simple = is_running_from_reloader, run


def _patch_flask(module):
    callback = module.run_command.callback

    @functools.wraps(callback)
    def run(*args, **kwargs):
        agent.send("intends", host=kwargs.get("host") or "", port=kwargs.get("port") or 0)
        return callback(*args, **kwargs)

    module.run_command.callback = run
