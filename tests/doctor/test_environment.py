"""The config, and the variables that it and the project count on: names are told, values never."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devsup import config
from devsup.doctor import Finding
from devsup.doctor.environment import configs, environment, variables
from harness import save

Examine = Callable[..., list[Finding]]

SECRET = "hunter2-hunter2"


def write(folder: Path, text: str) -> None:
    save(folder / "devsup.toml", f"[services.web]\n{text}\n")


# The config


def test_without_a_config_the_folder_is_looked_at(examine: Examine, folder: Path) -> None:
    [found] = examine(configs)
    assert (found.verdict, found.text) == ("ok", f"There is no devsup.toml; the folder {folder} is looked at.")


def test_a_config_with_its_services(examine: Examine, folder: Path) -> None:
    save(folder / "devsup.toml", '[services.web]\ntarget = "main:app"\n[services.job]\ncommand = "python job.py"\n')
    [found] = examine(configs)
    assert (found.verdict, found.text) == ("ok", f"{folder}/devsup.toml: services web, job.")


def test_one_that_cannot_be_understood_fails_with_its_line(examine: Examine, folder: Path) -> None:
    write(folder, 'comand = "python main.py"')
    [found] = examine(configs)
    assert (found.verdict, found.text.startswith(f"{folder}/devsup.toml:2: services.web.comand")) == ("fail", True)
    assert 'Did you mean "command"?' in found.remedy


def test_a_folder_that_is_not_there_fails(examine: Examine, folder: Path) -> None:
    write(folder, 'command = "python main.py"\ncwd = "api"')
    [found] = examine(configs)
    assert found.verdict == "fail"
    assert found.text == f"{folder}/devsup.toml:3: services.web.cwd is {folder}/api, which is no folder."
    assert found.remedy == f"mkdir -p {folder}/api"


# Env files


def test_all_is_set(examine: Examine, folder: Path) -> None:
    save(folder / "dev.env", "PORT=8000\n")
    write(
        folder, "command = ['sh', '-c', 'exec python main.py $PORT $SIZE $HOME']\nenv_files = ['dev.env']\nenv = { SIZE = '5' }"
    )
    [found] = examine(environment)
    assert found.verdict == "ok", found


def test_an_env_file_that_is_not_there_fails(examine: Examine, folder: Path) -> None:
    write(folder, "command = 'python main.py'\nenv_files = ['dev.env']")
    [found] = examine(environment)
    assert found.verdict == "fail"
    assert found.text == f"{folder}/devsup.toml:3: web: there is no env file {folder}/dev.env."


def test_one_that_is_not_text_fails(examine: Examine, folder: Path) -> None:
    (folder / "dev.env").write_bytes(b"NAME=\xff\n")
    write(folder, "command = 'python main.py'\nenv_files = ['dev.env']")
    [found] = examine(environment)
    assert (found.verdict, "dev.env cannot be read: " in found.text) == ("fail", True), found


def test_a_line_of_one_that_says_nothing_is_a_warning(examine: Examine, folder: Path) -> None:
    save(folder / "dev.env", f"# ours\nNAME=x\n{SECRET} is it\n")
    write(folder, "command = 'python main.py'\nenv_files = ['dev.env']")
    [found] = examine(environment)
    assert (found.verdict, found.text) == ("warn", "dev.env:3 is no NAME=VALUE, and is passed over.")


# Commands


def test_a_variable_that_nothing_sets_is_a_warning(examine: Examine, folder: Path) -> None:
    write(folder, "command = ['sh', '-c', 'exec python main.py --port $NOWHERE_PORT']")
    [found] = examine(environment)
    assert found.verdict == "warn"
    assert found.text == f"{folder}/devsup.toml:2: web: the command has $NOWHERE_PORT, and nothing sets that."


def test_a_variable_without_a_shell_is_a_warning_and_the_remedy_mends_it(
    examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PORT", "8000")
    write(folder, "command = 'python main.py --port $SOME_PORT'")
    [found] = examine(environment)
    assert found.verdict == "warn"
    assert "the command has $SOME_PORT, and no shell is there to put its value in" in found.text
    write(folder, found.remedy.partition(": ")[2])
    assert config.load(folder).services["web"].command == ("sh", "-c", "exec python main.py --port $SOME_PORT")
    assert [each.verdict for each in examine(environment)] == ["ok"]


def test_what_the_command_line_has_was_seen_to_by_its_shell(examine: Examine) -> None:
    assert [each.verdict for each in examine(environment, "python", "main.py", "$NOWHERE")] == ["ok"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("run $PORT ${HOST} $PORT", ["PORT", "HOST"]),
        ("run ${PORT:-8000} ${PORT-8000} ${PORT:=8000} ${PORT:+x} ${#}", []),
        ("run ${PORT:?} ${HOST%%.*}", ["PORT", "HOST"]),
        ("awk '{print $NF}' \"it's $PORT\"", ["PORT"]),
        (r"echo \$PORT $$ $? $1 $@", []),
        ("PORT=1; run $PORT", []),
        ("for FILE in a b; do run $FILE; done", []),
        ("read -r LINE; run $LINE", []),
        ("run --port=$PORT", ["PORT"]),
    ],
)
def test_the_variables_that_a_shell_would_look_up(text: str, names: list[str]) -> None:
    assert variables(text) == names


# Examples of a .env


@pytest.mark.parametrize("name", [".env.example", ".env.sample", ".env.template"])
def test_what_an_example_lists_and_nothing_sets_is_a_warning(examine: Examine, folder: Path, name: str) -> None:
    save(folder / name, f"# where it is\nexport NOWHERE_URL=\nNOWHERE_KEY={SECRET}\nHOME=\n")
    [found] = examine(environment)
    assert (found.verdict, found.text) == ("warn", f"{name} lists what nothing sets: NOWHERE_URL, NOWHERE_KEY.")
    assert found.remedy == f"cp {folder}/{name} {folder}/.env, then give it your values"


def test_what_is_set_somewhere_is_well(examine: Examine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder / ".env.example", "ONE=\nTWO=\nTHREE=\nFOUR=\n")
    save(folder / ".env", f"ONE={SECRET}\n")
    save(folder / "dev.env", "TWO=2\n")
    monkeypatch.setenv("THREE", "3")
    write(folder, "command = 'python main.py'\nenv_files = ['dev.env']\nenv = { FOUR = '4' }")
    assert [each.verdict for each in examine(environment)] == ["ok"]
    save(folder / ".env", f"OTHER={SECRET}\n")
    [found] = examine(environment)
    assert (found.verdict, found.text) == ("warn", ".env.example lists what nothing sets: ONE.")
    assert found.remedy == f"Add it to {folder}/.env"


def test_an_example_beside_a_service(examine: Examine, folder: Path) -> None:
    (folder / "api").mkdir()
    save(folder / "api" / ".env.example", "NOWHERE_URL=\n")
    write(folder, "command = 'python main.py'\ncwd = 'api'")
    [found] = examine(environment)
    assert (found.verdict, found.text) == ("warn", "api/.env.example lists what nothing sets: NOWHERE_URL.")


def test_an_example_that_is_not_text_is_a_warning(examine: Examine, folder: Path) -> None:
    (folder / ".env.example").write_bytes(b"\xff\xfe=")
    [found] = examine(environment)
    assert (found.verdict, "cannot be read" in found.text) == ("warn", True)
