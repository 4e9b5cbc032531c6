"""What is said of an end, from what real programs printed at theirs (`exits/record.py` writes it down again)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from devsup.decide.rules import Evidence, diagnose
from devsup.events import Diagnosis, Exit, Place
from devsup.explain import last_raised, sourced
from devsup.system.blackbox import Left, parse

EXITS = Path(__file__).with_name("exits")


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXITS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROGRAMS = {each.name: each for each in load("programs").PROGRAMS}
RECORDED = {each["name"]: each for each in json.loads((EXITS / "recorded.json").read_text())}


def said_of(name: str, **more: Any) -> Diagnosis:
    recorded = RECORDED[name]
    status = recorded["status"]
    ended = Exit(code=status) if status >= 0 else Exit(signal=-status)
    evidence = Evidence(ended, recorded["output"], "/project", "/venv/bin/python", frozenset(recorded["files"]))
    return diagnose(evidence._replace(**more))


def left(name: str) -> dict[str, Any]:
    """What devsup's agent knew of it."""
    found = parse("\n".join(RECORDED[name]["left"]))
    pid = next((each["pid"] for each in found.exceptions if each["where"] == "begin"), 0)
    exceptions, guess = last_raised(found, pid)
    return {"exceptions": exceptions, "guess": guess, "native": found.text}


def test_every_program_is_recorded() -> None:
    assert list(RECORDED) == list(PROGRAMS)


