"""The program's own text: what does not compile, is not found, or is not what it is taken for."""

from __future__ import annotations

import difflib
import re

from devsup.decide.names import DISTRIBUTIONS
from devsup.decide.rules.case import Case, as_place
from devsup.events import Diagnosis


def syntax(case: Case) -> Diagnosis | None:
    """A file does not compile."""
    if case.raised is None or case.raised.name not in {"SyntaxError", "IndentationError", "TabError"} or not case.raised.frames:
        return None
    place = as_place(case.raised.frames[-1])
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
    if any(file.startswith(f"{top}/") for file in evidence.files):
        cause = f"There is no {tail}{case.where()} in the project"
        return Diagnosis(rule="module-not-found", cause=cause, remedy="Create it, or correct the import.", place=case.place)
    other = next((folder for folder, names in evidence.environments if top in names), "")
    if other:
        cause = f"Module {name} is installed in {case.project.short(other)}, but {evidence.interpreter} runs the program"
        remedy = f"devsup run --python {case.project.short(other)} …"
        return Diagnosis(rule="module-elsewhere-installed", cause=cause + case.where(), remedy=remedy, place=case.place)
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
    message = case.raised.message if case.raised is not None else ""
    if "factory" not in case.text or (case.raised is not None and "takes 0 positional arguments but" not in message):
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
    if case.project.is_own(path):
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


def relative_import(case: Case) -> Diagnosis | None:
    """A file of a package is run as a script."""
    if case.raised is None or "attempted relative import with no known parent package" not in case.raised.message:
        return None
    cause = f"A file of a package is run as a script, so its relative import{case.where()} has nothing to be relative to"
    remedy = "Run it from the folder above as a module: devsup run python -m PACKAGE.MODULE"
    return Diagnosis(rule="relative-import", cause=cause, remedy=remedy, place=case.place)
