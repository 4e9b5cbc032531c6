"""Servers in Python: installed scripts, scripts, apps, and factories of apps."""

from __future__ import annotations

import ast
import itertools
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

from devsup.discover.found import Found, folders, text_of
from devsup.discover.module import FACTORIES, FRAMEWORKS, Module

_MOST = 5000  # files
_LARGEST = 500_000  # characters
_WORDS = (*FRAMEWORKS, *FACTORIES, "uvicorn")
_TELLS_NOTHING = frozenset("src main app application asgi wsgi server api run __init__ __main__".split())


def python_servers(project: Path) -> list[Found]:
    """One for each file that serves or has an app, but for those whose app another one takes."""
    scripts = dict(_installed(project))
    modules = [module for module in _modules(project) if module.app or module.is_script or module.name in scripts]
    return [_found(module, scripts.get(module.name, "")) for module in modules if not _is_taken(module, modules)]


def _found(module: Module, script: str) -> Found:
    project, app = module.project, module.app
    file = module.path.relative_to(project).as_posix()
    cwd = module.cwd.relative_to(project).as_posix()
    telling = [word for word in (*Path(cwd).parts, *module.name.split(".")) if word not in _TELLS_NOTHING]
    name = telling[-1] if telling else "web"
    if script:
        return Found(script, f"pyproject.toml: scripts.{script}, which serves", script, port=module.serves_on or 0, fixed=True)
    if module.is_script or app is None:
        command = f"python -m {module.name}" if "." in module.name else f"python {module.path.name}"
        return Found(name, f"{file}, which serves when it is run", command, cwd, module.serves_on or 0, fixed=True)
    why = f"{app.framework} {'factory' if app.is_factory else 'app'} in {file}:{app.line}"
    target = f"{module.name}:{app.name}"
    if app.framework == "Flask":
        command = f"flask --app {target} run" if app.is_factory else target
        return Found(name, why, f"{command} --port {{port}}", cwd, 5000)
    factory = " --factory" if app.is_factory else ""
    return Found(name, why, f"{target}{factory} --port {{port}}", cwd, 8000)


def _is_taken(module: Module, modules: list[Module]) -> bool:
    """Whether another file that serves takes this one's app."""
    if module.app is None:
        return False
    names = {module.name, f"{module.name}.{module.app.name}", f"{module.name}.*"}
    return any(names & other.refers_to for other in modules if other is not module)


def _modules(project: Path) -> Iterator[Module]:
    files = (path for folder in folders(project) for path in sorted(folder.glob("*.py")))
    for path in itertools.islice(files, _MOST):
        text = text_of(path)
        if len(text) > _LARGEST or path.name.startswith(("test_", "conftest")) or not any(word in text for word in _WORDS):
            continue
        try:
            yield Module(path, ast.parse(text), project)
        except (SyntaxError, ValueError, RecursionError):
            continue


def _installed(project: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each script of the project that is installed."""
    try:
        scripts = tomllib.loads(text_of(project / "pyproject.toml"))["project"]["scripts"]
    except (ValueError, LookupError, TypeError):
        return
    environments = [Path(os.environ.get("VIRTUAL_ENV") or project / ".venv"), project / ".venv"]
    for name, target in scripts.items():
        if any((environment / "bin" / name).exists() for environment in environments):
            yield str(target).partition(":")[0], name
