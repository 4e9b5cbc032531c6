"""The floors: who may import whom, who may exit, what the guest may use, how long a function may be."""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400

# Part -> the other parts of devsup that it may import.
MAY_IMPORT: dict[str, set[str]] = {
    "bus": {"decide", "events", "errors"},
    "config": {"decide", "events", "errors"},
    "decide": {"events", "errors"},
    "errors": set(),
    "events": {"errors"},
    "show": {"events", "bus", "status", "errors"},
    "status": {"events", "errors"},
}
# Part -> the parts beside it or above it; other parts are free.
MUST_NOT_IMPORT: dict[str, set[str]] = {
    "system": {"decide", "show", "supervisor", "run", "cli"},
    "supervisor": {"show", "run", "cli", "smoke", "doctor"},
    "smoke": {"show", "cli", "doctor", "pytest"},
    "doctor": {"show", "cli", "run", "smoke", "pytest"},
    "pytest": {"show", "cli", "run", "smoke", "doctor"},
    "run": {"cli", "smoke", "doctor"},
}
# A decision is a function of facts: these would let it look or wait for itself.
IMPURE = set(
    "asyncio concurrent ctypes fcntl glob http importlib io logging mmap multiprocessing os pty queue random resource "
    "runpy sched secrets select selectors shutil signal socket socketserver sqlite3 ssl subprocess syslog tempfile "
    "termios threading time tty urllib".split()
)
PURE_LIBRARIES = {"msgspec"}

WIRE = "wire"
WIRE_READER = "devsup/system/link.py"

GUEST_MODULES = {"devsup_agent", "sitecustomize"}
# Module -> names that Python 3.9 does not have.
NEWER_NAMES: dict[str, set[str]] = {
    "dataclasses": {"KW_ONLY"},
    "itertools": {"batched", "pairwise"},
    "types": {"EllipsisType", "NoneType", "NotImplementedType", "UnionType"},
    "typing": set(
        "Concatenate LiteralString Never NotRequired ParamSpec ReadOnly Required Self TypeAlias TypeAliasType "
        "TypeGuard TypeIs TypeVarTuple Unpack assert_never assert_type dataclass_transform override reveal_type".split()
    ),
}
NEWER_MODULES = {"annotationlib", "compression", "tomllib"}
NEWER_BUILTINS = {"BaseExceptionGroup", "ExceptionGroup", "aiter", "anext"}
# Function -> arguments that Python 3.9 does not know.
NEWER_ARGUMENTS: dict[str, set[str]] = {
    "dataclass": {"kw_only", "match_args", "slots"},
    "field": {"kw_only"},
    "zip": {"strict"},
}
TYPE_NAMES = set("bool bytearray bytes dict float frozenset int list memoryview object set str tuple type".split())


@dataclass(frozen=True)
class Import:
    """One imported module or name; for `from x import y`, `name` is y."""

    line: int
    module: str
    name: str
    for_types_only: bool

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}".rstrip(".")

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def part(self) -> str:
        """The part of devsup that it reaches: decide, system, events ...; empty when it is no part of devsup."""
        if self.top in GUEST_MODULES:
            return "guest"
        names = self.dotted.split(".")
        return names[1] if names[0] == "devsup" and len(names) > 1 else ""


class Source:
    """A file of the project, known by its path from the root; it need not exist."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.part = path.removeprefix("devsup/").partition("/")[0].removesuffix(".py")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def imports(self) -> list[Import]:
        for_types = {
            id(inner)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
            for statement in node.body
            for inner in ast.walk(statement)
        }
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [Import(node.lineno, alias.name, "", id(node) in for_types) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = self.absolute(node)
                found += [Import(node.lineno, module, alias.name, id(node) in for_types) for alias in node.names]
        return found

    def absolute(self, node: ast.ImportFrom) -> str:
        """Resolve the dots of a relative import."""
        if not node.level:
            return node.module or ""
        folders = self.path.removeprefix("devsup/guest/").split("/")[: -node.level]
        return ".".join([*folders, node.module or ""]).rstrip(".")


def floors(source: Source) -> Iterator[str]:
    """Imports point down only."""
    if source.part == "guest":
        return
    for found in source.imports:
        if found.part in {"", "__version__", source.part}:
            continue
        if found.part == "guest":
            if not (source.path == WIRE_READER and WIRE in found.dotted.split(".")):
                yield f"{source.path}:{found.line}: {found.dotted} belongs to the guest, which runs in other processes"
            continue
        beside_or_above = found.part in MUST_NOT_IMPORT.get(source.part, ())
        if beside_or_above or found.part not in MAY_IMPORT.get(source.part, {found.part}):
            yield f"{source.path}:{found.line}: {source.part} must not import {found.dotted}"


def decide_is_pure(source: Source) -> Iterator[str]:
    """What decides neither looks, nor waits, nor acts."""
    if source.part != "decide":
        return
    for found in source.imports:
        known = found.top in sys.stdlib_module_names or found.top in PURE_LIBRARIES | {"devsup"}
        if found.top in IMPURE or not known:
            yield f"{source.path}:{found.line}: decide is pure, {found.dotted} is not"


def one_reader_of_the_wire(source: Source) -> Iterator[str]:
    """Only the link knows how messages are laid out."""
    if source.part == "guest" or source.path == WIRE_READER:
        return
    for found in source.imports:
        if found.part and WIRE in found.dotted.split("."):
            yield f"{source.path}:{found.line}: the wire format is imported by {WIRE_READER} alone"


def only_the_cli_exits(source: Source) -> Iterator[str]:
    """Everyone else raises DevsupError; the guest is left out, its exits are the app's."""
    if source.part in {"cli", "guest"}:
        return
    for found in source.imports:
        if found.dotted == "sys.exit":
            yield f"{source.path}:{found.line}: only devsup/cli exits"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"sys.exit", "exit", "quit"}:
            yield f"{source.path}:{node.lineno}: only devsup/cli exits"
        elif isinstance(node, ast.Raise) and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if ast.unparse(raised) == "SystemExit":
                yield f"{source.path}:{node.lineno}: only devsup/cli exits"


