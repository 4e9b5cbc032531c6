"""The keys of teams: what they accept, and what is said of what cannot be."""

from pathlib import Path
from typing import Any

import pytest

from configs import refusal, service, write
from devsup.config import KINDS, Config, Log, Probe, Service, choose_all, load
from devsup.errors import UsageError

# What it accepts


def test_every_new_key(folder: Path) -> None:
    write(folder, "[services.db]\n[services.migrate]\n", "devsup.local.toml")
    text = """
        target = "app:app"
        port = 8000
        depends_on = { db = "started", migrate = "completed" }
        restart = "always"
        start_timeout = "2m"
        stop_signal = "INT"
        [services.web.log]
        max_size = "1.5 MiB"
        max_age = "12h"
        keep = 0
        [services.web.probes]
        ready = { http = "/status", status = 204, timeout = "500ms" }
        mode = { http = "http://127.0.0.1:9001/status", field = "a.b", equals = false }
        db = { tcp = 5432 }
        queue = { command = "pg_isready -q" }
    """
    assert service(folder, text) == Service(
        target="app:app",
        port=(8000,),
        depends_on={"db": "started", "migrate": "completed"},
        restart="always",
        start_timeout=120.0,
        stop_signal="INT",
        log=Log(max_size=1572864, max_age=43200.0, keep=0),
        probes={
            "ready": Probe(http="/status", status=204, timeout=0.5),
            "mode": Probe(http="http://127.0.0.1:9001/status", field="a.b", equals=False),
            "db": Probe(tcp="5432"),
            "queue": Probe(command=("pg_isready", "-q")),
        },
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("5", 5.0), ("0.5", 0.5), ('"500ms"', 0.5), ('"5s"', 5.0), ('"2m"', 120.0), ('"1.5h"', 5400.0), ('"7 d"', 604800.0)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(folder: Path, written: str, seconds: float) -> None:
    assert service(folder, f"drain_timeout = {written}").drain_timeout == seconds


def test_a_list_of_dependencies_means_ready(folder: Path) -> None:
    write(folder, "[services.db]\n", "devsup.local.toml")
    assert service(folder, 'depends_on = ["db"]').depends_on == {"db": "ready"}


def test_ports_are_one_or_several(folder: Path) -> None:
    assert service(folder, "port = 1").port == (1,)
    assert service(folder, "port = [8000, 65535]").port == (8000, 65535)


def test_the_words_to_run_are_the_command_or_the_target() -> None:
    assert Service(command=("python", "main.py")).words == ("python", "main.py")
    assert Service(target="main:app").words == ("main:app",)
    assert Service().words == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_knows_its_kind(kind: str) -> None:
    value: Any = ("x",) if kind in {"command", "never"} else "x"
    assert Probe(**{kind: value}).kind == kind


# Values that do not belong


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('target = ""', 'target is "", where a string that is not empty belongs.'),
        ("port = 0", "port is 0, where a port from 1 to 65535, or a list of them, belongs."),
        ("port = [8000, 65536]", "port is [8000,65536], where a port from 1 to 65535"),
        ("port = true", "port is true, where a port"),
        ('port = "8000"', 'port is "8000", where a port'),
        ('depends_on = "db"', 'depends_on is "db", where a table of services, each "started", "ready" or "completed", belongs.'),
        ('depends_on = { db = "raedy" }', 'depends_on.db is "raedy", where "started", "ready" or "completed" belongs.'),
        ('depends_on = ["db", 1]', 'depends_on is ["db",1], where a table of services'),
        ('restart = "on_failure"', 'restart is "on_failure", where "on-failure", "always" or'),
        ('stop_signal = "KILL"', 'stop_signal is "KILL", where "TERM", "INT", "QUIT", "HUP", "USR1" or "USR2" belongs.'),
        ("start_timeout = 0", "start_timeout is 0, where a duration above 0"),
        ('hold = "5 minutes"', 'hold is "5 minutes", where a duration such as 5 (seconds) or "2m" belongs.'),
        ('hold = "-5s"', 'hold is "-5s", where a duration'),
        ("log = 3", "log is 3, where a table belongs. Make it a table: [services.web.log]."),
        ("log.max_sise = 1", 'max_sise is not a key of devsup. Did you mean "max_size"? The keys allowed here are max_size,'),
        ('log.max_size = "50 MBit"', 'log.max_size is "50 MBit", where a size such as "50MB", or a number of bytes, belongs.'),
        ("log.keep = -1", "log.keep is -1, where a whole number, 0 or more, belongs. Correct"),
        ('probes.live = "/status"', 'probes.live is "/status", where a table belongs. Write live = { http = "/status" }'),
        ('probes.live = { htpp = "/" }', 'probes.live.htpp is not a key of devsup. Did you mean "http"? The keys allowed'),
        ('probes.live = { http = "status" }', 'probes.live.http is "status", where a path such as "/status", or a URL, belongs.'),
        ('probes.live = { tcp = "db" }', 'probes.live.tcp is "db", where "HOST:PORT" or a port belongs.'),
        ("probes.live = { tcp = 65536 }", "probes.live.tcp is 65536, where"),
        ('probes.live = { http = "/", status = 99 }', "probes.live.status is 99, where a status from 100 to 599 belongs."),
        ('probes.live = { http = "/", every = "1x" }', 'probes.live.every is "1x", where a duration above 0'),
        ('probes.live = { sse = "/", events = 0 }', "probes.live.events is 0, where a whole number above 0 belongs."),
        ('probes.live = { http = "/", field = "a", equals = [] }', "live.equals is [], where a string, a number, true or false"),
        ("probes.live = { log = '(' }", 'live.log is "(", which is no regular expression: missing ), unterminated'),
        ("probes.live = { never = ['a', '['] }", 'probes.live.never is ["a","["], which is no regular expression: unterminated'),
        ('probes.live = { never = "CUDA" }', 'live.never is "CUDA", where a list of regular expressions, not empty, belongs.'),
        ("probes.live = { command = 'a \"b' }", "which cannot be split into words: no closing quotation."),
        ('probes.live = { http = "/", on_stall = "kill" }', 'probes.live.on_stall is "kill", where "warn", "restart" or "stop"'),
    ],
)  # fmt: skip
def test_a_value_that_does_not_belong_is_quoted_with_its_place(folder: Path, lines: str, said: str) -> None:
    path = write(folder, f"\n[services.web]\n{lines}\n")
    message = refusal(folder)
    assert message.startswith(f"{path}:3: services.web.")
    assert said in message


