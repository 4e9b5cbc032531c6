"""Why a program has ended, and what to do about it: pure, a tuple of rules in order, the first that answers wins.

A rule that is not sure says so. What the program printed stays where it is: a diagnosis stands beside it, never in its place.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from devsup.decide import tracebacks
from devsup.decide.names import DISTRIBUTIONS, PORTS
from devsup.events import Diagnosis, Exit, Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from devsup.decide.tracebacks import Frame, Raised

_LONGEST = 280  # characters of a cause
_NATIVE = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}


class Evidence(NamedTuple):
    """What is known of an end. `files` are the project's Python files, relative to `folder`; `served` is in seconds."""

    exit: Exit
    output: list[str]
    folder: str
    interpreter: str
    files: frozenset[str] = frozenset()
    served: float | None = None
    listened: bool = False


class Case(NamedTuple):
    """Evidence, and what has been read off it: the exceptions, the last one, and all of the output as one text."""

    evidence: Evidence
    chain: tuple[Raised, ...]
    raised: Raised | None
    text: str

    def is_own(self, path: str) -> bool:
        """Whether a file is the user's own."""
        inside = path.startswith(f"{self.evidence.folder}/") or not path.startswith(("/", "<"))
        return inside and not re.search(r"/(site-packages|dist-packages|\.venv|venv|node_modules|lib/python3[\d.]*)/", path)

    @property
    def place(self) -> Place | None:
        """The deepest frame of the user's own, of the last exception that has one."""
        for raised in reversed(self.chain):
            for frame in reversed(raised.frames):
                if self.is_own(frame.file):
                    return _place(frame)
        return None

    def where(self) -> str:
        """That frame in words: " (main.py:3)"."""
        return f" ({self.short(self.place)})" if self.place is not None else ""

    def short(self, place: Place) -> str:
        """As people write it."""
        return f"{place.file.removeprefix(f'{self.evidence.folder}/')}:{place.line}"


def diagnose(evidence: Evidence) -> Diagnosis:
    """The cause as far as it can be told, the place, and the remedy."""
    chain = tracebacks.last(evidence.output)
    case = Case(evidence, chain, chain[-1] if chain else None, "\n".join(evidence.output))
    found = next(found for rule in RULES if (found := rule(case)) is not None)
    return msgspec.structs.replace(found, cause=_one_line(found.cause), remedy=_one_line(found.remedy))


