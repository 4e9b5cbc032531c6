"""The checks of a config: what they accept, what is said of what cannot be, and which of them are wanted."""

from pathlib import Path

import pytest

from configs import refusal, service, write
from devsup.config import CHECKS, Check, Service, load
from devsup.config.values import BUILT_IN, REPLACEABLE
from devsup.config.writing import as_toml
from devsup.errors import UsageError
from devsup.smoke.wishes import Names, looked_for

TABLE = "[services.web.checks]\n"


def test_every_kind(folder: Path) -> None:
    text = """
        [services.web.checks]
        items = { http = "/items", method = "POST", json = { a = [1, "b"] }, fields = { "items.0.id" = 1 }, status = 201 }
        old = { http = "/old", redirect = "/new", has_headers = { server = "^uvicorn" }, pattern = "x" }
        chat = { ws = "/ws", send = ["a"], receive = ["b+"], headers = { Origin = "http://x" } }
        stream = { sse = "/stream", events = 2, timeout = "500ms" }
        script = { command = "python 'a b.py'" }
        quick = { http = "/", runs = 10, warm_up = 1, mean = "10ms", p95 = 1, error_rate = 0.5 }
        start_time = { ready_within = "2s" }
        small = { max_memory = "1 GiB" }
        log = { never = ["FATAL"] }
    """
    assert service(folder, text).checks == {
        "items": Check(http="/items", method="POST", json={"a": [1, "b"]}, fields={"items.0.id": 1}, status=201),
        "old": Check(http="/old", redirect="/new", has_headers={"server": "^uvicorn"}, pattern="x"),
        "chat": Check(ws="/ws", send=("a",), receive=("b+",), headers={"Origin": "http://x"}),
        "stream": Check(sse="/stream", events=2, timeout=0.5),
        "script": Check(command=("python", "a b.py")),
        "quick": Check(http="/", runs=10, warm_up=1, mean=0.01, p95=1.0, error_rate=0.5),
        "start_time": Check(ready_within=2.0),
        "small": Check(max_memory=2**30),
        "log": Check(never=("FATAL",)),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = {}", "services.web.checks.a asks nothing. Give it one of http, ws, sse"),
        ('a = { http = "/", ws = "/" }', "asks http and ws, and a check asks one thing. Make a check of each."),
        ('a = { http = "/", send = ["x"] }', "a.send does not go with http. It belongs to checks with ws."),
        ('a = { ws = "/", status = 200 }', "a.status does not go with ws. It belongs to checks with http."),
        ('a = { http = "/", body = "x", json = 1 }', "a.json stands beside body, and a request has one of them."),
        ('a = { http = "/", redirect = "/x", status = 200 }', "answer with status 200, which is no redirect."),
        ('a = { http = "/", p95 = "1s" }', "a.p95 is of a scenario, which says how often it runs. Say it: runs = 50."),
        ('a = { http = "/", error_rate = 2 }', "a.error_rate is 2, where a share from 0 to 1 belongs."),
        ('a = { http = "/", method = "post" }', 'a.method is "post", where a method such as "POST" belongs.'),
        ('a = { http = "/", pattern = "(" }', 'a.pattern is "(", which is no regular expression'),
        ('a = { http = "/", has_headers = { x = "(" } }', 'a.has_headers.x is "(", which is no regular expression'),
        ('a = { htp = "/" }', 'a.htp is not a key of devsup. Did you mean "http"?'),
        ('hold = { http = "/" }', "checks.hold is called as a check that every service has"),
    ],
)
def test_what_cannot_be_is_told(folder: Path, text: str, said: str) -> None:
    write(folder, f"[services.web]\n{TABLE}{text}\n")
    assert said in refusal(folder)


@pytest.mark.parametrize("name", sorted(REPLACEABLE))
def test_some_of_devsups_own_may_be_replaced(folder: Path, name: str) -> None:
    assert service(folder, f'{TABLE}{name} = {{ http = "/x" }}\n').checks[name].kind == "http"


def test_a_local_check_of_another_kind_replaces_the_check(folder: Path) -> None:
    write(folder, '[services.web]\ncommand = "x"\n[services.web.checks]\na = { http = "/", status = 204 }\nb = { http = "/b" }\n')
    write(folder, '[services.web.checks]\na = { ws = "/" }\nb = { status = 201 }\n', "devsup.local.toml")
    assert load(folder).services["web"].checks == {"a": Check(ws="/"), "b": Check(http="/b", status=201)}


def test_they_are_shown_and_load_again(folder: Path) -> None:
    write(folder, f'[services.web]\ncommand = "x"\n{TABLE}a = {{ http = "/", fields = {{ "a.b" = 1 }}, timeout = "2s" }}\n')
    config = load(folder)
    shown = as_toml(config, defaults=True)
    assert "receive" not in shown  # what goes with other kinds
    write(folder, shown)
    assert load(folder).services == config.services


# Which are wanted


def test_names_in_order() -> None:
    web = Service(checks={"own": Check(http="/"), "root": Check(http="/x")})
    names = Names({"web": web}, ()).of("web")
    assert list(names) == [*BUILT_IN, "own"]
    assert names["root"].check == Check(http="/x")
    assert names["hold"].check is None


def test_only_some() -> None:
    services = {"web": Service(checks={"own": Check(http="/")}), "api": Service()}
    names = Names(services, ["own", "api.root"])
    assert [list(names.of(each)) for each in services] == [["own"], ["root"]]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--only rot: there is no such check. Did you mean \"root\"\? The checks are start, "):
        Names({"web": Service()}, ["rot"])


def test_what_is_looked_for() -> None:
    own = Service(checks={"a": Check(never=("x", "y")), "b": Check(log="z"), "log": Check(never=("FATAL",))})
    assert looked_for(own) == [("a", "x"), ("a", "y"), ("b", "z"), ("log", "FATAL")]
    assert {name for name, _ in looked_for(Service())} == {"log"}


def test_every_kind_has_its_keys() -> None:
    assert {*CHECKS, *(key for keys in CHECKS.values() for key in keys), "timeout"} == set(Check.__struct_fields__)
