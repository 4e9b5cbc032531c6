"""What load finds, what it accepts, and what it says about everything else."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from configs import EXAMPLE, refusal, service, write
from devsup.config import Check, Config, Log, Probe, Service, choose, load
from devsup.errors import DevsupError, UsageError


def found(folder: Path) -> tuple[dict[str, Service], Path | None]:
    config = load(folder)
    return config.services, config.path


# Where it is looked for


def test_an_empty_config_knows_whether_there_is_a_file(folder: Path) -> None:
    assert found(folder) == ({}, None)
    path = write(folder, "")
    assert found(folder) == ({}, path)


def test_pyproject_holds_the_same_tables(folder: Path) -> None:
    path = write(folder, '[tool.devsup.services.web]\nreload = "off"\n', "pyproject.toml")
    assert found(folder) == ({"web": Service(reload="off")}, path)


def test_devsup_toml_beats_pyproject_beside_it(folder: Path) -> None:
    write(folder, "[tool.devsup.services.web]\n", "pyproject.toml")
    path = write(folder, "[services.api]\n")
    assert found(folder) == ({"api": Service()}, path)


def test_the_nearest_file_wins(folder: Path) -> None:
    write(folder, "[services.far]\n")
    write(folder / "near", "[tool.devsup.services]\nnear = {}\nalso = {}\n", "pyproject.toml")
    assert list(load(folder / "near" / "deep").services) == ["near", "also"]


@pytest.mark.parametrize(
    "text",
    [
        'tool = "devsup"\n',
        "[tool]\ndevsup-like = 1\n",
        '[project]\ndependencies = ["devsup"]\n',
        "broken, and not about us",
    ],
)
def test_a_pyproject_without_our_table_is_passed_over(folder: Path, text: str) -> None:
    write(folder / "inner", text, "pyproject.toml")
    path = write(folder, "")
    assert load(folder / "inner").path == path


def test_the_search_ends_at_the_repository(folder: Path) -> None:
    write(folder, "[services.outside]\n")
    repository = folder / "repository"
    repository.mkdir()
    (repository / ".git").write_text("gitdir: ../.git/worktrees/repository\n")
    (repository / "src").mkdir()
    assert found(repository / "src") == ({}, None)


def test_a_relative_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder, "")
    (folder / "src").mkdir()
    monkeypatch.chdir(folder / "src")
    assert load(Path()).path == path


# What it accepts


def test_a_command_is_words_or_a_list(folder: Path) -> None:
    words = ("python", "my main.py", "--port", "8000")
    assert service(folder, "command = \"python 'my main.py' --port 8000\"").command == words
    assert service(folder, 'command = ["python", "my main.py", "--port", "8000"]').command == words


def test_every_kind_of_value(folder: Path) -> None:
    text = """
        watch = ["templates/**/*.html"]
        watch_mode = "all"
        hold = 0
        exit_on_failure = true
        env = { command = "not split", PORT = "8000" }
        streams = { "/events" = "endless", "/answer" = "work" }
    """
    assert service(folder, text) == Service(
        watch=("templates/**/*.html",),
        watch_mode="all",
        hold=0.0,
        exit_on_failure=True,
        env={"command": "not split", "PORT": "8000"},
        streams={"/events": "endless", "/answer": "work"},
    )


def test_windows_line_ends(folder: Path) -> None:
    (folder / "devsup.toml").write_bytes(b'[services.web]\r\ncwd = "src"\r\nrelod = 1\r\n')
    assert "devsup.toml:3: services.web.relod" in refusal(folder)


# What it refuses


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('relod = "off"', 'is not a key of devsup. Did you mean "reload"? The keys allowed here are command, target, cwd,'),
        ("zzz = 1", "zzz is not a key of devsup. The keys allowed here are command, target, cwd,"),
        ('"a b" = 1', 'services.web."a b" is not a key of devsup.'),
        ('reload = "drian"', 'is "drian", where "drain", "handover", "restart" or "off" belongs. Did you mean "drain"?'),
        ("reload = false", 'is false, where "drain", "handover", "restart" or "off" belongs. Correct the line, or delete it'),
        ('watch_mode = "none"', 'is "none", where "imported" or "all" belongs.'),
        ("drain_timeout = 0", 'is 0, where a duration above 0 such as 5 (seconds) or "2m" belongs. Correct the line'),
        ('drain_timeout = "1 week"', 'is "1 week", where a duration above 0 such as 5'),
        ("gate_timeout = inf", "is inf, where a duration above 0 such as 5"),
        ("stop_timeout = -1", 'is -1, where a duration such as 5 (seconds) or "2m" belongs.'),
        ("hold = nan", "is nan, where a duration such as 5"),
        ("hold = true", "is true, where a duration"),
        ('exit_on_failure = "yes"', 'is "yes", where true or false belongs. Correct the line, or delete it.'),
        ('command = " "', 'is " ", where a string or a list of strings, not empty, belongs.'),
        ("command = []", "is [], where a string or a list of strings, not empty, belongs."),
        ('command = "echo \'a"', 'is "echo \'a", which cannot be split into words: no closing quotation.'),
        ('watch = "*.html"', 'is "*.html", where a list of strings belongs.'),
        ('watch = ["*.html", 1]', 'is ["*.html",1], where a list of strings belongs.'),
        ("cwd = 1979-05-27", 'is "1979-05-27", where a string that is not empty belongs.'),
        ('python = ""', 'is "", where a string that is not empty belongs.'),
        ("env = 3", "services.web.env is 3, where a table of strings belongs."),
        ("env = { PORT = 8000 }", 'env.PORT is 8000, where a string belongs. Write it in quotes: PORT = "8000".'),
        ("env = { drain_timeout = [] }", "is [], where a string belongs. Correct the line, or delete it."),
        ('streams = { "/a" = "endles" }', 'streams."/a" is "endles", where "work" or "endless" belongs. Did you mean'),
        ("probe = 'udp'", 'probe is "udp", where "tcp", "http:/PATH" or "http:/PATH#FIELD" belongs.'),
        ('probe = "http://elsewhere/"', "probe is"),
        (f'cwd = ["{"x" * 90}"]', f'is ["{"x" * 57}…, where'),
    ],
)
def test_a_bad_line_is_quoted_with_its_place(folder: Path, lines: str, said: str) -> None:
    path = write(folder, f"# a comment\n\n[services.web]\n{lines}\n[services.other]\n")
    message = refusal(folder)
    assert message.startswith(f"{path}:4: services.web.")
    assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sevices.web]\n", ':1: sevices is not a key of devsup. Did you mean "services"?'),
        ('\ncommand = "x"\n', ":2: command is not a key of devsup. It belongs to a service: put it below a line [serv"),
        ("services = 3\n", ":1: services is 3, where a table belongs. Make it a table: [services.NAME]."),
        ("[[services]]\nx = 1\n", ':1: services is [{"x":1}], where a table belongs.'),
        ('[services]\nweb = "python main.py"\n', ":2: services.web is"),
    ],
)
def test_a_bad_table(folder: Path, text: str, said: str) -> None:
    path = write(folder, text)
    assert refusal(folder).startswith(f"{path}{said}")


def test_pyproject_keys_are_named_in_full(folder: Path) -> None:
    path = write(folder, '[project]\nname = "x"\n[tool.devsup.services.web]\nhold = -1\n', "pyproject.toml")
    assert refusal(folder).startswith(f"{path}:4: tool.devsup.services.web.hold is -1")
    write(folder, "[tool]\ndevsup = 3\n", "pyproject.toml")
    message = refusal(folder)
    assert message.startswith(f"{path}:2: tool.devsup is 3, where a table belongs.")
    assert message.endswith("[tool.devsup.services.NAME].")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[services.web]\nenv = { A = """\nhold = 1\n""" }\nhold = -1\n', 5),
        ("[services.web]\nwatch = [\n  'hold = 1',\n]\nhold = -1\n", 5),
        ("[services.api]\nhold = 1\n[services.web]\nhold = -1\n", 4),
        ("[services]\nweb.cwd = 'x'\nweb.hold = -1\n", 3),
        ('services."web"."hold" = -1\n', 1),
        ("[services.web] # hold\n  'hold' = -1 # seconds\n", 2),
        ("[services]\nweb = { cwd = 'x', hold = -1 }\n", 2),
        ("[services.web]\nwatch = [\n]\nhold = [\n  1,\n]\n", 4),
        ("[services.web]\n[services.web.hold]\nx = 1\n", 2),
    ],
)
def test_the_line_is_that_of_the_key(folder: Path, text: str, line: int) -> None:
    path = write(folder, text)
    assert refusal(folder).startswith(f"{path}:{line}: services.web.hold is")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[services.web]\nhold = = 1\n", ":2: this is not TOML: invalid value at column 8. Correct that line."),
        ("[services.web]\n[services.web]\n", ":2: this is not TOML: cannot declare"),
        ('[services.web]\n\ncwd = """\n', ":3: this is not TOML: "),
    ],
)
def test_a_syntax_error_has_its_line(folder: Path, text: str, said: str) -> None:
    path = write(folder, text)
    assert refusal(folder).startswith(f"{path}{said}")