@pytest.mark.parametrize("agent", [True, False], ids=["agent", "blind"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_cause(name: str, agent: bool) -> None:
    found, expected = said_of(name, **(left(name) if agent else {})), PROGRAMS[name]
    assert (found.rule, expected.says in found.cause) == (expected.rule, True), found.cause


@pytest.mark.parametrize("name", ["rich-box", "chained", "in-a-library", "not-installed", "a-note", "deep", "custom-error"])
def test_what_the_agent_has_seen_needs_no_output(name: str) -> None:
    found, expected = said_of(name, output=[], **left(name)), PROGRAMS[name]
    assert (found.rule, expected.says in found.cause) == (expected.rule, True), found.cause


def test_notes_and_what_came_before_are_evidence() -> None:
    assert "note: while reading port" in said_of("a-note", **left("a-note")).evidence
    assert "before it: KeyError: 'x'" in said_of("rich-box-chained").evidence


def test_where_native_code_has_crashed() -> None:
    found = said_of("segfault-in-a-library", **left("segfault-in-a-library"))
    assert found.place is not None
    assert (found.place.line, found.place.function) == (3, "load_model")
    assert "in ctypes.string_at, called from main.py:3" in found.cause


def test_a_kill_for_want_of_memory() -> None:
    found = said_of("killed", oom_kills=(1, 1), peak=3 << 30, served=8.1)
    assert (found.rule, found.sure) == ("out-of-memory", False), "they may have been somebody else's"
    assert found.cause == "The kernel killed it for want of memory, with 3072 MiB after 8.1 s of service"
    assert said_of("killed").rule == "killed"


def test_a_server_that_never_came_up_and_says_that_all_is_well() -> None:
    assert "before it listened on 127.0.0.1:8000" in said_of("clean", intended="127.0.0.1:8000").cause


def test_what_was_printed_while_it_served_is_only_probable() -> None:
    assert not said_of("logged", served=10.0).sure


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_said_is_one_line(name: str) -> None:
    found = said_of(name)
    assert "\n" not in found.cause + found.remedy
    assert len(found.cause) < 300


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_its_output_nothing_is_made_up(name: str) -> None:
    found = said_of(name, output=[])
    assert found.rule in {"clean-exit", "exit-code", "native-crash", "killed", "signal"}
    assert found.place is None


@pytest.mark.parametrize(
    ("name", "file", "line", "source"),
    [
        ("syntax-of-a-module", "/project/other.py", 2, "y = = 2"),
        ("lifespan", "/project/main.py", 6, "raise RuntimeError('no model here')"),
        ("in-a-library", "/project/main.py", 2, "json.loads('{')"),
        ("circular", "/project/b.py", 1, "from a import x"),
        ("not-installed", "/project/main.py", 1, "import nosuchpackage"),
    ],
)
def test_the_place_is_in_the_users_own_code(name: str, file: str, line: int, source: str) -> None:
    place = said_of(name).place
    assert place is not None
    assert (place.file, place.line, place.source) == (file, line, source)


def test_how_long_it_had_served_is_said() -> None:
    assert "after 8.1 s of service" in said_of("segfault", served=8.1).cause


@pytest.mark.parametrize("cut", range(0, 100, 7))
def test_output_that_is_cut_anywhere_is_read_all_the_same(cut: int) -> None:
    for name, recorded in RECORDED.items():
        lines = recorded["output"]
        found = said_of(name, output=lines[len(lines) * cut // 100 :])
        assert found.cause
        assert said_of(name, output=lines[: len(lines) * cut // 100]).cause


HOSTILE = [
    ["Traceback (most recent call last):", '  File "/project/main.py", line 1, in f', "    f()", "Error: " + "x" * 10_000_000],
    [
        "Traceback (most recent call last):",
        '  File "/project/main.py", line 1, in \x1b]0;owned\x07',
        "    \x1b[2J",
        "Er\x1b[2Jror: \x07",
    ],
    ["x" * 1_000_000 + "!"] * 3,
    ["Traceback (most recent call last):"] * 10_000,
    ["Traceback (most recent call last):", "a" * 1_000_000 + " !"],
    ['  File "", line 99999999999999999999'],
    ["  | " * 1000 + "Traceback (most recent call last):"],
    ["SyntaxError: invalid syntax", '  File "x", line 1'],
    ["\udcff\udcfe", "[Errno 99999999999]", "No module named '" + "a." * 5000 + "b'"],
]


@pytest.mark.parametrize("output", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_a_program_prints_is_said_in_one_plain_line(output: list[str]) -> None:
    found = diagnose(Evidence(Exit(code=1), output, "/project", "/venv/bin/python"))
    for text in (found.cause, found.remedy, *([found.place.source, found.place.function] if found.place else [])):
        assert text == "" or text.isprintable()
        assert len(text) <= 300


def test_a_log_between_the_lines_of_a_traceback_is_none_of_it() -> None:
    output = [
        "ERROR:    Traceback (most recent call last):",
        '  File "/project/main.py", line 3, in home',
        "INFO:     127.0.0.1:5 - GET /",
        "    1 / 0",
        "ZeroDivisionError: division by zero",
    ]
    assert (
        diagnose(Evidence(Exit(code=3), output, "/project", "python")).cause == "ZeroDivisionError: division by zero (main.py:3)"
    )


def test_a_module_that_another_environment_of_the_project_has() -> None:
    found = said_of("not-installed", environments=(("/project/.venv", frozenset({"nosuchpackage"})),))
    assert found.rule == "module-elsewhere-installed"
    assert found.cause == "Module nosuchpackage is installed in .venv, but /venv/bin/python runs the program (main.py:1)"
    assert found.remedy == "devsup run --python .venv …"


def judged(output: str, code: int = 1, **more: Any) -> Diagnosis:
    return diagnose(Evidence(Exit(code=code), output.splitlines(), "/project", "python")._replace(**more))


def trace(last: str) -> str:
    return f'Traceback (most recent call last):\n  File "/project/main.py", line 3, in f\n    f()\n{last}'


@pytest.mark.parametrize("message", ["Refused to start: SECRET_KEY is too short", "ACCESS_REFUSED - Login was refused"])
def test_not_everything_that_is_refused_is_a_connection(message: str) -> None:
    assert judged(trace(f"ValueError: {message}")).rule == "exception"


@pytest.mark.parametrize(("code", "rule"), [(150, "exit-code"), (137, "killed"), (139, "native-crash"), (143, "signal")])
def test_exit_codes_of_signals_are_only_probable(code: int, rule: str) -> None:
    found = judged("", code)
    assert (found.rule, found.sure) == (rule, rule == "exit-code")


def test_a_factory_that_works_is_not_what_failed() -> None:
    warned = "WARNING:  ASGI app factory detected. Using it, but please consider setting the --factory flag explicitly.\n"
    failed = trace("RuntimeError: no model file") + "\n\nERROR:    Application startup failed. Exiting.\n"
    assert judged(warned + failed, 3).cause == "Its start-up failed: RuntimeError: no model file (main.py:3)"


def test_a_message_that_is_made_for_regular_expressions_is_read_in_no_time() -> None:
    found = judged(trace("OSError: connection refused " + "host" * 5000))
    assert found.rule == "service-not-running"


CRASHED = (
    "Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 (most recent call first):\n"
    '  File "/project/tool.py", line 4 in f\n'
)


def test_a_crash_of_a_process_that_it_had_started_is_not_its_own() -> None:
    found = judged(trace("KeyError: 'port'"), native=CRASHED)
    assert found.cause == "KeyError: 'port' (main.py:3)"
    assert not any("native" in each for each in found.evidence)


def test_what_a_process_that_it_had_started_has_died_of_is_not_its_own() -> None:
    tool = {"where": "main", "pid": 8, "chain": [{"type": "ValueError", "message": "no", "notes": [], "frames": []}]}
    begun = {"where": "begin", "pid": 7}
    assert last_raised(Left([begun, tool], ""), 7) == ((), True)
    chain, guess = last_raised(Left([tool], ""), 7)
    assert (chain[0].type, guess) == ("ValueError", True), "behind a launcher without an agent it probably is"
    assert not judged("", 7, exceptions=chain, guess=True).sure


def test_what_an_exception_names_as_its_file_is_looked_at_before_it_is_read(tmp_path: Path) -> None:
    large = tmp_path / "large.py"
    large.write_text("x\n" * (2 << 20))
    places = [Place(file, 1) for file in ("/dev/zero", "/nosuch", "\0", "\udcff", str(large), str(tmp_path))]
    assert [each.source for each in sourced(places)] == [""] * len(places)
    assert sourced([Place(__file__, 3)])[0].source == "from __future__ import annotations"
