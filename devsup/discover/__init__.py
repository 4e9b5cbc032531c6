"""What a project's files say of the servers in it: for `devsup init`, which writes it down."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from devsup.config.procfile import read_procfile
from devsup.discover.found import Found, folders, text_of
from devsup.discover.python import python_servers

_LOCKS = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn", "bun.lock": "bun", "bun.lockb": "bun"}
_FRONT_ENDS = {"vite": 5173, "next": 3000, "nuxt": 3000, "react-scripts": 3000, "astro": 4321, "ng": 4200}


def discover(project: Path) -> list[Found]:
    """The services of a project, each with a name and a port of its own. A Procfile says it all; else files are read."""
    project = project.resolve()
    if (project / "Procfile").is_file():
        return list(_of_procfile(project / "Procfile"))
    return _distinct([*_django(project), *python_servers(project), *_front_ends(project)])


def _of_procfile(path: Path) -> Iterator[Found]:
    source = read_procfile(path, text_of(path))
    for name, keys in source.table["services"].items():
        line = source.line(("services", name))
        more = {key: value for key, value in keys.items() if key != "command"}
        yield Found(name, f"Procfile:{line}", shlex.join(keys["command"]), more=more)


def _django(project: Path) -> Iterator[Found]:
    for folder in folders(project):
        if "DJANGO_SETTINGS_MODULE" in text_of(folder / "manage.py"):
            cwd = folder.relative_to(project).as_posix()
            yield Found("django", f"Django's {cwd}/manage.py", "python manage.py runserver {port}", cwd, 8000)


def _front_ends(project: Path) -> Iterator[Found]:
    for folder in folders(project):
        try:
            package: Any = json.loads(text_of(folder / "package.json"))
            script = str(package["scripts"]["dev"])
        except (ValueError, LookupError, TypeError):
            continue
        cwd = folder.relative_to(project).as_posix()
        name = "frontend" if cwd == "." else folder.name
        command = f"{_manager(folder, project, package)} run dev"
        yield Found(name, f'"dev" in {cwd}/package.json: {script}', command, cwd, _port(script, folder), fixed=True)
        if folder == project:  # of a workspace it starts the others
            return


def _manager(folder: Path, project: Path, package: dict[str, Any]) -> str:
    """The package manager: the one that is named, or that has left its lock file."""
    named = str(package.get("packageManager", "")).partition("@")[0]
    left = (manager for where in (folder, project) for lock, manager in _LOCKS.items() if (where / lock).exists())
    return named or next(left, "npm")


def _port(script: str, folder: Path) -> int:
    """Where a front end's development server listens; 0 where that is not to be seen."""
    configs = "".join(text_of(path) for path in sorted(folder.glob("vite.config.*")))
    told = re.search(r"(?:--port|-p)[ =](\d+)", script) or re.search(r"\bport:\s*(\d+)", configs)
    usual = (port for tool, port in _FRONT_ENDS.items() if re.search(rf"(?<![\w-]){tool}(?![\w-])", script))
    return int(told[1]) if told else next(usual, 0)


def _distinct(every: Iterable[Found]) -> list[Found]:
    """A name that is there twice gets a number; a port that is taken, and can be chosen, becomes the next one."""
    found: list[Found] = []
    ports = {each.port for each in every if each.fixed}
    for each in every:
        name, port, count = each.name, each.port, 1
        while name in {other.name for other in found}:
            count += 1
            name = f"{each.name}-{count}"
        while port in ports and not each.fixed:
            port += 1
        ports.add(port)
        found.append(replace(each, name=name, port=port))
    return found