def test_a_broken_pyproject_that_is_about_us(folder: Path) -> None:
    path = write(folder, "[tool.devsup\n", "pyproject.toml")
    assert refusal(folder).startswith(f"{path}:1: this is not TOML")


def test_bytes_that_are_not_utf8(folder: Path) -> None:
    path = folder / "devsup.toml"
    path.write_bytes(b'[services.web]\ncwd = "caf\xe9"\n')
    assert refusal(folder) == f"{path}:2: byte 0xe9 is not UTF-8. Save the file as UTF-8."


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    path = folder / "devsup.toml"
    path.mkdir()
    assert refusal(folder) == f'{path} could not be read: Is a directory. Look at it with "ls -ld {path}".'


# Which service


def test_a_lone_service_needs_no_name() -> None:
    only = Service(cwd="src")
    assert choose(Config({"web": only}, None), None) == ("web", only)
    assert choose(Config({"web": only}, None), "web") == ("web", only)
    assert choose(Config({}, None), None) == ("app", Service())


@pytest.mark.parametrize(
    ("services", "path", "name", "said"),
    [
        (["web", "api"], "devsup.toml", None, 'devsup.toml has several services: web, api. Name one of them, as in "'),
        (["web", "api"], "devsup.toml", "wbe", 'called "wbe". Did you mean "web"? The services are web, api.'),
        (["web"], "devsup.toml", "zzz", 'devsup.toml has no service called "zzz". The services are web.'),
        ([], None, "web", 'No service is called "web": there is no config file. Add a [services.web] table'),
        ([], "devsup.toml", "web", 'No service is called "web": devsup.toml has no services.'),
    ],
)
def test_no_service_to_choose(services: list[str], path: str | None, name: str | None, said: str) -> None:
    config = Config({each: Service() for each in services}, Path(path) if path else None)
    with pytest.raises(UsageError) as caught:
        choose(config, name)
    assert said in str(caught.value)


