"""What a fork server imports, and what it must not: whatever is tied to the process that imported it.

`wanted` is asked of a worker that serves, `run` then imports in the fork server, one module after the other as the worker
did. After each it looks at threads, descriptors and children; a module that leaves any, that fails, or that reaches for the
project's code, is left out, and with it all that imports it. What it has done cannot be undone, so then another fork server
is to be started, which is told to leave these out from the first.
"""

import builtins
import contextlib
import gc
import importlib
import os
import stat
import sys
import typing

import devsup_agent
from devsup_agent import modules

HOSTILE = ("gevent", "eventlet", "ddtrace", "debugpy", "pydevd")  # change the interpreter itself, or watch it
_WITH_THREADS = ("numpy", "scipy")  # OpenBLAS, which has fork handlers; tested
_set_by_imports: set = set()  # names of variables
_SKIPPED = ("__main__", "sitecustomize", "usercustomize")


def wanted():
    """What the next worker is to find imported: {modules: [[name, file]], own: [name], environ, main, hostile}."""
    found, own, start = [], [], devsup_agent.start_environment
    for name, module in list(sys.modules.items()):
        with contextlib.suppress(Exception):
            path: typing.Any = module.__file__
            if modules.is_own(path) or getattr(module.__spec__, "name", name) != name:
                own.append(name)  # or put there by the project, in another's place
            elif name not in _SKIPPED and not name.startswith("devsup_agent"):
                found.append([name, path])
    environ: dict = {name: value for name, value in os.environ.items() if start.get(name) != value}
    environ.update({name: None for name in start if name not in os.environ})
    environ = {name: value for name, value in environ.items() if not name.startswith("DEVSUP_")}
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    hostile = next((name for name in HOSTILE if name in sys.modules), "")
    return {"modules": found, "own": own, "environ": environ, "main": main, "hostile": hostile}


