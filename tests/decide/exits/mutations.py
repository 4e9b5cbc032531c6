"""Working apps, and the small mistakes that break them: `python tests/decide/exits/mutations.py` shows what is said of each."""

from __future__ import annotations

from typing import NamedTuple

WEB = {
    "main.py": """from __future__ import annotations

import os
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from shop import prices
from shop.settings import Settings

settings = Settings.from_environment(os.environ)


@asynccontextmanager
async def lifespan(app):
    app.state.catalogue = prices.load(settings.catalogue)
    yield


async def home(request):
    return JSONResponse({"total": prices.total(request.app.state.catalogue)})


app = Starlette(routes=[Route("/", home)], lifespan=lifespan)
""",
    "shop/__init__.py": "",
    "shop/settings.py": """from dataclasses import dataclass


@dataclass
class Settings:
    catalogue: str
    workers: int

    @classmethod
    def from_environment(cls, environ):
        return cls(catalogue=environ["CATALOGUE"], workers=int(environ["WORKERS"]))
""",
    "shop/prices.py": """import json
from pathlib import Path

from shop.taxes import RATE


def load(path):
    return json.loads(Path(path).read_text())


def total(catalogue):
    return sum(catalogue.values()) * (1 + RATE)
""",
    "shop/taxes.py": "RATE = 0.19\n",
    "catalogue.json": '{"tea": 3, "cake": 4}\n',
}
FLASK = {
    "main.py": """import os

from flask import Flask

from store import Store

app = Flask(__name__)
store = Store(os.environ["STORE"])


@app.get("/")
def home():
    return {"items": store.items}
""",
    "store.py": """class Store:
    def __init__(self, path):
        self.items = open(path).read().split()
""",
    "items.txt": "tea cake\n",
}
UVICORN = ["python", "-m", "uvicorn", "main:app", "--port", "0"]
RUN_FLASK = ["python", "-m", "flask", "--app", "main", "run", "--port", "0"]
ENVIRONMENT = {"CATALOGUE": "catalogue.json", "WORKERS": "2", "STORE": "items.txt"}


class Mutation(NamedTuple):
    """In `file` of `app`, `old` becomes `new`; the rule that is right, and a part of the cause."""

    name: str
    app: str
    file: str
    old: str
    new: str
    rule: str
    says: str
    unset: str = ""


MUTATIONS = [
    Mutation("delete an import", "web", "main.py", "import os\n", "", "exception", "name 'os' is not defined (main.py:12)"),
    Mutation("delete a package's import", "web", "shop/prices.py", "import json\n", "", "lifespan", "name 'json' is not defined"),
    Mutation("rename what is imported", "web", "shop/taxes.py", "RATE", "RATES", "import-name", "shop.taxes has no RATE"),
    Mutation(
        "rename an attribute", "web", "shop/settings.py", "from_environment", "from_environ", "exception", "from_environment"
    ),
    Mutation("rename a function", "web", "shop/prices.py", "def load", "def read", "lifespan", "has no attribute 'load'"),
    Mutation(
        "rename the app", "web", "main.py", "app = Starlette", "application = Starlette", "target-attribute", "main has no app"
    ),
    Mutation(
        "break the indentation",
        "web",
        "shop/prices.py",
        "    return json",
        "  return json\n return json",
        "syntax",
        "shop/prices.py:9",
    ),
    Mutation("drop a bracket", "web", "main.py", '[Route("/", home)]', '[Route("/", home)', "syntax", "main.py:26"),
    Mutation("drop a colon", "web", "shop/settings.py", "class Settings:", "class Settings", "syntax", "shop/settings.py:5"),
    Mutation(
        "misspell a module", "web", "main.py", "from shop.settings", "from shop.setings", "module-misspelled", "shop.settings"
    ),
    Mutation(
        "misspell a package",
        "web",
        "main.py",
        "from starlette.routing",
        "from starlete.routing",
        "module-not-installed",
        "starlete",
    ),
    Mutation(
        "misspell a name of a package", "web", "main.py", "import JSONResponse", "import JSONRespons", "version", "JSONRespons"
    ),
    Mutation("unset a variable", "web", "main.py", "", "", "setting", "The environment has no CATALOGUE", "CATALOGUE"),
    Mutation(
        "set a number to a word",
        "web",
        "shop/settings.py",
        'environ["WORKERS"]',
        '"many"',
        "exception",
        "'many' (shop/settings.py:11)",
    ),
    Mutation(
        "import in a circle",
        "web",
        "shop/taxes.py",
        "RATE =",
        "from shop.prices import total\nRATE =",
        "circular-import",
        "shop.prices",
    ),
    Mutation("name a file after a package", "web", "starlette.py", "", "x = 1\n", "module-shadowed", "starlette.py"),
    Mutation("delete a file", "web", "shop/taxes.py", "RATE = 0.19\n", "DELETE", "module-not-found", "shop/taxes.py"),
    Mutation("delete the data", "web", "catalogue.json", "", "DELETE", "lifespan", "catalogue.json"),
    Mutation("break the data", "web", "catalogue.json", "{", "[", "lifespan", "JSONDecodeError"),
    Mutation("return instead of yield", "web", "main.py", "    yield\n", "    return\n", "lifespan", ""),
    Mutation(
        "a flask app without its name",
        "flask",
        "main.py",
        "app = Flask",
        "server = Flask",
        "exception",
        "name 'app' is not defined",
    ),
    Mutation(
        "a flask app without its file", "flask", "items.txt", "", "DELETE", "exception", "No such file or directory: 'items.txt'"
    ),
    Mutation("a flask variable unset", "flask", "main.py", "", "", "setting", "The environment has no STORE", "STORE"),
    Mutation("a flask class renamed", "flask", "store.py", "class Store", "class Shop", "import-name", "store has no Store"),
]
APPS = {"web": (WEB, UVICORN), "flask": (FLASK, RUN_FLASK)}
