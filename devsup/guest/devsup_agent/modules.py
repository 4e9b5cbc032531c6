"""Which of the program's own files this process has imported, and whether changed ones compile here."""

import os
import site
import sys
import sysconfig

_GUEST = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _find_foreign():
    """Folders whose files are not the user's: the standard library, installed packages, the virtual environment, us."""
    paths = sysconfig.get_paths()
    folders = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib") if key in paths}
    folders.update(getattr(site, "getsitepackages", list)())
    if sys.prefix != sys.base_prefix:
        folders.add(sys.prefix)
    folders.add(_GUEST)
    return tuple(os.path.join(folder, "") for folder in folders | {os.path.realpath(folder) for folder in folders})


_foreign: list = []  # once found
_installed = f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"
_is_own: dict = {}
_preloaded: list = []  # the name of the last module that a fork server has imported


def is_own(path):
    """Whether a file of code, or a package's folder, is the user's own; remembered, because some ask it of every frame."""
    if path not in _is_own:
        _foreign.extend(() if _foreign else [_find_foreign()])
        whole = os.path.join(os.path.abspath(path), "")
        _is_own[path] = bool(path) and not (
            path.startswith("<frozen") or whole.startswith(_foreign[0]) or any(part in whole for part in _installed)
        )
    return _is_own[path]


def preloaded():
    """A fork server has imported what it will: nothing of it is the user's, and no worker need look at it again."""
    _preloaded.append(next(reversed(sys.modules)))


def _since_preload():
    yield sys.modules.get("__main__")
    for name in reversed(sys.modules):
        if name in _preloaded:
            return
        yield sys.modules.get(name)


def imported():
    """The user's own that is imported: absolute paths of the files, and of the packages' folders."""
    files: set = set()
    packages: set = set()
    for module in list(_since_preload()):
        try:
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and is_own(path):
                files.add(os.path.abspath(path))
            packages.update(os.path.abspath(folder) for folder in getattr(module, "__path__", None) or () if is_own(folder))
        except Exception:
            continue
    return sorted(files), sorted(packages)


def compile_errors(paths):
    """What is wrong with each file that does not compile: [{path, line, problem, source}]."""
    errors = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                compile(file.read(), path, "exec", dont_inherit=True)
        except SyntaxError as exc:
            text = (exc.text or "").rstrip("\n")
            errors.append(
                {
                    "path": path,
                    "line": exc.lineno or 0,
                    "problem": f"{type(exc).__name__}: {exc.msg}",
                    "source": text,
                }
            )
        except ValueError as exc:
            errors.append({"path": path, "line": 0, "problem": str(exc), "source": ""})
        except OSError:
            continue
    return errors