def guest_imports(source: Source) -> Iterator[str]:
    """It runs where only the project's own packages are installed, perhaps on Python 3.9."""
    if source.part != "guest":
        return
    for found in source.imports:
        here = f"{source.path}:{found.line}"
        if found.top not in sys.stdlib_module_names | GUEST_MODULES | {""}:
            yield f"{here}: the guest uses the standard library alone, not {found.dotted}"
        elif not found.for_types_only and (found.top in NEWER_MODULES or found.name in NEWER_NAMES.get(found.module, ())):
            yield f"{here}: Python 3.9 has no {found.dotted}"


def guest_syntax(source: Source) -> Iterator[str]:
    """Everything that Python 3.9 would stumble over, at compile time or later."""
    if source.part != "guest":
        return
    try:
        ast.parse(source.text, source.path, feature_version=(3, 9))
    except SyntaxError as error:
        yield f"{source.path}:{error.lineno}: no Python 3.9: {error.msg}"
        return
    annotations = set(_annotations(source.tree))
    postponed = any(found.dotted == "__future__.annotations" for found in source.imports)
    for node in ast.walk(source.tree):
        here = f"{source.path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            if node in annotations and not postponed:
                yield f"{here}: a union in an annotation needs `from __future__ import annotations` in Python 3.9"
            elif node not in annotations and (_is_type(node.left) or _is_type(node.right)):
                yield f"{here}: Python 3.9 cannot build the union {ast.unparse(node)}"
        elif isinstance(node, ast.Name) and node.id in NEWER_BUILTINS:
            yield f"{here}: Python 3.9 has no {node.id}"
        elif isinstance(node, ast.Attribute) and node.attr in NEWER_NAMES.get(ast.unparse(node.value), ()):
            if node not in annotations or not postponed:
                yield f"{here}: Python 3.9 has no {ast.unparse(node)}"
        elif isinstance(node, ast.Call):
            newer = NEWER_ARGUMENTS.get(ast.unparse(node.func).rpartition(".")[2], set())
            for argument in node.keywords:
                if argument.arg in newer:
                    yield f"{here}: {ast.unparse(node.func)} takes no {argument.arg}= in Python 3.9"