# What does not go together


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('command = "x"\ntarget = "a:b"', ":3: services.web.target stands beside command, and a service runs one of them."),
        ("probes.live = {}", "web.probes.live asks nothing. Give it one of http, tcp, command, sse, path, log, never."),
        ('probes.live = { http = "/", tcp = 1 }', ":2: services.web.probes.live asks http and tcp, and a probe asks one thing."),
        ("probes.live = { tcp = 1, grows_within = 5 }", "does not go with tcp. It belongs to probes with http and path."),
        ('probes.live = { path = "x", status = 200 }', ".status does not go with path. It belongs to probes with http."),
        ('probes.live = { http = "/", within = 5 }', ".within does not go with http. It belongs to probes with sse and log."),
        ('probes.live = { command = "x", events = 2 }', ".events does not go with command. It belongs to probes with sse."),
        ('probes.live = { http = "/", grows_within = 5 }', "grows_within is expected of a field, and none is named."),
        ('probes.live = { http = "/", equals = 0 }', ".equals is expected of a field, and none is named."),
        ("probes.ready = { never = ['x'] }", "probes.ready says what must not be printed, which does not tell when"),
        ("depends_on = ['web']", ":2: services.web.depends_on.web closes a circle, in which each would wait"),
        ("depends_on = ['wbe']", 'depends_on.wbe names "wbe", and there is no such service. Did you mean "web"? The services'),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(folder: Path, lines: str, said: str) -> None:
    write(folder, f"[services.web]\n{lines}\n")
    assert said in refusal(folder)


@pytest.mark.parametrize("name", ["", "a/b", "../x"])
def test_a_name_is_one_that_a_file_can_have(folder: Path, name: str) -> None:
    path = write(folder, f'[services."{name}"]\n')
    assert refusal(folder).startswith(f'{path}:1: services."{name}" is no name: no log file can be called "{name}.log".')


ODD = [
    "''",
    "'x'",
    "'-1s'",
    "0",
    "-1",
    "9" * 30,
    "1e400",
    "nan",
    "true",
    "[]",
    "[[]]",
    "[{}]",
    "['']",
    "[1]",
    "{}",
    "{ a = 1 }",
    "{ a = [] }",
]


