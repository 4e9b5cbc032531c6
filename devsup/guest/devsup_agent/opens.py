"""What the program opens for its user, a browser or an editor, is the user's: it outlives the worker, and opens once.

From the second worker on `webbrowser.open` opens nothing: each save would open the same page again.
"""

import functools
import os
import threading

_OPENERS = {"xdg-open", "gio", "open", "sensible-browser", "x-www-browser", "www-browser", "wslview"}
_opening = threading.local()


def patch(module):
    """`module` is webbrowser or subprocess."""
    if module.__name__ == "webbrowser":
        module.open = _once(module.open)
    else:
        module.Popen.__init__ = _apart(module.Popen.__init__)


def _once(opens):
    @functools.wraps(opens)
    def ours(url, *args, **kwargs):
        if _is_again():
            _tell(url)
            return True
        _opening.now = True
        try:
            return opens(url, *args, **kwargs)
        finally:
            _opening.now = False

    return ours


def _is_again():
    """Whether another worker has run before this one."""
    number = os.environ.get("DEVSUP_TOKEN", "").rpartition("-")[2]
    return number.isdigit() and int(number) > 1


def _tell(url):
    try:
        from devsup_agent.agent import agent

        if agent.connect():
            agent.send("browser", url=str(url))
    except Exception:
        return


def _apart(start):
    @functools.wraps(start)
    def ours(self, args, *more, **options):
        return start(self, args, *more, **(options if more else _marked(args, options)))

    return ours


def _marked(args, options):
    """The caller's options, for what is opened with a session of its own and without what makes it part of the worker."""
    try:
        if not (getattr(_opening, "now", False) or _opens(args)):
            return options
        more = {"env": _environment(options.get("env"))}
        if not any(options.get(name) is not None for name in ("preexec_fn", "process_group")):
            more["start_new_session"] = True
        return {**options, **more}
    except Exception:
        return options


def _opens(args):
    first = args.split()[0] if isinstance(args, str) else args[0]
    return os.path.basename(os.fsdecode(first)) in _OPENERS


def _environment(given):
    text = {os.fsdecode(key): os.fsdecode(value) for key, value in (os.environ if given is None else given).items()}
    env = {key: value for key, value in text.items() if not key.startswith("DEVSUP_")}
    paths = [entry for entry in env.pop("PYTHONPATH", "").split(os.pathsep) if entry and not entry.endswith("devsup/guest")]
    if paths:
        env["PYTHONPATH"] = os.pathsep.join(paths)
    env["DEVSUP_SPARED"] = "1"
    return env
