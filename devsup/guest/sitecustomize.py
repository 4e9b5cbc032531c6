"""What Python imports at start in every process of a worker: leaves no trace but the import hooks, and never raises."""

import sys


def _hand_over() -> None:
    """Take this folder off the path, install the hooks, then run the sitecustomize that this file shadows."""
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    import devsup_agent

    if os.environ.get("DEVSUP_LINK"):
        devsup_agent.install()
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here or entry == ""]
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("sitecustomize")
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec

        shadowed = sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(shadowed)
    if os.environ.get("DEVSUP_LINK") and devsup_agent.is_fork_server():
        from devsup_agent import forkserver

        forkserver.serve()  # returns in a worker


try:
    _hand_over()
except Exception as exc:
    sys.stderr.write(f"devsup: sitecustomize failed, the program runs without it: {exc!r}\n")