def run(message):
    """Import all that is `wanted`: {left: [[name, reason]], memory: bytes}."""
    survey = _Survey({name for name, _ in message["modules"]}, message["own"], message["skip"])
    main = sys.modules["__main__"]
    if message["main"]:
        main.__file__ = message["main"]  # some ask for it to see whether they run in a program
    for name, value in message["environ"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    with survey:
        for name, path in message["modules"]:
            if name not in survey.skip:
                survey.load(name, path)
    if message["main"]:
        del main.__file__
    modules.preloaded()
    left = survey.left_out()
    gc.collect()
    gc.freeze()
    return {"left": left, "memory": _memory()}


def restore(environ):
    """The environment of a worker: `environ`, with what importing has set."""
    wanted = {**environ, **{name: os.environ[name] for name in _set_by_imports if name in os.environ}}
    for name in [name for name in os.environ if name not in wanted]:
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


class _LeftOut(BaseException):
    """Passes every `except ImportError`: who imports this must not believe that it is not installed."""


class _Survey:
    """A context: who imports whom, and what that leaves behind."""

    def __init__(self, wanted, own, skip):
        self.skip = set(skip)
        self._wanted, self._own = wanted, set(own)
        self._importers: dict = {}  # module -> those that import it
        self._reasons: dict = {}
        self._stack: list = []
        self._state = _state()
        self._import = builtins.__import__
        self._environ: typing.Any = type(os.environ)
        self._real = self._environ.__setitem__, self._environ.__delitem__, self._environ.setdefault

    def __enter__(self):
        set_item, del_item, _ = self._real

        def noted(environ, key, value):
            _set_by_imports.add(key)
            set_item(environ, key, value)

        def dropped(environ, key):
            _set_by_imports.add(key)
            del_item(environ, key)

        def defaulted(environ, key, value):
            _set_by_imports.add(key)  # the worker has it from here, or from before
            if key not in environ:
                set_item(environ, key, value)
            return environ[key]

        self._environ.__setitem__, self._environ.__delitem__, self._environ.setdefault = noted, dropped, defaulted
        builtins.__import__ = self._importing
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_):
        sys.meta_path.remove(self)
        builtins.__import__ = self._import
        self._environ.__setitem__, self._environ.__delitem__, self._environ.setdefault = self._real

    def load(self, name, path):
        """Import one module, as the worker has it."""
        try:
            importlib.import_module(name)
        except _LeftOut:
            return
        except BaseException as exc:
            self._taint(name, f"its import fails here: {type(exc).__name__}: {exc}")
            return
        found = getattr(sys.modules.get(name), "__file__", None)
        if found != path:
            self._taint(name, f"it comes from {found} here, and from {path} in the app")

    def left_out(self):
        """[[name, reason]] of all that must not be imported."""
        found = dict(self._reasons)
        todo = list(found)
        while todo:
            name = todo.pop()
            for each in self._importers.get(name, set()) | {each for each in self._wanted if each.startswith(name + ".")}:
                if each not in found:
                    found[each] = f"it imports {name}"
                    todo.append(each)
        return [[name, reason] for name, reason in found.items()]

    def _taint(self, name, reason):
        self._reasons.setdefault(name, reason)

    # -- in the import system ---------------------------------------------------------------------------------------

    def find_spec(self, name, path=None, target=None):
        """As all other finders would."""
        if name in self.skip:
            for each in self._stack:
                self._taint(each, f"it imports {name}")
            raise _LeftOut(name)
        if self._stack:
            self._importers.setdefault(name, set()).add(self._stack[-1])
        if name in self._own and self._stack:
            self._taint(self._stack[-1], f"it reaches for the project's {name}")
        for finder in sys.meta_path[1:]:
            spec = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                self._watch(spec)
                return spec
        return None

    def _watch(self, spec):
        if spec.has_location and modules.is_own(spec.origin or ""):
            self._taint(spec.name, "it is the project's own")
        loader = spec.loader
        if isinstance(loader, type) or not (hasattr(loader, "exec_module") and hasattr(loader, "create_module")):
            return  # the interpreter's own; or unusual
        before = {name: value for name, value in loader.__dict__.items() if name.endswith("_module")}
        create, execute = loader.create_module, loader.exec_module

        def create_module(spec):  # libraries are loaded here
            module = create(spec)
            self._compare(spec.name)
            return module

        def exec_module(module):
            del loader.create_module, loader.exec_module
            loader.__dict__.update(before)
            self._stack.append(spec.name)
            try:
                execute(module)
            except _LeftOut:
                raise
            except BaseException as exc:
                if spec.name in self._wanted:
                    self._taint(spec.name, f"its import fails here: {type(exc).__name__}: {exc}")
                raise
            finally:
                self._stack.pop()
                self._compare(spec.name)

        with contextlib.suppress(AttributeError):  # a loader that takes none goes unwatched
            loader.create_module, loader.exec_module = create_module, exec_module

    def _compare(self, name):
        before, self._state = self._state, _state()
        threads, files, children = (now - then for now, then in zip(self._state, before))
        if threads and name.partition(".")[0] not in _WITH_THREADS:
            self._taint(name, "it starts a thread")
        if files:
            self._taint(name, f"it opens {min(files)[1]}")
        if children:
            self._taint(name, "it starts a process")

    def _importing(self, name, globals=None, locals=None, fromlist=(), level=0):  # noqa: A002 - as the builtin's
        module = self._import(name, globals, locals, fromlist, level)
        importer = globals.get("__name__") if globals else None
        if importer:
            found = module.__name__ if fromlist else name
            for each in [found, *(f"{found}.{item}" for item in fromlist or ())]:
                self._importers.setdefault(each, set()).add(importer)
        return module


def _state():
    """What an import must leave as it was: the process's threads, open files and children."""
    threads = set(os.listdir("/proc/self/task"))
    files, children = set(), set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not stat.S_ISCHR(os.fstat(int(fd)).st_mode):
                files.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
    for thread in threads:
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children") as file:
            children.update(file.read().split())
    return threads, files, children


def _memory():
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