@pytest.mark.parametrize("value", [*ODD, "1979-05-27", "07:32:00", "{ a.b.c = '' }", "['a', '(']", "'('", "'\"'", "1_0"])
def test_no_value_of_any_key_ends_in_a_traceback(folder: Path, value: str) -> None:
    places = [*Service.__struct_fields__, *(f"log.{key}" for key in Log.__struct_fields__), "probes.x", "env.x", "streams.x"]
    problems = []
    for place in [*places, *(f"probes.x.{key}" for key in Probe.__struct_fields__)]:
        write(folder, f"[services.web]\n{place} = {value}\n")
        try:
            load(folder)
        except UsageError as error:
            problems.append(error.problem)
    assert len(problems) > len(Probe.__struct_fields__)
    assert all(problem.startswith(f"{folder}/devsup.toml:2: services.web.") for problem in problems)


def test_a_circle_is_named_whole(folder: Path) -> None:
    path = write(
        folder,
        "[services]\na.depends_on = ['web']\nweb.depends_on = { x = 'started', db = 'ready' }\nx = {}\ndb.depends_on = ['web']\n",
    )
    assert refusal(folder).startswith(
        f"{path}:3: services.web.depends_on.db closes a circle, in which each would wait for the next: web → db → web."
    )


def test_diamonds_are_no_circles(folder: Path) -> None:
    write(folder, "[services]\na.depends_on = ['b', 'c']\nb.depends_on = ['d']\nc.depends_on = ['d']\nd = {}\n")
    assert list(load(folder).services) == ["a", "b", "c", "d"]


def test_a_service_that_always_runs_does_not_complete(folder: Path) -> None:
    path = write(folder, "[services.db]\nrestart = 'always'\n[services.web]\ndepends_on = { db = 'completed' }\n")
    said = 'services.web.depends_on.db waits for the end of a service that never ends: db has restart = "always".'
    assert refusal(folder).startswith(f"{path}:4: {said}")


@pytest.mark.parametrize(
    "lines",
    [
        "port = 8000\nprobes.ready = { tcp = 8000 }",
        "port = [7000, 8000]\nprobes.ready = { tcp = 'localhost:8000' }",
        "command = 'uvicorn main:app --port 8000'\nprobes.ready = { tcp = '127.0.0.1:8000' }",
        "command = 'uvicorn main:app --host 0.0.0.0'\nprobes.ready = { tcp = '[::1]:8000' }",
        "command = 'main:app --port 8000'\nprobes.ready = { tcp = 8000 }",
    ],
)
def test_a_kept_port_always_takes_connections_so_it_is_no_probe(folder: Path, lines: str) -> None:
    message = refusal(write(folder, f"[services.web]\n{lines}\n").parent)
    assert ":3: services.web.probes.ready.tcp asks port 8000, which devsup keeps open for this service" in message
    assert message.endswith('ready = { http = "/" }, or delete the probe: devsup sees when it serves.')
    assert refusal(write(folder, f"[services.web]\n{lines.replace('ready', 'live')}\n").parent).endswith('live = { http = "/" }.')


@pytest.mark.parametrize(
    "lines",
    [
        "port = 8000\nprobes.ready = { tcp = 8001 }",
        "port = 8000\nprobes.ready = { tcp = 'db:8000' }",
        "probes.ready = { tcp = 8000 }",
    ],
)
def test_a_port_of_others_is_a_probe(folder: Path, lines: str) -> None:
    assert service(folder, lines).probes["ready"].kind == "tcp"


# Which services start


def test_a_start_takes_along_what_it_waits_for(folder: Path) -> None:
    write(
        folder,
        "[services]\ndb.command = 'x'\nother.command = 'x'\n"
        "api = { target = 'a:b', depends_on = ['db'] }\nweb = { command = 'x', depends_on = ['api'] }\n",
    )
    config = load(folder)
    assert list(choose_all(config)) == ["db", "other", "api", "web"]
    assert list(choose_all(config, ["web"])) == ["db", "api", "web"]
    assert list(choose_all(config, ["other", "db"])) == ["db", "other"]


def test_a_service_without_a_command_loads_and_does_not_start(folder: Path) -> None:
    path = write(folder, "[services.db]\n[services.web]\ncommand = 'x'\ndepends_on = ['db']\n")
    config = load(folder)
    with pytest.raises(UsageError, match="has no command") as caught:
        choose_all(config, ["web"])
    assert (
        str(caught.value)
        == f'{path}:1: services.db has no command. Add one: command = "uvicorn main:app", or target = "main:app".'
    )
    with pytest.raises(UsageError, match=r'no service called "wbe". Did you mean "web"'):
        choose_all(config, ["wbe"])
    with pytest.raises(UsageError, match=r"There is no config file here. Let devsup write one: devsup init"):
        choose_all(Config({}, None))
