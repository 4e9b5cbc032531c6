"""Programs that fail, each in one way: their files, their command, and what is expected to be said of it."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    """`files` by name, `command` with `python` for the interpreter, the rule expected to answer, and a part of the cause."""

    name: str
    files: dict[str, str]
    command: list[str]
    rule: str
    says: str


APP = "async def app(scope, receive, send):\n    pass\n"
UVICORN = ["python", "-m", "uvicorn", "main:app", "--port", "0"]
FLASK = ["python", "-m", "flask", "--app", "main", "run", "--port", "0"]
SCRIPT = ["python", "main.py"]


def main(name: str, text: str, rule: str, says: str, command: list[str] | None = None, **more: str) -> Program:
    files = {
        "main.py": text,
        **{f"{file.replace('__', '/').replace('site_packages', 'site-packages')}.py": content for file, content in more.items()},
    }
    return Program(name, files, command or SCRIPT, rule, says)


POOL = """
def connect(left):
    try:
        if left:
            connect(left - 1)
        else:
            raise OSError("no route")
    except Exception:
        raise ConnectionError(left)

connect(4)
"""
PROGRAMS = [
    main("syntax", "def f(:\n    pass\n", "syntax", "main.py:1 does not compile"),
    main("syntax-uvicorn", "app = (\n", "syntax", "main.py:1 does not compile", UVICORN),
    main("syntax-of-a-module", "import other\n", "syntax", "other.py:2 does not compile", UVICORN, other="x = 1\ny = = 2\n"),
    main("indentation", "def f():\nreturn 1\n", "syntax", "main.py:2 does not compile", UVICORN),
    main("tabs", "if True:\n\tx = 1\n        y = 2\n", "syntax", "main.py:3 does not compile"),
    main("not-installed", "import nosuchpackage\n" + APP, "module-not-installed", "nosuchpackage is not installed", UVICORN),
    main("not-installed-other-name", "import cv2_nosuch\n", "module-not-installed", "cv2_nosuch is not installed"),
    main("not-installed-flask", "import nosuchpackage\n", "module-not-installed", "nosuchpackage is not installed", FLASK),
    main("misspelled", "import setings\n", "module-misspelled", "Did you mean settings", settings="X = 1\n"),
    main("elsewhere", "import helper\n", "module-elsewhere", "src/helper.py is there", src__helper="X = 1\n"),
    main("target-elsewhere", "", "module-elsewhere", "src/app.py is there", ["python", "-m", "uvicorn", "app:app"], src__app=APP),
    main("target-misspelled", APP, "module-misspelled", "Did you mean main", ["python", "-m", "uvicorn", "mian:app"]),
    main("target-nowhere", APP, "module-misspelled", "no module zebra", ["python", "-m", "uvicorn", "zebra:app"]),
    main("target-attribute", APP, "target-attribute", "main has no ap", ["python", "-m", "uvicorn", "main:ap"]),
    main("no-flask-app", "x = 1\n", "target-attribute", "no Flask app", FLASK),
    main("shadowed", "import json.decoder\n", "module-shadowed", "json.py is imported", json="X = 1\n"),
    main(
        "circular",
        "import a\n",
        "circular-import",
        "a is imported while",
        a="from b import y\nx = 1\n",
        b="from a import x\ny = 2\n",
    ),
    main("import-name-own", "from other import nam\n", "import-name", "other has no nam", other="name = 1\n"),
    main("import-name-library", "from starlette.applications import Starlet\n", "version", "installed starlette has no"),
    main("name", "def app():\n    pass\nprint(undefined)\n", "exception", "NameError: name 'undefined'"),
    main("attribute", "import os\nos.nosuch()\n", "exception", "AttributeError", UVICORN),
    main("setting", "import os\nURL = os.environ['DATABASE_URL_NOT_SET']\n", "setting", "no DATABASE_URL_NOT_SET", UVICORN),
    main("file", "open('nosuch.json')\n", "exception", "FileNotFoundError: [Errno 2]"),
    main("refused", "import socket\nsocket.create_connection(('127.0.0.1', 9))\n", "service-not-running", "Nothing listens"),
    main(
        "refused-http",
        "import httpx\nhttpx.get('http://127.0.0.1:9/')\n",
        "service-not-running",
        "Nothing listens",
    ),
    main(
        "address-in-use",
        "import socket\na = socket.create_server(('127.0.0.1', 0))\nsocket.create_server(a.getsockname())\n",
        "address-in-use",
        "in use",
    ),
    main(
        "too-many-files",
        "import resource\nresource.setrlimit(7, (20, 20))\nx = [open('main.py') for _ in range(99)]\n",
        "file-limit",
        "Too many open files",
    ),
    main("no-space", "open('/dev/full', 'w', buffering=1).write('x\\n')\n", "disk-full", "No space left"),
    main(
        "running-loop",
        "import asyncio\nasync def f():\n    asyncio.run(g())\nasync def g():\n    pass\nasyncio.run(f())\n",
        "event-loop",
        "event loop",
    ),
    main(
        "lifespan",
        "from contextlib import asynccontextmanager\nfrom starlette.applications import Starlette\n\n@asynccontextmanager\n"
        "async def lifespan(app):\n    raise RuntimeError('no model here')\n    yield\n\napp = Starlette(lifespan=lifespan)\n",
        "lifespan",
        "Its start-up failed: RuntimeError: no model here (main.py:6)",
        UVICORN,
    ),
    main(
        "chained",
        "try:\n    1 / 0\nexcept ZeroDivisionError as exc:\n    raise ValueError('bad') from exc\n",
        "exception",
        "ValueError: bad (main.py:4)",
    ),
    main("context", "try:\n    1 / 0\nexcept ZeroDivisionError:\n    int('x')\n", "exception", "ValueError: invalid literal"),
    main("group", "raise ExceptionGroup('several', [ValueError('one'), TypeError('two')])\n", "exception", "several"),
    main("in-a-library", "import json\njson.loads('{')\n", "exception", "JSONDecodeError: Expecting property name"),
    main("exit-code", "import sys\nprint('cannot go on')\nsys.exit(4)\n", "exit-code", "exit code 4: cannot go on"),
    main("exit-text", "raise SystemExit('give me a database')\n", "exit-code", "exit code 1: give me a database"),
    main("clean", "print('done')\n", "clean-exit", "exit code 0"),
    main("abort", "import os\nos.abort()\n", "native-crash", "SIGABRT"),
    main("segfault", "import ctypes\nctypes.string_at(0)\n", "native-crash", "SIGSEGV"),
    main("killed", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "killed", "SIGKILL"),
    main("terminated", "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", "signal", "SIGTERM"),
    main(
        "logged",
        "import logging\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('failed')\n    raise SystemExit(1)\n",
        "exception",
        "ZeroDivisionError: division by zero (main.py:3)",
    ),
    main("custom-error", "class Broken(Exception):\n    pass\nraise Broken('as meant')\n", "exception", "Broken: as meant"),
    main("assertion", "assert 1 == 2\n", "exception", "AssertionError (main.py:1)"),
    main("deep", "def f(n):\n    return f(n + 1)\nf(0)\n", "exception", "RecursionError: maximum recursion depth"),
    main(
        "shared-library",
        "raise ImportError('libcuda.so.1: cannot open shared object file: No such file or directory')\n",
        "shared-library",
        "has no libcuda.so.1",
    ),
    main(
        "rich-box",
        "from rich.traceback import install\ninstall(show_locals=True)\ndef f(x):\n    return x / 0\nf(1)\n",
        "exception",
        "ZeroDivisionError: division by zero (main.py:4)",
    ),
    main(
        "rich-box-caught",
        "import sys\nfrom rich.console import Console\ndef load():\n    return {}['model']\ntry:\n    load()\nexcept Exception:\n"
        "    Console().print_exception()\n    sys.exit(1)\n",
        "exception",
        "KeyError: 'model' (main.py:4)",
    ),
    main(
        "rich-box-chained",
        "import sys\nfrom rich.console import Console\ndef load():\n    try:\n        {}['x']\n    except KeyError as exc:\n"
        "        raise ValueError('no model') from exc\ntry:\n    load()\nexcept Exception:\n    Console(width=40).print_exception()\n"
        "    sys.exit(1)\n",
        "exception",
        "ValueError: no model (main.py:7)",
    ),
    main(
        "launcher-caught",
        "import sys, traceback\ntry:\n    import app\nexcept Exception:\n    traceback.print_exc()\n    print('start failed')\n    sys.exit(1)\n",
        "exception",
        "RuntimeError: the cache is cold (app.py:2)",
        app="def go():\n    raise RuntimeError('the cache is cold')\ngo()\n",
    ),
    main(
        "five-chained-in-libraries",
        "import runpy, sys\nsys.path.insert(0, 'lib/python3/site-packages')\nrunpy.run_module('pool', run_name='__main__')\n",
        "exception",
        "ConnectionError: 4",
        lib__python3__site_packages__pool=POOL,
    ),
    main("asks", "name = input('Name of the project? ')\n", "question", "It asks a question on its standard input (main.py:1)"),
    main("relative", "from . import other\n", "relative-import", "relative import (main.py:1)", other=""),
    main("option", "", "usage", "--prot", ["python", "-m", "uvicorn", "main:app", "--prot", "0"]),
    main(
        "option-argparse",
        "import argparse\nargparse.ArgumentParser().parse_args()\n",
        "usage",
        "unrecognized arguments: --prot",
        [*SCRIPT, "--prot"],
    ),
    main("no-memory", "x = bytearray(1 << 60)\n", "out-of-memory", "more memory than there is (main.py:1)"),
    main("killed-behind-a-shell", "", "killed", "Somebody killed it (SIGKILL)", ["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]),
    main(
        "old-package",
        "import sys\nsys.path.insert(0, 'lib/python3/site-packages')\nimport oldlib\noldlib.run()\n",
        "version",
        "The installed oldlib has no oldlib.run (main.py:4)",
        lib__python3__site_packages__oldlib="X = 1\n",
    ),
    main(
        "cuda-driver",
        "raise RuntimeError('CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0')\n",
        "cuda",
        "The CUDA driver is older than the CUDA runtime",
    ),
    main("os-exit", "import os\nprint('giving up', flush=True)\nos._exit(7)\n", "exit-code", "exit code 7: giving up"),
    main("exits-in-silence", "import sys\nsys.exit(4)\n", "exit-code", "exit code 4"),
    main("exits-with-a-text", "import sys\nsys.exit('no licence file')\n", "exit-code", "no licence file"),
    main(
        "a-note",
        "try:\n    int('x')\nexcept ValueError as exc:\n    exc.add_note('while reading port')\n    raise\n",
        "exception",
        "invalid literal for int() with base 10: 'x' (main.py:2)",
    ),
    main(
        "segfault-in-a-library",
        "import ctypes\ndef load_model():\n    ctypes.string_at(0)\nload_model()\n",
        "native-crash",
        "SIGSEGV",
    ),
    main("abort-in-a-library", "import ctypes\nctypes.CDLL(None).abort()\n", "native-crash", "SIGABRT"),
]
