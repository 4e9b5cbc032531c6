"""What a command line says of the addresses that it will serve."""

import pytest

from devsup.decide.addresses import intended, meet, module_files, same_command, served_at

SURE = {
    "uvicorn main:app": [("127.0.0.1", 8000)],
    "/venv/bin/uvicorn main:app --port 9000": [("127.0.0.1", 9000)],
    "uvicorn main:app --host=0.0.0.0 --port=9000": [("0.0.0.0", 9000)],
    "python -m uvicorn main:app --host localhost": [("localhost", 8000)],
    "/usr/bin/python3.12 -X dev -m uvicorn main:app": [("127.0.0.1", 8000)],
    "uv run uvicorn main:app --port 9000": [("127.0.0.1", 9000)],
    "python -m devsup_agent.target main:app --port 9000": [("127.0.0.1", 9000)],
    "flask --app main run -p 5001 -h 0.0.0.0": [("0.0.0.0", 5001)],
    "flask run -p5001": [("127.0.0.1", 5001)],
    "gunicorn -b 127.0.0.1:9000 -b [::1]:9000 main:app": [("127.0.0.1", 9000), ("::1", 9000)],
    "gunicorn --bind=:9000 main:app": [("", 9000)],
    "hypercorn main:app --bind 0.0.0.0:9000": [("0.0.0.0", 9000)],
    "waitress-serve --listen=127.0.0.1:9000 main:app": [("127.0.0.1", 9000)],
    "waitress-serve --port 9000 main:app": [("", 9000)],
    "python -m http.server 9000": [("", 9000)],
    "python -m http.server --bind 127.0.0.1": [("127.0.0.1", 8000)],
    "python -m http.server --bind 127.0.0.1 9000": [("127.0.0.1", 9000)],
    "python -m http.server -d dist 9000": [("", 9000)],
    "python manage.py runserver --noreload 9000": [("127.0.0.1", 9000)],
    "python manage.py runserver 0:9000": [("0.0.0.0", 9000)],
    "python manage.py runserver 9000": [("127.0.0.1", 9000)],
    "./manage.py runserver 0.0.0.0:9000": [("0.0.0.0", 9000)],
}
UNSURE = [
    "python main.py",
    "python",
    "",
    "flask run",  # a .flaskenv may name another port
    "flask --app main routes -p 5001",
    "python manage.py runserver",
    "python manage.py migrate 9000",
    "gunicorn main:app",
    "gunicorn -b unix:/tmp/socket main:app",
    "gunicorn -b fd://3 main:app",
    "uvicorn main:app --port 0",
    "uvicorn main:app --port nine",
    "uvicorn main:app --port 99999",
    "uvicorn main:app --uds /tmp/socket",
    "uvicorn main:app --fd 3",
    "node server.js --port 9000",
    "uv run --with uvicorn python main.py",
    "uv run --quiet uvicorn main:app",
    "uvicorn --help",
    "uvicorn main:app --port \u00b2",
    "vite build --port 9000",
    "vite",
    "next build",
    "python manage.py runserver --verbosity 2",
    "python -m devsup_agent.target main:app",
]


@pytest.mark.parametrize("line", SURE)
def test_addresses_that_are_sure(line: str) -> None:
    assert intended(line.split(), {}) == SURE[line]


@pytest.mark.parametrize("line", UNSURE)
def test_nothing_is_guessed(line: str) -> None:
    assert intended(line.split(), {}) == []


def test_variables_count_and_the_command_line_comes_first() -> None:
    environ = {"UVICORN_PORT": "9000", "UVICORN_HOST": "0.0.0.0", "FLASK_RUN_PORT": "5001", "PORT": "1"}
    assert intended(["uvicorn", "main:app"], environ) == [("0.0.0.0", 9000)]
    assert intended(["uvicorn", "main:app", "--port", "9001"], environ) == [("0.0.0.0", 9001)]
    assert intended(["flask", "run"], environ) == [("127.0.0.1", 5001)]
    assert intended(["uvicorn", "main:app"], {"UVICORN_UDS": "/tmp/socket"}) == []
    for line in ("vite", "hypercorn main:app", "gunicorn -c conf.py main:app", "waitress-serve main:app", "daphne main:app"):
        assert intended(line.split(), environ) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::", True),
        ("0.0.0.0", "::1", True),
        ("0.0.0.0", "192.168.1.5", True),
        ("localhost", "::1", True),
        ("", "10.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "192.168.1.5", False),
        ("::1", "fe80::1", False),
    ],
)
def test_who_is_in_whose_way(one: str, other: str, expected: bool) -> None:
    assert meet(one, other) is meet(other, one) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/a/bin/uvicorn main:app", "/a/bin/python /a/bin/uvicorn main:app", True),
        ("uvicorn main:app", "/b/bin/python3.12 /b/bin/uvicorn main:app", True),
        ("python main.py", "/usr/bin/python3 main.py", True),
        ("python -m http.server", "python3 -m http.server", True),
        ("uvicorn main:app", "uvicorn main:app --port 9000", False),
        ("uvicorn main:app", "uvicorn other:app", False),
        ("uvicorn main:app", "", False),
        ("python a/manage.py runserver", "python b/manage.py runserver", False),
        ("./a/serve", "./b/serve", False),
        ("python ./main.py", "/usr/bin/python3 /app/main.py", True),
        ("/a/bin/tool", "/a/bin/python -I /a/bin/tool", True),
    ],
)
def test_the_same_command(one: str, other: str, expected: bool) -> None:
    assert same_command(one.split(), other.split(), "/app") is expected
    assert same_command(other.split(), one.split(), "/app") is expected


