"""What is around the program: settings, libraries, services, the system."""

from __future__ import annotations

import re
import sys

from devsup.decide.names import DISTRIBUTIONS, PORTS
from devsup.decide.rules.case import Case
from devsup.events import Diagnosis


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


_REFUSED = re.compile(r"connection refused|refused the network connection|\[Errno (?:111|61)\]", re.IGNORECASE)
_WHERE = re.compile(
    r"(?:\bconnecting to |\bat |\bhost=?\s*|\bto server at |\()"
    r"[\"']?([\w.-]{1,253})[\"']?(?:[^\d\n]{1,40}?)(?:port\D{0,3})?(\d{2,5})"
)


def refused(case: Case) -> Diagnosis | None:
    """A service that the program needs does not run."""
    errors = [raised for raised in case.chain if raised.name == "ConnectionRefusedError" or _REFUSED.search(raised.message)]
    if not errors:
        return None
    text = "\n".join(raised.message[:500] for raised in case.chain)
    found = _WHERE.search(text)
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


def cuda(case: Case) -> Diagnosis | None:
    """The graphics driver and the libraries do not fit."""
    text = case.text[-20_000:] if case.raised is None else case.raised.message
    if re.search(r"driver version is insufficient|InsufficientDriver|CUDA\D{0,40}\b35\b", text):
        cause = f"The CUDA driver is older than the CUDA runtime of the installed libraries (code 35){case.where()}"
        remedy = "Compare them: nvidia-smi. Update the driver, or install a build for the older CUDA."
    elif found := re.search(r"(?:libonnxruntime_providers_|Provider['\"]?\W{1,3})(tensorrt|cuda)\w*", text, re.IGNORECASE):
        cause = f"ONNX Runtime cannot load its {found[1]} provider{case.where()}: a library that it needs is missing"
        remedy = f'See which: ldd "$({case.evidence.interpreter} -c "import onnxruntime as o; print(o.__path__[0])")"/capi/*.so'
    elif re.search(r"CUDA error|cudaError|cuDNN error|CUDNN_STATUS", text):
        first = next((line for line in text.splitlines() if re.search("cud(a|nn)", line, re.IGNORECASE)), "")
        cause, remedy = f"CUDA failed{case.where()}: {first}", "See the driver and its memory: nvidia-smi"
    else:
        return None
    return Diagnosis(rule="cuda", cause=cause, sure=False, remedy=remedy, place=case.place)


def binary_mismatch(case: Case) -> Diagnosis | None:
    """Installed packages that were built for other versions of each other."""
    message = case.raised.message if case.raised is not None else ""
    if re.search(r"size changed, may indicate binary incompatibility|compiled using NumPy 1|_ARRAY_API not found", message):
        cause = f"A package was built for another version of numpy than the one that is installed{case.where()}"
        return Diagnosis(
            rule="version",
            cause=cause,
            remedy=f'{case.evidence.interpreter} -m pip install --upgrade "numpy<2"',
            sure=False,
            place=case.place,
        )
    found = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if not found or case.raised is None or case.raised.name != "AttributeError":
        return None
    module, name = found[1], found[2]
    file = f"{module.replace('.', '/')}"
    if {f"{file}.py", f"{file}/__init__.py"} & case.evidence.files or module.partition(".")[0] in sys.stdlib_module_names:
        return None
    top = module.partition(".")[0]
    cause = f"The installed {top} has no {module}.{name}{case.where()}"
    return Diagnosis(
        rule="version",
        cause=cause,
        sure=False,
        remedy=f"See its version: {case.evidence.interpreter} -m pip show {DISTRIBUTIONS.get(top, top)}",
        place=case.place,
    )


def question(case: Case) -> Diagnosis | None:
    """It asks, and nobody is there."""
    if case.raised is None or case.raised.name != "EOFError" or "reading a line" not in case.raised.message:
        return None
    cause = f"It asks a question on its standard input{case.where()}, and nobody is there to answer"
    return Diagnosis(
        rule="question", cause=cause, remedy="Run it on a terminal, or give it the answer as an option.", place=case.place
    )