def size(source: Source) -> Iterator[str]:
    """A function fits on a screen and a file in a head."""
    lines = len(source.text.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{source.path}: {lines} lines, the limit is {MAX_FILE_LINES}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{source.path}:{node.lineno}: {node.name} has {length} lines, the limit is {MAX_FUNCTION_LINES}"


def _annotations(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        hint: ast.expr | None = None
        if isinstance(node, ast.arg | ast.AnnAssign):
            hint = node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            hint = node.returns
        if hint is not None:
            yield from ast.walk(hint)


def _is_type(node: ast.expr) -> bool:
    """A builtin type, one of its generic forms, or None: what flags and sets are never made of."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Constant):
        return node.value is None
    return isinstance(node, ast.Name) and node.id in TYPE_NAMES


RULES: list[Callable[[Source], Iterator[str]]] = [
    floors,
    decide_is_pure,
    one_reader_of_the_wire,
    only_the_cli_exits,
    guest_imports,
    guest_syntax,
    size,
]


def broken_rules(source: Source) -> list[str]:
    return [complaint for rule in RULES for complaint in rule(source)]


def test_every_file_keeps_the_rules() -> None:
    files = sorted((ROOT / "devsup").rglob("*.py"))
    complaints = [
        complaint
        for file in files
        for complaint in broken_rules(Source(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")))
    ]
    assert not complaints, "\n" + "\n".join(complaints)


def test_the_guest_is_no_package() -> None:
    """Its folder goes on the path of other programs as it is."""
    assert not (ROOT / "devsup/guest/__init__.py").exists()


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("devsup/decide/policy.py", "import time", "decide is pure"),
        ("devsup/decide/policy.py", "def late():\n    from os import path", "decide is pure"),
        ("devsup/decide/rules/port.py", "import psutil", "decide is pure"),
        ("devsup/decide/policy.py", "from devsup.system import worker", "decide must not import devsup.system.worker"),
        ("devsup/decide/rules/port.py", "from ...show import console", "decide must not import devsup.show.console"),
        ("devsup/decide/policy.py", "from devsup.config import Config", "decide must not import devsup.config"),
        ("devsup/system/worker.py", "from devsup.decide.policy import step", "system must not import"),
        ("devsup/system/worker.py", "from .. import supervisor", "system must not import devsup.supervisor"),
        ("devsup/show/console.py", "import devsup.system.worker", "show must not import devsup.system.worker"),
        ("devsup/show/console.py", "from devsup.config import Config", "show must not import devsup.config.Config"),
        ("devsup/supervisor.py", "from devsup.show import console", "supervisor must not import devsup.show.console"),
        ("devsup/run.py", "from devsup.cli import main", "run must not import devsup.cli.main"),
        ("devsup/events.py", "from devsup.bus import Bus", "events must not import devsup.bus.Bus"),
        ("devsup/system/worker.py", "from devsup_agent import hooks", "belongs to the guest"),
        ("devsup/supervisor.py", "from devsup.guest.devsup_agent import wire", "by devsup/system/link.py alone"),
        ("devsup/run.py", "from devsup.system.wire import encode", "by devsup/system/link.py alone"),
        ("devsup/config/source.py", "import sys\nsys.exit(2)", "only devsup/cli exits"),
        ("devsup/run.py", "from sys import exit", "only devsup/cli exits"),
        ("devsup/supervisor.py", "raise SystemExit(1)", "only devsup/cli exits"),
        ("devsup/supervisor.py", "raise SystemExit", "only devsup/cli exits"),
        ("devsup/guest/sitecustomize.py", "import psutil", "standard library alone"),
        ("devsup/guest/devsup_agent/x.py", "from devsup.events import Event", "standard library alone"),
        ("devsup/guest/devsup_agent/x.py", "import tomllib", "has no tomllib"),
        ("devsup/guest/devsup_agent/x.py", "from typing import Self", "has no typing.Self"),
        ("devsup/guest/devsup_agent/x.py", "match x:\n    case 1: pass", "no Python 3.9"),
        ("devsup/guest/devsup_agent/x.py", "try: pass\nexcept* OSError: pass", "no Python 3.9"),
        ("devsup/guest/devsup_agent/x.py", "def f(x: int | None): pass", "from __future__ import annotations"),
        ("devsup/guest/devsup_agent/x.py", "isinstance(x, int | str)", "cannot build the union"),
        ("devsup/guest/devsup_agent/x.py", "Address = tuple[str, int] | str", "cannot build the union"),
        ("devsup/guest/devsup_agent/x.py", "zip(a, b, strict=True)", "takes no strict="),
        ("devsup/guest/devsup_agent/x.py", "@dataclasses.dataclass(slots=True)\nclass A: pass", "takes no slots="),
        ("devsup/guest/devsup_agent/x.py", "anext(x)", "has no anext"),
        ("devsup/guest/devsup_agent/x.py", "def f():\n" + "    pass\n" * 60, "f has 61 lines"),
        ("devsup/run.py", "x = 1\n" * 401, "401 lines"),
    ],
)
def test_a_broken_rule_is_seen(path: str, text: str, complaint: str) -> None:
    complaints = broken_rules(Source(path, text))
    assert any(complaint in found for found in complaints), complaints


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("devsup/decide/policy.py", "import enum\nimport msgspec\nfrom devsup import events\nfrom .flapping import x"),
        ("devsup/show/console.py", "import rich\nfrom devsup import __version__, bus, status\nfrom .pages import page"),
        ("devsup/system/link.py", "from devsup.guest.devsup_agent import wire\nfrom devsup_agent.wire import encode"),
        (
            "devsup/system/worker.py",
            "import os\nfrom devsup.config import Service\nfrom devsup.system.link import Link",
        ),
        ("devsup/supervisor.py", "from devsup.decide import policy\nfrom devsup.system import worker"),
        ("devsup/run.py", "from devsup.show import console\nfrom devsup.supervisor import Supervisor"),
        ("devsup/cli/run.py", "import sys\nfrom devsup import run\nsys.exit(run.main())"),
        ("devsup/guest/devsup_agent/x.py", "import socket\nfrom . import wire\nfrom devsup_agent.link import Link"),
        ("devsup/guest/devsup_agent/x.py", "from __future__ import annotations\ndef f(x: int | None): pass"),
        ("devsup/guest/devsup_agent/x.py", "mask = select.POLLIN | select.POLLHUP\nzip(a, b)"),
        ("devsup/guest/devsup_agent/x.py", "if TYPE_CHECKING:\n    from typing import Self"),
        ("devsup/run.py", "def f():\n" + "    pass\n" * 59),
    ],
)
def test_what_is_allowed_is_left_alone(path: str, text: str) -> None:
    assert broken_rules(Source(path, text)) == []
