"""`devsup run module:app`: start the app's usual server on it. ASGI gets uvicorn, Flask its own command, other WSGI werkzeug.

Run as `python -m devsup_agent.target module:app [the server's own options]`, in the project's interpreter.
"""

import importlib
import importlib.util
import inspect
import os
import sys

from devsup_agent.agent import agent


def main():
    """Load the target, then become the command of its server."""
    target, rest = sys.argv[1], sys.argv[2:]
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    is_asgi = _is_asgi(load(target, "--factory" in rest))
    if is_asgi:
        _need("uvicorn", "uvicorn", target)
        sys.argv = ["uvicorn", target, *rest]
        from uvicorn.main import main as command
    elif _is_flask(target):
        sys.argv = ["flask", "--app", target, "run", *rest]
        from flask.cli import main as command
    else:
        _need("werkzeug", "werkzeug", target)
        return _werkzeug(target, rest)
    return command()


def load(target, factory=False):
    """The object that `module:attribute` names; refuses with a remedy where it is none."""
    module_name, _, attribute = target.partition(":")
    if not _exists(module_name):
        near = [name for name in sorted(os.listdir(".")) if name.endswith(".py")][:5]
        _refuse(
            "There is no module %r to import from %s." % (module_name, os.getcwd()),
            "Run it from the project's folder (devsup run --cwd FOLDER %s)%s."
            % (target, "; Python files here: " + ", ".join(near) if near else ""),
        )
    found = importlib.import_module(module_name)
    for name in attribute.rstrip("()").split("."):
        if not hasattr(found, name):
            apps = (
                [key for key, value in vars(found).items() if _looks_like_app(value)] if inspect.ismodule(found) else []
            )
            hint = (
                "devsup run %s:%s" % (module_name, apps[0])
                if apps
                else "name one that exists: devsup run %s:NAME" % module_name
            )
            _refuse("Module %r has no attribute %r." % (module_name, name), hint)
        found = getattr(found, name)
    if not callable(found):
        _refuse(
            "%s is no app: it is a %s and cannot be called." % (target, type(found).__name__),
            "Name the ASGI or WSGI app: devsup run %s:NAME" % module_name,
        )
    return None if factory else found


def _exists(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
            return False
        raise
    except ValueError:
        return False


def _looks_like_app(value):
    return (
        callable(value)
        and (hasattr(value, "routes") or hasattr(value, "wsgi_app"))
        and not inspect.isclass(value)
        and not inspect.ismodule(value)
    )


def _is_asgi(app):
    """Whether a call of the app is a coroutine (None is a factory of one: only uvicorn has the option)."""
    if app is None:
        return True
    if inspect.isclass(app):
        return hasattr(app, "__await__")
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):
        return True
    try:
        required = [
            p
            for p in inspect.signature(app).parameters.values()
            if p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD
        ]
    except (TypeError, ValueError):
        return False
    return len(required) in (1, 3)  # ASGI 2: app(scope); ASGI 3 behind a plain callable; WSGI takes two


def _is_flask(target):
    flask = sys.modules.get("flask")
    module_name, _, attribute = target.partition(":")
    app = getattr(sys.modules.get(module_name), attribute, None)
    return flask is not None and isinstance(app, flask.Flask)


def _need(module, package, target):
    if importlib.util.find_spec(module) is None:
        _refuse(
            "%s needs %s, which is not installed in %s." % (target, package, sys.executable),
            "%s -m pip install %s" % (sys.executable, package),
        )


def _werkzeug(target, rest):
    import argparse

    parser = argparse.ArgumentParser(
        prog="devsup run " + target, add_help=False, description="werkzeug's server for a WSGI app"
    )
    parser.add_argument("--host", "-h", default="127.0.0.1")
    parser.add_argument("--port", "-p", type=int, default=5000)
    options = parser.parse_args(rest)
    if not 0 <= options.port <= 65535:
        parser.error("argument --port/-p: %d is not in 0..65535" % options.port)
    agent.send("intends", host=options.host, port=options.port)
    from werkzeug.serving import run_simple

    run_simple(options.host, options.port, load(target), threaded=True)


def _refuse(problem, remedy):
    """Bad usage: devsup prints it and ends with 2."""
    agent.connect()
    agent.send("usage", problem=problem, remedy=remedy)
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
