"""Procfiles: the services in them, and whether each command does what it does under a shell."""

import os
import subprocess
from pathlib import Path

import pytest

from configs import write
from devsup.config import Service, load_file
from devsup.errors import UsageError


def services(folder: Path, text: str) -> dict[str, Service]:
    return load_file(write(folder, text, "Procfile")).services


def test_each_line_is_a_service_with_the_port_that_foreman_gives_it(folder: Path) -> None:
    text = "# all of it\nweb: uvicorn main:app --port $PORT\n\nworker:celery -A app worker\nmore_1: python x.py -p ${PORT:-80}\n"
    assert services(folder, text) == {
        "web": Service(command=("uvicorn", "main:app", "--port", "5000"), env={"PORT": "5000"}),
        "worker": Service(command=("celery", "-A", "app", "worker"), env={"PORT": "5100"}),
        "more_1": Service(command=("python", "x.py", "-p", "5200"), env={"PORT": "5200"}),
    }


def test_a_dotenv_beside_it_is_read_and_its_port_is_the_first(folder: Path) -> None:
    write(folder, "PORT=3000\n", ".env")
    found = services(folder, "web: x\napi: x\n")
    assert [each.env["PORT"] for each in found.values()] == ["3000", "3100"]
    assert found["api"].env_files == (".env",)


def test_a_dotenv_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / ".env").write_bytes(b"PORT=\xff\n")
    with pytest.raises(UsageError, match=r"\.env:1: byte 0xff is not UTF-8"):
        services(folder, "web: x\n")


def test_each_service_knows_its_line(folder: Path) -> None:
    config = load_file(write(folder, "# x\n\nweb: x\n", "Procfile"))
    assert config.origin("web", "command") == f"{folder}/Procfile:3"
    assert config.origin("web", "hold") == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web: x\npython main.py\n", ':2: this is "python main.py", where NAME: COMMAND belongs. Correct that line, or put a #'),
        ("web:\n", ':1: this is "web:", where NAME: COMMAND belongs.'),
        ("web: x\nweb: y\n", ":2: web is there for the second time. Give one of the two another name."),
    ],
)
def test_a_line_that_is_none_is_refused(folder: Path, text: str, said: str) -> None:
    path = write(folder, text, "Procfile")
    with pytest.raises(UsageError) as caught:
        load_file(path)
    assert f"{path}{said}" in str(caught.value)


COMMANDS = [
    "./show a b",
    "./show 'a b' \"c d\" e\\ f",
    "./show $PORT '$PORT' \"$PORT\" \"it's $PORT\" 'x'",
    "./show ${PORT} ${PORT:-1} ${PORT:+set} $PORTER",
    "A=1 B='x y' ./show",
    "A=$PORT ./show",
    "A=$HOME ./show",
    "PORT=7 ./show",
    "PORT=7 ./show > out && cat out",
    "./show $HOME",
    "./show *.txt",
    "./show '*.txt' \"?\"",
    "./show a # a comment",
    "./show a | cat",
    "./show a && ./show b; ./show c",
    "cd sub && ./show a",
    "(./show a)",
    "{ ./show a; }",
    "if true; then ./show a; fi",
    "exec ./show a",
    "export A=2; ./show",
    "! ./show a",
    "./show `echo a`",
    './show "`echo a`" \\$PORT',
    "./show 2>&1",
    "./show ~ a=b",
    "echo 'not closed",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_it_does_under_a_shell(folder: Path, command: str) -> None:
    """The program prints its words and variables; what foreman does is what `sh -c` does."""
    show = write(folder, '#!/bin/sh\nfor word; do echo "<$word>"; done\necho "$A $B $PORT"\n', "show")
    show.chmod(0o755)
    write(folder, "", "one.txt")
    (folder / "sub").mkdir()
    (folder / "sub" / "show").symlink_to(show)
    found = services(folder, f"web: {command}\n")["web"]

    def run(words: list[str], env: dict[str, str]) -> tuple[int, str]:
        done = subprocess.run(words, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert run(list(found.command), found.env) == run(["sh", "-c", command], {"PORT": "5000"})


def test_a_shell_runs_only_what_needs_one(folder: Path) -> None:
    shells = [command for command in COMMANDS if services(folder, f"web: {command}\n")["web"].command[0] == "sh"]
    assert [command for command in COMMANDS if command not in shells] == [
        "./show a b",
        "./show $PORT '$PORT' \"$PORT\" \"it's $PORT\" 'x'",
        "A=1 B='x y' ./show",
        "A=$PORT ./show",
        "PORT=7 ./show",
        "./show '*.txt' \"?\"",
    ]


def test_a_shell_makes_way_for_a_single_command(folder: Path) -> None:
    found = services(folder, "one: ./show > out\ntwo: ./show; ./show\n")
    assert [each.command[2] for each in found.values()] == ["exec ./show > out", "./show; ./show"]
