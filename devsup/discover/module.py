"""One Python file, by its text alone: the apps and factories in it, whether it serves them, and what it imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

FRAMEWORKS = {"FastAPI": "fastapi", "Starlette": "starlette", "Flask": "flask"}
FACTORIES = frozenset({"create_app", "make_app", "build_app", "app_factory"})


class App(NamedTuple):
    """An app of a module, or a function that makes one."""

    name: str
    framework: str
    line: int
    is_factory: bool = False


@dataclass(frozen=True)
class Module:
    """A file of the project."""

    path: Path
    tree: ast.Module
    project: Path

    @cached_property
    def cwd(self) -> Path:
        """The folder to run it from: its own imports, and those of its package, are found there."""
        folder = self.path.parent
        firsts = {name.partition(".")[0] for name in self._origins.values() if not name.startswith(".")}
        above = max((len(name) - len(name.lstrip(".")) for name in self._origins.values()), default=0)
        while folder != self.project and (above > 0 or folder.name in firsts or (folder / "__init__.py").exists()):
            folder, above = folder.parent, above - 1
        return folder

    @cached_property
    def name(self) -> str:
        """As it is imported from there."""
        words = self.path.relative_to(self.cwd).with_suffix("").parts
        return ".".join(words[:-1] if words[-1] == "__init__" and len(words) > 1 else words)

    @cached_property
    def refers_to(self) -> set[str]:
        """Full names of what it imports, and apps that it names in a string: `uvicorn.run("main:app")`."""
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        found = set()
        for name in self._origins.values():
            bare = name.lstrip(".")
            above = len(name) - len(bare)
            found.add(".".join([*package[: len(package) - above + 1], bare]) if above else name)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.]+:\w+", node.value):
                found.add(node.value.replace(":", "."))
        return found

    @cached_property
    def app(self) -> App | None:
        """The app that it is about: not one that is mounted into another."""
        mounted = {
            argument.id
            for call in self._calls
            if isinstance(call.func, ast.Attribute) and call.func.attr == "mount"
            for argument in call.args
            if isinstance(argument, ast.Name)
        }
        apps = [app for app in self._apps() if app.name not in mounted]
        return min(apps, key=lambda app: app.name not in {"app", "application"}, default=None) or self.factory

    @cached_property
    def factory(self) -> App | None:
        """The function that makes an app, without arguments."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name in FACTORIES and len(node.args.args) == len(node.args.defaults):
                made = next((made for inner in ast.walk(node) if (made := self._framework(inner))), None)
                if made:
                    return App(node.name, made, node.lineno, is_factory=True)
        return None

    @cached_property
    def serves_on(self) -> int | None:
        """The port on which it serves an app by itself, 0 where that is not to be seen; None when it does not serve."""
        for call in self._calls:
            if not isinstance(call.func, ast.Attribute) or call.func.attr != "run" or not isinstance(call.func.value, ast.Name):
                continue
            owner = call.func.value.id
            is_uvicorn = self._origins.get(owner) == "uvicorn"
            if is_uvicorn or re.search("app", owner):
                told = next((keyword.value for keyword in call.keywords if keyword.arg == "port"), None)
                port = ast.Constant(8000 if is_uvicorn else 5000) if told is None else told
                return port.value if isinstance(port, ast.Constant) and isinstance(port.value, int) else 0
        return None

    @cached_property
    def is_script(self) -> bool:
        """Whether it serves when it is run."""
        guarded = any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in self.tree.body)
        return guarded and self.serves_on is not None

    @cached_property
    def _calls(self) -> list[ast.Call]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]

    @cached_property
    def _origins(self) -> dict[str, str]:
        """Each name that an import brings, and what it stands for."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                start = "." * node.level + (f"{node.module}." if node.module else "")
                found |= {alias.asname or alias.name: start + alias.name for alias in node.names}
        return found

    def _apps(self) -> Iterator[App]:
        for node in self.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            framework = self._framework(value) or self._of_factory(value)
            if framework and len(targets) == 1 and isinstance(targets[0], ast.Name):
                yield App(targets[0].id, framework, node.lineno)

    def _framework(self, node: ast.AST | None) -> str:
        """The framework whose app this expression makes."""
        if not isinstance(node, ast.Call):
            return ""
        first, *rest = ast.unparse(node.func).split(".")
        words = [*self._origins.get(first, "").split("."), *rest]
        return words[-1] if FRAMEWORKS.get(words[-1], ".") == words[0] else ""

    def _of_factory(self, node: ast.AST | None) -> str:
        """The framework, or what is known where the factory is in another file."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return ""
        if self.factory and node.func.id == self.factory.name:
            return self.factory.framework
        return "ASGI or WSGI" if self._origins.get(node.func.id, "").rpartition(".")[2] in FACTORIES else ""
