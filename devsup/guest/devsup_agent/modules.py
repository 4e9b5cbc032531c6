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


def imported_files():
    """Absolute paths of the imported files that are the user's own, sorted."""
    foreign = _foreign_folders()
    files = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str):
            continue
        path = os.path.abspath(path)
        installed = f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path
        if not (installed or path.startswith(foreign)):
            files.add(path)
    return sorted(files)


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