def _one_line(text: str) -> str:
    """What a program has said may be anything: no line breaks, nothing that a terminal obeys, not longer than can be read."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text[:_LONGEST]).split())
    return plain if len(text) < _LONGEST else f"{plain}…"


def _place(frame: Frame) -> Place:
    return Place(file=frame.file, line=frame.line, function=_one_line(frame.function), source=_one_line(frame.source))


# -- the program's own text ---------------------------------------------------------------------------------------------


def syntax(case: Case) -> Diagnosis | None:
    """A file does not compile."""
    if case.raised is None or case.raised.name not in {"SyntaxError", "IndentationError", "TabError"} or not case.raised.frames:
        return None
    place = _place(case.raised.frames[-1])
    cause = f"{case.short(place)} does not compile: {case.raised.message}"
    return Diagnosis(rule="syntax", cause=cause, remedy="Correct it and save.", place=place)


def module_shadowed(case: Case) -> Diagnosis | None:
    """A file of the project has the name of a package."""
    found = case.raised and re.search(r"No module named '([\w.]+)'; '([\w.]+)' is not a package", case.raised.message)
    if not found:
        return None
    file = f"{found[2].replace('.', '/')}.py"
    cause = f"{found[1]} is not found, because {file} is imported in the place of the package {found[2]}"
    return Diagnosis(
        rule="module-shadowed", cause=cause, sure=file in case.evidence.files, remedy=f"Rename {file}.", place=case.place
    )


def module_not_found(case: Case) -> Diagnosis | None:
    """An import finds nothing."""
    found = case.raised and re.search(r"No module named '?([\w.]+)'?", case.raised.message)
    if not found or case.raised is None or case.raised.name not in {"ModuleNotFoundError", "ImportError"}:
        return None
    return _missing(case, found[1])


def target_module(case: Case) -> Diagnosis | None:
    """The server finds no module of the name that it was given."""
    found = re.search(r'Could not import module "([\w.]+)"|Could not import \'([\w.]+)\'\.', case.text)
    return _missing(case, found[1] or found[2], is_target=True) if found and case.raised is None else None


def _missing(case: Case, name: str, *, is_target: bool = False) -> Diagnosis:
    """A module that is nowhere on the path: in another folder, misspelled, or not installed."""
    evidence, tail = case.evidence, f"{name.replace('.', '/')}.py"
    elsewhere = sorted(file[: -len(tail)].rstrip("/") for file in evidence.files if file.endswith(f"/{tail}"))
    if elsewhere:
        cause = f"No module {name}{case.where()}: {elsewhere[0]}/{tail} is there, but its folder is not on the path"
        remedy = f"Run it there: devsup run --cwd {elsewhere[0]} …"
        return Diagnosis(rule="module-elsewhere", cause=cause, sure=False, remedy=remedy, place=case.place)
    own = {file.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".") for file in evidence.files}
    near = difflib.get_close_matches(name, own, 1, 0.75)
    if near or is_target:
        meant = f" Did you mean {near[0]}?" if near else ""
        cause = (
            f"There is no module {name}{case.where()}.{meant}".rstrip(".")
            if meant
            else f"There is no module {name} in {evidence.folder}"
        )
        return Diagnosis(rule="module-misspelled", cause=cause, sure=False, remedy="Correct the name.", place=case.place)
    top = name.partition(".")[0]
    cause = f"Module {name} is not installed in {evidence.interpreter}{case.where()}"
    remedy = f"{evidence.interpreter} -m pip install {DISTRIBUTIONS.get(top, top)}"
    return Diagnosis(rule="module-not-installed", cause=cause, remedy=remedy, place=case.place)


def target_attribute(case: Case) -> Diagnosis | None:
    """Uvicorn finds no app of that name."""
    found = re.search(r'Attribute "([\w.]+)" not found in module "([\w.]+)"', case.text)
    if not found:
        return None
    cause = f"Module {found[2]} has no {found[1]}"
    return Diagnosis(
        rule="target-attribute", cause=cause, remedy=f"Name the app that {found[2]} has: {found[2]}:NAME", place=case.place
    )


def flask_app(case: Case) -> Diagnosis | None:
    """Flask finds no app."""
    found = re.search(
        r"Failed to find (?:Flask application or factory in module '([\w.]+)'|attribute '(\w+)' in '([\w.]+)')", case.text
    )
    if not found:
        return None
    module = found[1] or found[3]
    cause = f"There is no Flask app {found[2] or ''} in module {module}".replace("  ", " ")
    return Diagnosis(rule="target-attribute", cause=cause, remedy=f"Name it: flask --app {module}:NAME run", place=case.place)


def factory(case: Case) -> Diagnosis | None:
    """What was named makes the app."""
    if "ASGI app factory detected" not in case.text and "takes 0 positional arguments but" not in case.text:
        return None
    if "factory" not in case.text:
        return None
    return Diagnosis(
        rule="factory",
        cause="The target makes an app, and is none itself",
        sure=False,
        remedy="Add --factory to the command.",
        place=case.place,
    )


def circular(case: Case) -> Diagnosis | None:
    """Two modules import each other."""
    found = case.raised and re.search(r"partially initialized module '([\w.]+)'", case.raised.message)
    if not found:
        return None
    cause = f"{found[1]} is imported while it is still being imported{case.where()}: the imports go round in a circle"
    remedy = "Move one of the imports into the function that needs it, or what both need into a module of its own."
    return Diagnosis(rule="circular-import", cause=cause, remedy=remedy, place=case.place)


def import_name(case: Case) -> Diagnosis | None:
    """A module has not what is imported from it: the user's own, or an installed one of another version."""
    found = case.raised and re.search(r"cannot import name '(\w+)' from '([\w.]+)' \((.+)\)", case.raised.message)
    if not found:
        return None
    name, module, path = found[1], found[2], found[3]
    near = re.search(r"Did you mean: '(\w+)'", case.text)
    if case.is_own(path):
        remedy = (
            f"Did you mean {near[1]}?"
            if near
            else f"Define it in {path.removeprefix(case.evidence.folder + '/')}, or correct the name."
        )
        return Diagnosis(rule="import-name", cause=f"{module} has no {name}{case.where()}", remedy=remedy, place=case.place)
    top = module.partition(".")[0]
    cause = f"The installed {top} has no {module}.{name}{case.where()}: its version and the code that imports it do not fit"
    remedy = f"{case.evidence.interpreter} -m pip install --upgrade {DISTRIBUTIONS.get(top, top)}"
    return Diagnosis(rule="version", cause=cause, sure=False, remedy=remedy, place=case.place)


