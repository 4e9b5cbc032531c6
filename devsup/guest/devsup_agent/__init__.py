"""The agent: devsup's side inside the processes of a worker. Standard library only, Python 3.9 and later.

How an unmodified program is wrapped. `install` runs before any line of the program and only plants import hooks: when `socket`
or a known server is imported for the first time, the module is patched right after it was executed. Until then nothing else of
this package is loaded, so a process that serves nothing pays for one dictionary look-up an import.

A hook may fail (another version, another fork of the library): then that part of the wrapping is missing and the program runs
as if devsup were not there. Nothing in this package may raise into the program.

`forkserver` and `preload` are how the next worker starts without importing all that again.

Reading order: `sockets` (the listener moves up), `agent` (the link's end in this process), `work` and `asgi` (what is active),
`servers/uvicorn` (the gate, the stop), the other `servers`.
"""

import atexit
import os
import sys

_HOOKS = {
    "_frozen_importlib_external": "bytecode",
    "threading": "blackbox",
    "socket": "sockets",
    "socketserver": "servers.socketserver",
    "http.server": "servers.socketserver",
    "concurrent.futures.thread": "active.jobs",
    "concurrent.futures.process": "active.jobs",
    "subprocess": "opens",
    "webbrowser": "opens",
    "pydevd": "debugger",
    "werkzeug.serving": "servers.werkzeug",
    "flask.cli": "servers.werkzeug",
    "flask.app": "active.failures",
    "django.core.handlers.exception": "active.failures",
    "uvicorn.config": "servers.uvicorn",
    "uvicorn.server": "servers.uvicorn",
    "uvicorn.supervisors.multiprocess": "servers.uvicorn",
    "gevent._socketcommon": "sockets",
    "uvloop": "servers.uvloop",
    "gunicorn.arbiter": "servers.gunicorn",
    "gunicorn.workers.base": "servers.gunicorn",
    "hypercorn.run": "servers.hypercorn",
    "hypercorn.asyncio.run": "servers.hypercorn",
    "hypercorn.trio.run": "servers.hypercorn",
    "daphne.server": "servers.daphne",
    "waitress.server": "servers.waitress",
    "aiohttp.web_protocol": "servers.aiohttp",
    "aiohttp.web_response": "servers.aiohttp",
    "aiohttp.web_runner": "servers.aiohttp",
    "aiohttp.web_ws": "servers.aiohttp",
    "tornado.tcpserver": "servers.tornado",
    "tornado.web": "servers.tornado",
    "tornado.websocket": "servers.tornado",
    "tornado.autoreload": "reloaders",
    "django.utils.autoreload": "reloaders",
    "hupper.reloader": "reloaders",
    "hupper.worker": "reloaders",
    "quart.utils": "reloaders",
    "bottle": "reloaders",
    "cherrypy.process.plugins": "reloaders",
    "sanic.mixins.startup": "reloaders",
    "litestar.cli.commands.core": "reloaders",
    "chainlit.cli": "reloaders",
    "gradio.http_server": "reloaders",
    "sanic.app": "servers.sanic",
    "sanic.server.websockets.impl": "servers.sanic",
}


class _Finder:
    """First on sys.meta_path: runs our patch right after a hooked module was executed, and counts imports."""

    def __init__(self):
        self.on_import = None

    def find_spec(self, name, path=None, target=None):
        if self.on_import is not None:
            try:
                self.on_import()
            except Exception:  # no thread may be started any more
                self.on_import = None
        if name not in _HOOKS:
            return None
        part = _HOOKS.pop(name)
        for finder in sys.meta_path:
            spec = None if finder is self or not hasattr(finder, "find_spec") else finder.find_spec(name, path, target)
            if spec is not None:
                _run_after(spec, part)
                return spec
        return None


finder = _Finder()
start_environment: dict = {}


def install():
    """Plant the hooks. Called once, from sitecustomize."""
    atexit.register(_end)  # the first to be registered, and so the last to be called
    sys.meta_path.insert(0, finder)
    for name in [name for name in _HOOKS if name in sys.modules]:
        _patch(_HOOKS.pop(name), sys.modules[name])
    if not is_fork_server():
        begin()


def is_fork_server():
    """Whether this process is to make workers, and not to run the program."""
    return "DEVSUP_FORK" in os.environ


def begin(environ=None):
    """The program is about to run in this process, which was started with this environment (None: with what it has)."""
    start_environment.update(environ or os.environ)
    from devsup_agent import blackbox

    blackbox.begin()
    # Apps start their schedulers only in the child of a reloader; a worker is one (DESIGN 4).
    for name in ("WERKZEUG_RUN_MAIN", "RUN_MAIN"):
        os.environ.setdefault(name, "true")
    if os.isatty(0):
        _hook_input()
    if os.environ.get("DEVSUP_WRITES"):
        from devsup_agent import writes

        writes.install(os.environ["DEVSUP_WRITES"])


def _end():
    """All that the program does has been done: what follows is the interpreter's own end."""
    if "devsup_agent.blackbox" in sys.modules:  # a fork server has none
        sys.modules["devsup_agent.blackbox"].end()
    if "devsup_agent.agent" in sys.modules:
        with guard("the end"):
            sys.modules["devsup_agent.agent"].agent.over()


def _run_after(spec, part):
    try:
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _patch(part, module)

        spec.loader.exec_module = exec_module
    except Exception:
        return


def _patch(part, module):
    with guard(f"the hook for {module.__name__}"):
        __import__("devsup_agent." + part)
        sys.modules["devsup_agent." + part].patch(module)


class guard:  # noqa: N801 - reads as contextlib.suppress, which would be an import
    """Whatever goes wrong inside is told to the supervisor, and kept from the program."""

    def __init__(self, what):
        self._what = what

    def __enter__(self):
        return self

    def __exit__(self, kind, exc, trace):
        if exc is None or not issubclass(kind, Exception):
            return False
        try:
            from devsup_agent.agent import agent

            agent.send("trouble", text=f"{self._what}: {exc!r}")
            if os.environ.get("DEVSUP_DEBUG"):
                import traceback

                traceback.print_exception(kind, exc, trace)
        except Exception:
            return True
        return True


def _hook_input():
    """`input` is what scripts, pdb and code.interact read from: while one waits, the keys are the program's."""
    import builtins

    ask = builtins.input

    def input(prompt=""):  # noqa: A001 - it stands in for the builtin
        from devsup_agent.agent import agent

        agent.prompting(True)
        try:
            return ask(prompt)
        finally:
            agent.prompting(False)

    builtins.input = input
