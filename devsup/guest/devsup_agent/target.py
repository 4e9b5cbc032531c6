"""`devsup run module:app`: start the app's usual server on it. ASGI gets uvicorn, Flask its own command, other WSGI werkzeug.

Run as `python -m devsup_agent.target module:app [the server's own options]`, in the project's interpreter.
"""

import difflib
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
    app = load(target)
    port = _port(rest)
    if port is not None and not 0 <= port <= 65535:
        _refuse(f"Port {port} is out of range.", "Choose one from 1 to 65535, or 0 for any: --port 8000")
    # A factory makes either kind; the option is uvicorn's alone.
    if "--factory" in rest or _is_asgi(app):
        return _command(_server("uvicorn.main", "uvicorn", target).main, "uvicorn", [target, *rest])
    if _is_flask(app):
        return _command(_server("flask.cli", "flask", target).cli, "flask", ["--app", target, "run", *rest])
    return _run_wsgi(target, app, rest)


def _port(rest):
    for word, following in zip(rest, [*rest[1:], ""]):
        name, _, value = word.partition("=")
        if name in ("--port", "-p"):
            number = value or following
            return int(number) if number.lstrip("-").isdigit() else None
    return None


def _command(command, name, args):
    """Run a click command as its console script does; its usage errors are the user's to mend, not a save's."""
    sys.argv = [name, *args]
    try:
        return command.main(args=args, prog_name=name, standalone_mode=False)
    except Exception as exc:
        if type(exc).__name__ == "Abort":
            return 1
        if getattr(exc, "exit_code", None) == 2 and hasattr(exc, "format_message"):
            _refuse(
                f"{name}: {exc.format_message()}",
                f"Its options: devsup run {sys.argv[1] if name == 'uvicorn' else sys.argv[2]} --help",
            )
        if hasattr(exc, "show"):
            exc.show()
            return 1
        raise


def load(target):
    """The object that `module:attribute` names; refuses with a remedy where it is none."""
    module_name, _, attribute = target.partition(":")
    if not _exists(module_name):
        near = [name for name in sorted(os.listdir(".")) if name.endswith(".py")][:5]
        _refuse(
            f"There is no module {module_name!r} to import from {os.getcwd()}.",
            "Run it from the project's folder (devsup run --cwd FOLDER {}){}.".format(
                target, "; Python files here: " + ", ".join(near) if near else ""
            ),
        )
    found = importlib.import_module(module_name)
    for name in attribute.rstrip("()").split("."):
        if not hasattr(found, name):
            names = getattr(found, "__dict__", {})
            apps = [key for key, value in names.items() if _looks_like_app(value)]
            near = [*difflib.get_close_matches(name, [each for each in names if not each.startswith("_")], n=1), *apps, "NAME"]
            _refuse(
                f"Module {module_name!r} has no attribute {name!r}.", f"Name one that it has: devsup run {module_name}:{near[0]}"
            )
        found = getattr(found, name)
    if not callable(found):
        _refuse(
            f"{target} is no app: it is a {type(found).__name__} and cannot be called.",
            f"Name the ASGI or WSGI app: devsup run {module_name}:NAME",
        )
    return found


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
    """Whether a call of the app is a coroutine, or takes the arguments of ASGI."""
    if inspect.isclass(app):
        return hasattr(app, "__await__")
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(type(app), "__call__", None)):  # noqa: B004
        return True
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    required = [each for each in parameters if each.default is each.empty and each.kind <= each.POSITIONAL_OR_KEYWORD]
    return len(required) in (1, 3)  # ASGI 2: app(scope); ASGI 3 behind a plain callable; WSGI takes two


def _is_flask(app):
    flask = sys.modules.get("flask")
    return flask is not None and isinstance(app, flask.Flask)


def _server(module, package, target):
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        _refuse(
            f"{target} needs {package}, which is not installed in {sys.executable}.", f"{sys.executable} -m pip install {package}"
        )


def _run_wsgi(target, app, rest):
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message):
            _refuse(f"werkzeug: {message}.", f"It takes --host and --port: devsup run {target} --port 8000")

    parser = Parser(prog=f"devsup run {target}", description="werkzeug's server for a WSGI app", add_help=False)
    parser.add_argument("--help", action="help")
    parser.add_argument("--host", "-h", default="127.0.0.1")
    parser.add_argument("--port", "-p", type=int, default=5000)
    options = parser.parse_args(rest)
    serving = _server("werkzeug.serving", "werkzeug", target)
    agent.send("intends", host=options.host, port=options.port)
    return serving.run_simple(options.host, options.port, app, threaded=True)


def _refuse(problem, remedy):
    """Bad usage: devsup prints it and ends with 2."""
    agent.connect()
    agent.send("usage", problem=problem, remedy=remedy)
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