# -- what is around it ------------------------------------------------------------------------------------------------


def setting(case: Case) -> Diagnosis | None:
    """A variable is not set."""
    raised = case.raised
    if raised is None:
        return None
    if raised.name == "KeyError" and raised.frames and re.search(r"(^|/)os\.py$|<frozen os>", raised.frames[-1].file):
        name = raised.message.strip("'\"")
        cause = f"The environment has no {name}{case.where()}"
    elif raised.name == "ValidationError" and (
        found := re.search(r"validation errors? for (\w+)\n(\w+)\n\s+Field required", raised.message)
    ):
        name, cause = found[2].upper(), f"{found[1]} needs a value for {found[2]}{case.where()}"
    else:
        return None
    remedy = f"Put {name}=… into .env and add --env-file .env, or set it: {name}=… devsup run …"
    return Diagnosis(rule="setting", cause=cause, remedy=remedy, place=case.place)


def shared_library(case: Case) -> Diagnosis | None:
    """A native module and the system do not fit."""
    message = case.raised.message if case.raised is not None else ""
    if found := re.search(r"(\S+\.so[\w.]*): cannot open shared object file", message):
        cause, remedy = f"The system has no {found[1]}{case.where()}", "Install the package of your system that has it."
    elif found := re.search(r"version [`'](GLIBC(?:XX)?_[\d.]+)' not found", message):
        cause, remedy = (
            f"A library needs {found[1]}, which is newer than this system's",
            "Install a version that was built for this system.",
        )
    elif found := re.search(r"(\S+): undefined symbol: (\w+)", message):
        cause, remedy = (
            f"{found[1]} does not fit the libraries beside it (undefined symbol {found[2]})",
            "Install the two again, together.",
        )
    else:
        return None
    return Diagnosis(rule="shared-library", cause=cause, remedy=remedy, place=case.place)


def refused(case: Case) -> Diagnosis | None:
    """A service that the program needs does not run."""
    errors = [raised for raised in case.chain if "refused" in raised.message.lower() or raised.name == "ConnectionRefusedError"]
    if not errors:
        return None
    text = "\n".join(raised.message for raised in case.chain)
    found = re.search(
        r"(?:connecting to |at |host=?\s*|to server at |\()[\"']?([\w.-]+)[\"']?(?:[^\d\n]{1,40}?)(?:port\D{0,3})?(\d{2,5})", text
    )
    port = int(found[2]) if found else 0
    what = f"{found[1]}:{port}{f' ({PORTS[port]})' if port in PORTS else ''}" if found else "where the program connects to"
    cause = f"Nothing listens on {what}{case.where()}" if found else f"Nothing listens {what}{case.where()}"
    remedy = f"Start it. See who listens: devsup port {port}" if port else "Start what it needs."
    return Diagnosis(rule="service-not-running", cause=cause, remedy=remedy, place=case.place)


