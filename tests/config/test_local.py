"""A developer's own file beside the team's, and where each value comes from."""

from pathlib import Path

import pytest

from configs import refusal, write
from devsup.config import Config, Probe, Service, load, load_file
from devsup.errors import UsageError

LOCAL = "devsup.local.toml"


@pytest.fixture
def both(folder: Path) -> Config:
    write(
        folder,
        """[services.web]
target = "main:app"
watch = ["a", "b"]
env = { A = "1", B = "2" }
depends_on = ["db"]
[services.web.probes]
ready = { http = "/", status = 200 }
live = { http = "/live", timeout = 1 }
[services.db]
command = "db"
""",
    )
    write(
        folder,
        """[services.web]
command = "python main.py"
watch = ["c"]
env.B = "3"
[services.web.probes]
ready = { tcp = 9 }
live = { timeout = "3s" }
[services.mine]
command = "x"
""",
        LOCAL,
    )
    return load(folder)


def test_tables_merge_and_everything_else_replaces(both: Config) -> None:
    assert both.services == {
        "web": Service(
            command=("python", "main.py"),
            watch=("c",),
            env={"A": "1", "B": "3"},
            depends_on={"db": "ready"},
            probes={"ready": Probe(tcp="9"), "live": Probe(http="/live", timeout=3.0)},
        ),
        "db": Service(command=("db",)),
        "mine": Service(command=("x",)),
    }


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ("web watch", f"{LOCAL}:3"),
        ("web env A", "devsup.toml:4"),
        ("web env B", f"{LOCAL}:4"),
        ("web depends_on db", "devsup.toml:5"),
        ("web probes ready tcp", f"{LOCAL}:6"),
        ("web probes live http", "devsup.toml:8"),
        ("web probes live timeout", f"{LOCAL}:7"),
        ("mine command", f"{LOCAL}:9"),
    ],
)
def test_each_value_knows_its_file_and_line(both: Config, folder: Path, keys: str, place: str) -> None:
    assert both.origin(*keys.split()) == str(folder / place)


@pytest.mark.parametrize("keys", ["web target", "web cwd", "web probes ready status", "web log keep", "db env A"])
def test_what_is_not_set_is_a_default(both: Config, keys: str) -> None:
    assert both.origin(*keys.split()) == "default"


def test_the_config_is_the_teams_file_and_names_both(both: Config, folder: Path) -> None:
    assert both.path == folder / "devsup.toml"
    assert both.files == (folder / "devsup.toml", folder / LOCAL)


def test_an_error_names_the_file_that_it_is_in(folder: Path) -> None:
    team, local = write(folder, "[services.web]\n\nhold = -1\n"), write(folder, "[services.web]\nfork = true\n", LOCAL)
    assert refusal(folder).startswith(f"{team}:3: services.web.hold is -1")
    write(folder, "[services.web]\nrelod = 1\n", LOCAL)
    assert refusal(folder).startswith(f"{local}:2: services.web.relod is not a key")
    write(folder, "[servces.web]\n", LOCAL)
    assert refusal(folder).startswith(f"{local}:1: servces is not a key")
    write(folder, "services = 1\n", LOCAL)
    assert refusal(folder).startswith(f"{local}:1: services is 1, where a table belongs")
    write(folder, "[services.web\n", LOCAL)
    assert refusal(folder).startswith(f"{local}:1: this is not TOML")


def test_it_goes_with_a_pyproject_too(folder: Path) -> None:
    team = write(folder, '[tool.devsup.services.web]\nreload = "off"\nhold = 1\n', "pyproject.toml")
    local = write(folder, "[services.web]\nhold = 2\n", LOCAL)
    config = load(folder)
    assert config.services == {"web": Service(reload="off", hold=2.0)}
    assert config.origin("web", "reload") == f"{team}:2"
    assert config.origin("web", "hold") == f"{local}:2"
    write(folder, "[services.web]\nhold = 2\nport = 0\n", LOCAL)
    assert refusal(folder).startswith(f"{local}:3: services.web.port is 0")


def test_one_alone_is_a_config(folder: Path) -> None:
    path = write(folder, "[services.web]\n", LOCAL)
    assert (load(folder).path, list(load(folder).services)) == (path, ["web"])


def test_a_file_by_name_is_read_whatever_it_is_called(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "[services.mine]\n", LOCAL)
    other = write(folder, "[services.other]\n", "other.toml")
    assert (load_file(other).path, list(load_file(other).services)) == (other, ["other"])
    monkeypatch.chdir(folder)
    assert list(load_file(write(folder, "[services.web]\n")).services) == ["web", "mine"]
    assert load_file(Path("devsup.toml")).path == folder / "devsup.toml"


def test_a_file_by_name_that_says_nothing_of_us(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no file .*/x.toml. Name one that exists, or write one: devsup init"):
        load_file(folder / "x.toml")
    with pytest.raises(UsageError, match=r"pyproject.toml has no table \[tool.devsup\]"):
        load_file(write(folder, "[project]\n", "pyproject.toml"))