@pytest.mark.parametrize(
    ("command", "automatic", "chosen"),
    [
        ("uvicorn main:app", "uvicorn main:app --port 0", "uvicorn main:app --port 9000"),
        ("uvicorn main:app --port 80 --reload", None, "uvicorn main:app --reload --port 9000"),
        ("uvicorn main:app --port=80", None, "uvicorn main:app --port 9000"),
        ("python -m uvicorn m:a", "python -m uvicorn m:a --port 0", "python -m uvicorn m:a --port 9000"),
        ("uv run uvicorn m:a", "uv run uvicorn m:a --port 0", "uv run uvicorn m:a --port 9000"),
        ("flask --app m run", "flask --app m run --port 0", "flask --app m run --port 9000"),
        ("flask --app m run -p5000", None, "flask --app m run --port 9000"),
        ("flask --app m routes", None, None),
        ("gunicorn m:a", "gunicorn m:a --bind 127.0.0.1:0", "gunicorn m:a --bind 127.0.0.1:9000"),
        ("gunicorn -b 0.0.0.0:80 m:a", None, "gunicorn m:a --bind 0.0.0.0:9000"),
        ("gunicorn -b [::1]:80 m:a", None, "gunicorn m:a --bind [::1]:9000"),
        ("gunicorn -b unix:x m:a", None, None),
        ("gunicorn -c conf.py m:a", None, "gunicorn -c conf.py m:a --bind 127.0.0.1:9000"),
        ("waitress-serve m:a", "waitress-serve --port 0 m:a", "waitress-serve --port 9000 m:a"),
        ("waitress-serve --port=80 m:a", None, "waitress-serve --port 9000 m:a"),
        ("python -m http.server 80 --bind ::1", None, "python -m http.server --bind ::1 9000"),
        ("python manage.py runserver", "python manage.py runserver 0", "python manage.py runserver 9000"),
        ("python manage.py runserver --noreload 80", None, "python manage.py runserver --noreload 9000"),
        ("uvicorn m:a --uds x", None, None),
        ("python main.py", None, None),
        ("node server.js", None, None),
    ],
)
def test_a_command_at_another_port(command: str, automatic: str | None, chosen: str | None) -> None:
    for port, instead, wanted in ((0, False, automatic), (9000, True, chosen)):
        found = served_at(command.split(), port, {}, instead=instead)
        assert found == (wanted.split() if wanted is not None else None)


@pytest.mark.parametrize(
    ("command", "environ", "present"),
    [
        ("uvicorn m:a", {"UVICORN_PORT": "80"}, ()),
        ("flask --app m run", {"FLASK_RUN_PORT": "80"}, ()),
        ("gunicorn m:a", {"PORT": "80"}, ()),
        ("gunicorn m:a", {"GUNICORN_CMD_ARGS": "-b :80"}, ()),
        ("gunicorn m:a", {}, ("gunicorn.conf.py", "m.py")),
        ("hypercorn -c h.toml m:a", {}, ()),
    ],
)
def test_a_port_that_is_told_elsewhere_stays(command: str, environ: dict[str, str], present: tuple[str, ...]) -> None:
    assert served_at(command.split(), 0, environ, present, instead=False) is None
    assert served_at(command.split(), 9000, environ, present, instead=True) is not None


@pytest.mark.parametrize(
    ("command", "first"),
    [
        ("uvicorn a.b:app", "a/b/__init__.py"),
        ("python main.py --x", "main.py"),
        ("python -m pkg.server", "pkg/server/__main__.py"),
        ("flask --app web run", "web/__init__.py"),
        ("python -m devsup_agent.target main:app --port 0", "main/__init__.py"),
        ("gunicorn main:make()", "main/__init__.py"),
        ("gunicorn a.main", "gunicorn/__init__.py"),
    ],
)
def test_the_files_that_a_program_may_be_in(command: str, first: str) -> None:
    assert module_files(command.split())[0] == first