def operating_system(case: Case) -> Diagnosis | None:
    """The system has refused something, with a number."""
    found = case.raised and re.search(r"\[Errno (\d+)\]", case.raised.message)
    number = int(found[1]) if found else 0
    causes = {
        13: (
            "permission",
            "Permission denied",
            "Ports below 1024 are root's: take one above. Files: see who may read them with ls -l.",
        ),
        24: ("file-limit", "Too many open files", "See what it keeps open, or raise the limit: ulimit -n 4096"),
        28: ("disk-full", "No space left", "See where: df -h. For file watches: sysctl fs.inotify.max_user_watches=524288"),
        98: ("address-in-use", "The address is in use", "See by whom: devsup port PORT"),
        48: ("address-in-use", "The address is in use", "See by whom: devsup port PORT"),
    }
    if number not in causes or case.raised is None:
        return None
    rule, what, remedy = causes[number]
    ports = re.findall(r"\b(\d{2,5})\b", case.raised.message.partition("]")[2])
    remedy = remedy.replace("PORT", ports[-1]) if ports else remedy
    return Diagnosis(rule=rule, cause=f"{what}{case.where()}: {case.raised.message}", remedy=remedy, place=case.place)


def running_loop(case: Case) -> Diagnosis | None:
    """An event loop inside another."""
    text = case.raised.message if case.raised is not None else ""
    if not re.search(
        r"asyncio\.run\(\) cannot be called from a running|event loop is already running|no running event loop", text
    ):
        return None
    cause = f"An event loop is started where one runs already, or used where none does{case.where()}"
    return Diagnosis(
        rule="event-loop", cause=cause, remedy="Inside a running loop, await the coroutine instead.", place=case.place
    )


# -- the end itself ---------------------------------------------------------------------------------------------------


def signalled(case: Case) -> Diagnosis | None:
    """It was ended from outside, or by its own native code."""
    number = case.evidence.exit.signal
    if number is None:
        return None
    if number in _NATIVE:
        cause = f"It crashed in native code ({_NATIVE[number]}){_healthy(case)}"
        return Diagnosis(rule="native-crash", cause=cause, remedy="See where: PYTHONFAULTHANDLER=1 devsup run …")
    if number == 9:  # SIGKILL
        cause = f"It was killed (SIGKILL){_healthy(case)}: by the kernel for want of memory, or by somebody"
        return Diagnosis(rule="killed", cause=cause, sure=False, remedy="See the kernel's log: dmesg | tail")
    return Diagnosis(rule="signal", cause=f"Somebody ended it with {case.evidence.exit.text}{_healthy(case)}", remedy="")


def exception(case: Case) -> Diagnosis | None:
    """Any other exception: what it says, and the deepest line of the user's own."""
    raised = case.raised
    if raised is None:
        return None
    lifespan = "Application startup failed" in case.text
    first = raised.message.partition("\n")[0]
    what = f"{raised.name}: {first}" if first else raised.name
    return Diagnosis(
        rule="lifespan" if lifespan else "exception",
        cause=f"{'Its start-up failed: ' if lifespan else ''}{what}{case.where()}",
        remedy="",
        place=case.place,
    )


def exited(case: Case) -> Diagnosis:
    """No exception is known of: the exit code, and the last words."""
    code = case.evidence.exit.code
    said = next((line.strip() for line in reversed(case.evidence.output) if line.strip()), "")
    if code == 0:
        return Diagnosis(
            rule="clean-exit", cause=f"It ended by itself{_healthy(case)}, and says that all is well (exit code 0)", remedy=""
        )
    return Diagnosis(
        rule="exit-code", cause=f"It ended with exit code {code}{_healthy(case)}{f': {said}' if said else ''}", remedy=""
    )


def _healthy(case: Case) -> str:
    return f" after {case.evidence.served:.1f} s of service" if case.evidence.served is not None else ""


RULES: tuple[Callable[[Case], Diagnosis | None], ...] = (
    signalled,
    syntax,
    module_shadowed,
    circular,
    module_not_found,
    target_module,
    target_attribute,
    flask_app,
    import_name,
    setting,
    shared_library,
    refused,
    running_loop,
    operating_system,
    factory,
    exception,
    exited,
)
