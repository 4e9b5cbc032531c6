"""`devsup config`: what it prints, what it keeps to itself, and how it refuses."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from configs import EXAMPLE, write
from devsup.config import load, load_file
from devsup.config.schema import schema
from devsup.config.writing import as_toml, literal

TEXT = """[services.web]
command = "python 'my main.py'"
port = 8000
depends_on = ["db"]
[services.web.env]
API_KEY = "AbCdEfGh12"
TOKEN = "abc"
URL = "postgres://me:hidden99@db/x"
PLAIN = "yes"
[services.web.probes]
ready = { http = "/status", timeout = "500ms" }
db = { command = "check --key AbCdEfGh12" }
[services.db]
command = "db"
"""


def config(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devsup", "config", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_each_line_says_where_it_was_set(folder: Path) -> None:
    write(folder, TEXT)
    write(folder, "[services.web]\nport = 8001\n", "devsup.local.toml")
    done = config(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"# {folder}/devsup.toml",
        f"# {folder}/devsup.local.toml",
        "",
        "[services.web]",
        "command = \"python 'my main.py'\"  # devsup.toml:2",
        "port = [8001]  # devsup.local.toml:2",
        "",
        "[services.web.env]",
        'API_KEY = "•••"  # devsup.toml:6',
        'TOKEN = "•••"  # devsup.toml:7',
        'URL = "postgres://me:•••@db/x"  # devsup.toml:8',
        'PLAIN = "yes"  # devsup.toml:9',
        "",
        "[services.web.depends_on]",
        'db = "ready"  # devsup.toml:4',
        "",
        "[services.web.probes.ready]",
        'http = "/status"  # devsup.toml:11',
        "timeout = 0.5  # devsup.toml:11",
        "",
        "[services.web.probes.db]",
        "command = \"check --key '•••'\"  # devsup.toml:12",
        "",
        "[services.db]",
        'command = "db"  # devsup.toml:14',
    ]


@pytest.mark.parametrize("defaults", [True, False])
def test_what_it_prints_loads_as_the_same(folder: Path, defaults: bool) -> None:
    write(folder, TEXT.replace("API_KEY", "A").replace("TOKEN", "B").replace("me:hidden99@", ""))
    found = load(folder)
    text = as_toml(found, defaults=defaults)
    assert load_file(write(folder, text, "printed.toml")).services == found.services
    assert ("  # default" in text) == defaults


def test_with_all_the_defaults_are_there(folder: Path) -> None:
    printed = tomllib.loads(config(folder, "--all", "-f", str(EXAMPLE)).stdout)["services"]["web"]
    assert printed["drain_timeout"] == 60
    assert printed["log"] == {"max_size": 50_000_000, "max_age": 604_800, "keep": 3}
    assert printed["env"] == {}


def test_json_has_all_values_and_their_places(folder: Path) -> None:
    path = write(folder, TEXT)
    found = json.loads(config(folder, "--json").stdout)
    assert found["files"] == [str(path)]
    assert found["services"]["web"]["command"] == ["python", "my main.py"]
    assert found["services"]["web"]["env"]["API_KEY"] == "•••"
    assert found["origins"]["web.command"] == f"{path}:2"
    assert found["origins"]["web.depends_on.db"] == f"{path}:4"
    assert found["origins"]["web.hold"] == "default"
    assert "AbCdEfGh12" not in str(found)


def test_a_procfile_becomes_toml(folder: Path) -> None:
    path = write(folder, "web: uvicorn main:app --port $PORT\n", "Procfile")
    done = config(folder, "-f", "Procfile")
    assert 'command = "uvicorn main:app --port 5000"  # Procfile:1\n' in done.stdout
    assert load_file(write(folder, done.stdout, "other.toml")).services == load_file(path).services


def test_the_schema_needs_no_config(folder: Path) -> None:
    assert json.loads(config(folder, "--schema").stdout) == json.loads(json.dumps(schema()))


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (None, [], "devsup: There is no devsup.toml in {folder} or above. Let devsup write one: devsup init\n"),
        ("[services.web]\nhold = -1\n", [], "devsup: {folder}/devsup.toml:2: services.web.hold is -1, where a duration"),
        ("", ["-f", "x.toml"], "devsup: There is no file {folder}/x.toml."),
    ],
)
def test_it_refuses_with_2(folder: Path, text: str | None, words: list[str], said: str) -> None:
    if text is not None:
        write(folder, text)
    done = config(folder, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said.format(folder=folder))


@pytest.mark.parametrize("value", ["", 'a"b\\c\n\x00\x7f\u2028é', ["a", 1, 0.5, True], {"a b": [], "c": {"d": "e"}}, {}])
def test_a_literal_is_toml(value: object) -> None:
    assert tomllib.loads(f"x = {literal(value)}")["x"] == value
