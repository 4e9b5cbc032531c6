"""Which of the program's own files this process has imported, and whether changed ones compile here."""

import os
import site
import sys
import sysconfig

_GUEST = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _foreign_folders():
    """Folders whose files are not the user's: the standard library, installed packages, the virtual environment, us."""
    paths = sysconfig.get_paths()
    folders = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib") if key in paths}
    folders.update(getattr(site, "getsitepackages", list)())
    if sys.prefix != sys.base_prefix:
        folders.add(sys.prefix)
    folders.add(_GUEST)
    return tuple(os.path.join(folder, "") for folder in folders | {os.path.realpath(folder) for folder in folders})


_is_own: dict = {}


def is_own(path):
    """Whether a file of code is the user's own; remembered, because some ask it of every frame."""
    if path not in _is_own:
        _is_own[path] = bool(path) and not path.startswith("<frozen") and bool(_own({path}, _foreign_folders()))
    return _is_own[path]


def imported():
    """The user's own that is imported: absolute paths of the files, and of the packages' folders."""
    foreign = _foreign_folders()
    files: set = set()
    packages: set = set()
    for module in list(sys.modules.values()):
        try:
            path = getattr(module, "__file__", None)
            if isinstance(path, str):
                files.add(os.path.abspath(path))
            packages.update(os.path.abspath(folder) for folder in getattr(module, "__path__", None) or ())
        except Exception:
            continue
    return sorted(_own(files, foreign)), sorted(_own(packages, foreign))


def _own(paths, foreign):
    installed = f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"
    foreign_paths = (
        path for path in paths if (path + os.sep).startswith(foreign) or any(part in path + os.sep for part in installed)
    )
    return set(paths).difference(foreign_paths)


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
