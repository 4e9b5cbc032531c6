"""Imports a module and looks for its app, as a server would; then ends at once, whatever it has started."""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import inspect
import json
import os
import sys
import time
import traceback
from typing import Any


def is_there(module: str) -> bool:
    """Whether there is such a module; the packages that it is in are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{module}.".startswith(f"{exc.name}."):
            return False
        raise
    except ValueError:
        return False


def looked_up(module: str, attribute: str) -> dict[str, Any]:
    """What came of it."""
    if not is_there(module):
        return {"outcome": "no module"}
    found = importlib.import_module(module)
    names = [name for name in attribute.replace("()", "").split(".") if name]
    apps = _apps(found)
    for name in names:
        if not hasattr(found, name):
            return {"outcome": "no attribute", "name": name, "apps": apps}
        found = getattr(found, name)
    if names and not callable(found):
        return {"outcome": "no app", "kind": type(found).__name__, "apps": apps}
    server = _server(found)
    return {"outcome": "found", "kind": type(found).__name__, "server": "" if importlib.util.find_spec(server) else server}


def _apps(module: object) -> list[str]:
    """The names of what looks like an app."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and not isinstance(value, type) and (hasattr(value, "routes") or hasattr(value, "wsgi_app"))
    ]


def _server(app: Any) -> str:
    """What `devsup run` would start on it; as in `devsup_agent.target`."""
    flask = sys.modules.get("flask")
    if flask is not None and isinstance(app, flask.Flask):
        return "flask"
    if inspect.isclass(app) or inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__):
        return "uvicorn"
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return "uvicorn"
    required = [each for each in parameters if each.default is each.empty and each.kind <= each.POSITIONAL_OR_KEYWORD]
    return "werkzeug" if len(required) == 2 else "uvicorn"


def main(told: str, module: str, attribute: str, seconds: str, *folders: str) -> None:
    """One line on the descriptor; the traceback, where there is one, on the standard error."""
    faulthandler.enable(2)
    faulthandler.dump_traceback_later(float(seconds), exit=True, file=2)
    sys.argv[1:] = []
    sys.path[:] = [*folders, *(each for each in sys.path if each and each not in folders)]
    began = time.monotonic()
    try:
        answer = looked_up(module, attribute)
    except BaseException:  # noqa: BLE001 - a module may exit, too
        traceback.print_exc(file=sys.__stderr__)
        answer = {"outcome": "raised"}
    answer["seconds"] = time.monotonic() - began
    os.write(int(told), json.dumps(answer).encode() + b"\n")
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(int(answer["outcome"] == "raised"))


main(*sys.argv[1:])
