"""`devsup init`: what it finds in a project, what it writes, and whether that starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from configs import write
from devsup.config import load
from devsup.discover import discover
from harness import Run, fetch

FASTAPI = """
from fastapi import FastAPI
app = FastAPI()
@app.get("/")
def home() -> str:
    return "fastapi"
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
def create_app() -> Starlette:
    return Starlette(routes=[Route("/", lambda request: PlainTextResponse("starlette"))])
"""
FLASK = """
from flask import Flask
def create_app(settings=None):
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: "flask")
    return app
"""


def init(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / ".git").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "devsup", "init", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        write((folder / name).parent, text, Path(name).name)


def commands(folder: Path) -> dict[str, str]:
    return {each.name: f"{each.cwd}: {each.keys['command']}" for each in discover(folder)}


# What it finds


def test_apps_in_folders_packages_and_source_folders(project: Path) -> None:
    backend = {"backend/main.py": f"import db\n{FASTAPI}", "backend/db.py": ""}
    namespace = {"app/main.py": f"from app.db import x\n{FASTAPI}", "app/db.py": "x = 1"}
    package = {"src/shop/__init__.py": "", "src/shop/server.py": f"from . import db\n{FASTAPI}", "src/shop/db.py": ""}
    deep = {"src/deep/__init__.py": "", "src/deep/api/__init__.py": "", "src/deep/api/main.py": f"from ..x import y\n{FASTAPI}"}
    fill(project, {**backend, **namespace, **package, **deep})
    assert commands(project) == {
        "web": ".: app.main:app --port 8000",
        "backend": "backend: main:app --port 8001",
        "shop": "src: shop.server:app --port 8002",
        "deep": "src: deep.api.main:app --port 8003",
    }


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("import fastapi\nservice = fastapi.FastAPI()", "main:service --port 8000"),
        ("from fastapi import FastAPI as F\napp: object = F()", "main:app --port 8000"),
        ("from starlette.applications import Starlette\nsub = Starlette()\napp = Starlette()", "main:app --port 8000"),
        ("from fastapi import FastAPI\nsub = FastAPI()\nall = FastAPI()\nall.mount('/s', sub)", "main:all --port 8000"),
        ("from flask import Flask\napp = Flask(__name__)", "main:app --port 5000"),
        (FLASK, "flask --app main:create_app run --port 5000"),
        (f"{FLASK}\napplication = create_app()", "main:application --port 5000"),
        (STARLETTE, "main:create_app --factory --port 8000"),
        ("from starlette.applications import Starlette\ndef create_app(config):\n    return Starlette()", ""),
        ("from other import FastAPI\napp = FastAPI()", ""),
        ("from fastapi import FastAPI\ndef test():\n    app = FastAPI()", ""),
        ("from fastapi import FastAPI\napp = = FastAPI()", ""),
        (f"{FASTAPI}\nimport uvicorn\nif __name__ == '__main__':\n    uvicorn.run(app, port=9001)", "python main.py"),
        ("import uvicorn\nif __name__ == '__main__':\n    uvicorn.run('other:app')", "python main.py"),
        ("import asyncio\nif __name__ == '__main__':\n    asyncio.run(uvicorn())", ""),
    ],
)
def test_an_app_as_it_is_written(project: Path, text: str, command: str) -> None:
    fill(project, {"main.py": text})
    assert [each.keys["command"] for each in discover(project)] == ([command] if command else [])


def test_an_app_that_another_file_serves_is_no_service_of_its_own(project: Path) -> None:
    fill(project, {"shop/__init__.py": FLASK, "wsgi.py": "from shop import create_app\napp = create_app()"})
    fill(
        project,
        {"api.py": FASTAPI, "run.py": "import uvicorn\nif __name__ == '__main__':\n    uvicorn.run('api:app', port=9002)"},
    )
    assert commands(project) == {"web": ".: python run.py", "web-2": ".: wsgi:app --port 8000"}


def test_a_port_that_a_program_has_chosen_is_left_to_it(project: Path) -> None:
    script = f"{FASTAPI}\nimport uvicorn\nif __name__ == '__main__':\n    uvicorn.run(app, port=8000)"
    fill(project, {"a/main.py": FASTAPI, "b/main.py": script, "c/main.py": FASTAPI})
    found = {each.name: each.keys for each in discover(project)}
    assert found["a"] == {"command": "main:app --port 8001", "cwd": "a"}
    assert found["b"] == {"command": "python main.py", "cwd": "b", "port": 8000}
    assert found["c"] == {"command": "main:app --port 8002", "cwd": "c"}


def test_code_of_others_and_tests_are_passed_over(project: Path) -> None:
    fill(project, {"env2/pyvenv.cfg": "", "env2/lib/main.py": FASTAPI, ".hidden/main.py": FASTAPI})
    fill(project, {"node_modules/x/main.py": FASTAPI, "tests/main.py": FASTAPI, "test_main.py": FASTAPI, "conftest.py": FASTAPI})
    assert discover(project) == []


@pytest.mark.parametrize(
    ("package", "more", "command", "port"),
    [
        ({"scripts": {"dev": "vite"}}, {}, "npm run dev", 5173),
        ({"scripts": {"dev": "vite --port 3001"}}, {"pnpm-lock.yaml": ""}, "pnpm run dev", 3001),
        ({"scripts": {"dev": "vite"}}, {"vite.config.ts": "server: { port: 4000 }", "yarn.lock": ""}, "yarn run dev", 4000),
        ({"scripts": {"dev": "next dev -p 3002"}, "packageManager": "bun@1.1"}, {}, "bun run dev", 3002),
        ({"scripts": {"dev": "node server.js"}}, {}, "npm run dev", None),
    ],
)
def test_a_front_end(project: Path, package: dict[str, object], more: dict[str, str], command: str, port: int | None) -> None:
    fill(project, {"ui/package.json": json.dumps(package), **{f"ui/{name}": text for name, text in more.items()}})
    (found,) = discover(project)
    assert (found.name, found.keys["command"], found.keys["cwd"], found.keys.get("port")) == ("ui", command, "ui", port)


def test_packages_without_a_dev_script_are_none(project: Path) -> None:
    fill(project, {"a/package.json": "{}", "b/package.json": "[1]", "c/package.json": "{", "d/package.json": '{"scripts": {}}'})
    assert discover(project) == []


def test_a_script_of_the_project_that_is_installed_and_serves(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    scripts = '[project.scripts]\nshop = "shop.cli:main"\nlint = "shop.lint:main"\n'
    serves = "import uvicorn\ndef main():\n    uvicorn.run('shop.app:app', port=9003)\n"
    fill(project, {"pyproject.toml": scripts, "shop/__init__.py": "", "shop/cli.py": serves, "shop/app.py": FASTAPI})
    fill(project, {"shop/lint.py": "def main(): ..."})
    assert commands(project) == {"shop": ".: shop.app:app --port 8000"}
    fill(project, {".venv/bin/shop": "", ".venv/bin/lint": ""})
    assert commands(project) == {"shop": ".: shop"}
    assert discover(project)[0].keys["port"] == 9003


def test_a_procfile_says_it_all(project: Path) -> None:
    fill(project, {"Procfile": "web: A=1 uvicorn main:app --port $PORT\njob: a | b\n", "main.py": FASTAPI})
    assert {each.name: each.keys for each in discover(project)} == {
        "web": {"command": "uvicorn main:app --port 5000", "env": {"PORT": "5000", "A": "1"}},
        "job": {"command": "sh -c 'a | b'", "env": {"PORT": "5100"}},
    }


# What it writes


def test_it_shows_what_it_found_and_writes_it_with_the_reason(project: Path) -> None:
    fill(project, {"main.py": FASTAPI, "ui/package.json": '{"scripts": {"dev": "vite"}}', ".gitignore": "*.pyc"})
    done = init(project)
    assert done.stdout.splitlines() == [
        "devsup: found web: main:app --port 8000  (FastAPI app in main.py:3)",
        'devsup: found ui: npm run dev  ("dev" in ui/package.json: vite)',
        "devsup: wrote devsup.toml. Look through it, then start all: devsup start",
        "devsup: added devsup.local.toml to .gitignore: that file is each developer's own.",
    ]
    assert (project / "devsup.toml").read_text("utf-8").splitlines() == [
        '# Written by "devsup init". All keys, with their defaults: devsup config --all',
        "",
        "[services.web]  # FastAPI app in main.py:3",
        'command = "main:app --port 8000"',
        "",
        '[services.ui]  # "dev" in ui/package.json: vite',
        'command = "npm run dev"',
        'cwd = "ui"',
        "port = 5173",
    ]
    assert (project / ".gitignore").read_text("utf-8") == "*.pyc\ndevsup.local.toml\n"


def test_it_writes_over_nothing_unless_told_to(project: Path) -> None:
    fill(project, {"main.py": FASTAPI, "devsup.toml": "[services.mine]\n", ".gitignore": "/devsup.local.toml\n"})
    done = init(project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"devsup: {project}/devsup.toml is there already. See what it says: devsup config.")
    assert (project / "devsup.toml").read_text("utf-8") == "[services.mine]\n"
    assert init(project, "--force").returncode == 0
    assert list(load(project).services) == ["web"]
    assert (project / ".gitignore").read_text("utf-8") == "/devsup.local.toml\n"


def test_a_pyproject_with_services_is_not_put_in_the_shade(project: Path) -> None:
    fill(project, {"main.py": FASTAPI, "pyproject.toml": "[tool.devsup.services.web]\n"})
    done = init(project)
    assert done.returncode == 2
    assert f"{project}/pyproject.toml is there already." in done.stderr
    assert not (project / "devsup.toml").exists()


def test_nothing_found_is_nothing_written(project: Path) -> None:
    done = init(project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"devsup: Nothing that serves was found in {project}. Write it by hand")
    assert [path.name for path in project.iterdir()] == [".git"]


def test_odd_names_are_quoted(project: Path) -> None:
    fill(project, {"my ui.v2/package.json": json.dumps({"scripts": {"dev": 'echo "é" \\ # x\n'}})})
    assert init(project).returncode == 0
    assert load(project).services["my ui.v2"].cwd == "my ui.v2"


# Whether it starts

DJANGO = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "manage")
from django.http import HttpResponse
from django.urls import path
DEBUG = True
SECRET_KEY = "x"
ROOT_URLCONF = "manage"
urlpatterns = [path("", lambda request: HttpResponse("django"))]
if __name__ == "__main__":
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""
SCRIPT = f"{FASTAPI}\nimport uvicorn\nif __name__ == '__main__':\n    uvicorn.run(app, port=8000)"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"main.py": FASTAPI}, '"fastapi"'),
        ({"src/shop/__init__.py": "", "src/shop/app.py": f"from . import db\n{FASTAPI}", "src/shop/db.py": ""}, '"fastapi"'),
        ({"app/main.py": f"from app.db import x\n{FASTAPI}", "app/db.py": "x = 1"}, '"fastapi"'),
        ({"pkg/__init__.py": "", "pkg/run.py": SCRIPT}, '"fastapi"'),
        ({"server/main.py": STARLETTE}, "starlette"),
        ({"shop/__init__.py": FLASK}, "flask"),
        ({"shop/__init__.py": FLASK, "wsgi.py": "from shop import create_app\napp = create_app()"}, "flask"),
        ({"manage.py": DJANGO}, "django"),
        ({"Procfile": "web: A=1 uvicorn main:app --port $PORT\n", "main.py": FASTAPI}, '"fastapi"'),
    ],
)
def test_each_app_that_is_found_starts(
    project: Path, devsup: Callable[..., Run], port: int, files: dict[str, str], says: str
) -> None:
    """With the port of this test instead of the usual one, which somebody may use."""
    fill(project, {name: re.sub(r"port=8000", f"port={port}", text) for name, text in files.items()})
    assert init(project).returncode == 0
    path = project / "devsup.toml"
    path.write_text(re.sub(r"\b(8000|5000)\b", str(port), path.read_text("utf-8")), "utf-8")
    (name,) = load(project).services
    run = devsup(options=["--service", name])
    run.ready()
    assert fetch(port) == (200, says)
    assert run.stop() == 0