# The example, the errors, the cost


def test_the_example_shows_every_key_with_its_default(folder: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    write(folder, text)
    assert load(folder).services == {"web": Service()}
    shown = {line.removeprefix("# ").split(" = ")[0] for line in text.splitlines() if " = " in line}
    shown |= {"log", "probes", "checks"}
    assert set(Service.__struct_fields__) | set(Log.__struct_fields__) <= shown


def test_the_example_shows_every_key_of_a_probe_with_its_default() -> None:
    shown = _described("[services.web.probes]", "[services.web.checks]")
    assert list(shown) == list(Probe.__struct_fields__)
    alike = ("every", "timeout", "on_stall", "events")
    assert msgspec.convert({**{key: shown[key] for key in alike}, "every": 5, "timeout": 2}, Probe) == Probe()


def test_the_example_shows_every_key_of_a_check_with_its_default() -> None:
    shown = _described("[services.web.checks]", "# no more")
    assert {*shown, "max", "median", "p95"} == set(Check.__struct_fields__)  # budgets are told of in one line
    alike = ("method", "headers", "fields", "has_headers", "send", "events", "runs", "warm_up", "error_rate")
    assert msgspec.convert({key: shown[key] for key in alike}, Check) == Check()
    assert shown["timeout"] == f"{Check().timeout:g}s"


def _described(after: str, before: str) -> dict[str, Any]:
    """The keys that the example tells of in comments, between two headers."""
    text = EXAMPLE.read_text("utf-8").partition(after)[2].partition(before)[0]
    return tomllib.loads("\n".join(line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")))


def test_the_checks_of_the_example_load(folder: Path) -> None:
    text = EXAMPLE.read_text("utf-8").partition("[services.web.checks]\n")[2].partition("\n\n")[0]
    checks = service(folder, f"[services.web.checks]\n{text.replace('# ', '')}").checks
    assert list(checks) == ["items", "login", "chat", "stream", "quick"]
    assert checks["chat"] == Check(ws="/ws/chat", send=("hello",), receive=("^hello",), timeout=5)
    assert checks["quick"].budgets == {"median": 0.02, "p95": 0.1, "max": 1.0}


def test_the_probes_of_the_example_load(folder: Path) -> None:
    text = EXAMPLE.read_text("utf-8").partition("[services.web.probes]\n")[2].partition("\n\n")[0]
    probes = service(folder, f"[services.web.probes]\n{text.replace('# ', '')}").probes
    assert list(probes) == ["ready", "live", "progress", "stream", "file", "log"]
    assert probes["progress"] == Probe(http="/status", field="aggregated_count", grows_within=10, on_stall="warn")
    assert probes["log"].never == ("CUDA error", "500 Internal Server Error")


def test_the_values_that_the_example_leaves_out_load_too(folder: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    write(folder, text.replace("# command = [", "command = [").replace("# python = ", "python = "))
    found = load(folder).services["web"]
    assert found == Service(command=("uvicorn", "main:app", "--port", "8000"), python=".venv")


def test_the_examples_of_the_documentation_load(folder: Path) -> None:
    texts = re.findall(r"```toml\n(.*?)```", (EXAMPLE.parent / "docs" / "config.md").read_text("utf-8"), re.DOTALL)
    assert len(texts) == 5
    for text in texts:
        write(folder, text)
        assert load(folder).services


def test_an_error_reads_as_two_sentences() -> None:
    plain, coded, usage = DevsupError("It broke."), DevsupError("It broke.", "Mend it.", exit_code=3), UsageError("No.")
    assert [str(each) for each in (plain, coded, usage)] == ["It broke.", "It broke. Mend it.", "No."]
    assert [each.exit_code for each in (plain, coded, usage)] == [1, 3, 2]


def test_importing_it_is_cheap() -> None:
    heavy = ["asyncio", "anyio", "rich", "psutil", "difflib", "tomllib"]
    code = f"import sys, devsup.config; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
