"""The start styles of real packages: what each installs, its files, its own normal command, and what must be seen of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import sources as app
from sources import MAIN


@dataclass(frozen=True)
class Style:
    """A way to start a server; `@PORT@` in files and command is the port."""

    name: str
    packages: str  # as pip takes them, separated by spaces
    command: str
    files: dict[str, str]
    kept: bool = True  # False: the server is foreign, its port is watched
    home: str = "/"  # answers the version
    routes: tuple[str, ...] = ("/slow", "/stream")  # empty where the framework has no place for any of ours
    saved: str = "main.py"
    named: bool = True  # False: of its requests only the kernel tells, without method and path
    alone: bool = True  # False: it opens a second port for itself, another one each time
    obeys: bool = True  # False: the server hangs on SIGTERM, without devsup too, and is killed
    imports: tuple[str, ...] = ("main",)  # the names under which each worker imports main.py
    reloader: str = ""  # the app's own, which is switched off
    fast: bool = False  # its packages are among devsup's own for development: in `make test`
    tools: tuple[str, ...] = ()  # programs besides its packages
    options: tuple[str, ...] = ()  # devsup's
    variables: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def file(self, name: str, port: int, version: int) -> str:
        """The text of one file; each version of the one that is saved has a length of its own."""
        text = self.files[name].replace("@PORT@", str(port)).replace('"v1"', f'"v{version}"')
        return text + "#" * (version - 1) + "\n" if name == self.saved else text


def _py(source: str) -> dict[str, str]:
    return {"main.py": source}


def _django(apps: str) -> dict[str, str]:
    return {**app.DJANGO, "settings.py": app.DJANGO["settings.py"].replace("@APPS@", apps)}


SCRIPT = ("__main__",)
BIND = "--bind 127.0.0.1:@PORT@"
ASGI, WSGI = _py(app.ASGI), _py(app.WSGI)
UVICORN, STARLETTE = "uvicorn[standard]", "uvicorn[standard] starlette"
WATCHED = ("--watch", "main.py")  # the server does not import it, or not at its start

UVICORN_STYLES = [
    Style("uvicorn", UVICORN, "uvicorn main:app --port @PORT@", ASGI),
    Style(
        "uvicorn-factory",
        STARLETTE,
        "uvicorn main:make --factory --port @PORT@",
        _py(app.STARLETTE + "\ndef make():\n    return app\n"),
    ),
    Style("uvicorn-reload-workers-1", UVICORN, "uvicorn main:app --reload --workers 1 --port @PORT@", ASGI, reloader="uvicorn"),
    Style("uvicorn-workers-2", UVICORN, "uvicorn main:app --workers 2 --port @PORT@", ASGI, imports=("main", "main")),
    Style("bash-exec", UVICORN, 'bash -c "exec uvicorn main:app --port @PORT@"', ASGI),
    Style("bash-script", UVICORN, "bash serve.sh", {**ASGI, "serve.sh": "uvicorn main:app --port @PORT@\necho ended\n"}),
    Style(
        "npm-run-dev",
        UVICORN,
        "npm run dev",
        {**ASGI, "package.json": '{"scripts": {"dev": "uvicorn main:app --port @PORT@"}}'},
        tools=("npm",),
    ),
    Style("uv-run", UVICORN + " uv", "uv run --no-project uvicorn main:app --port @PORT@", ASGI),
    Style(
        "honcho",
        UVICORN + " honcho",
        "honcho start",
        {**ASGI, "Procfile": "web: uvicorn main:app --port @PORT@\n"},
    ),
    Style(
        "multiprocessing-spawn",
        UVICORN,
        "python main.py",
        _py(app.ASGI + MAIN + app.IN_A_PROCESS.replace("@METHOD@", "spawn")),
        imports=("__main__", "__mp_main__", "main"),
    ),
    Style(
        "multiprocessing-fork",
        UVICORN,
        "python main.py",
        _py(app.ASGI + MAIN + app.IN_A_PROCESS.replace("@METHOD@", "fork")),
        imports=("__main__", "main"),
    ),
    Style("probes-its-port", UVICORN, "python main.py", _py(app.ASGI + MAIN + app.PROBES_PORT), imports=SCRIPT),
    Style("moves-to-the-next-port", UVICORN, "python main.py", _py(app.ASGI + MAIN + app.MOVES_ON), imports=SCRIPT),
    Style("connects-before-it-binds", UVICORN, "python main.py", _py(app.ASGI + MAIN + app.CONNECTS_FIRST), imports=SCRIPT),
]

SERVER_STYLES = [
    Style("hypercorn", "hypercorn", f"hypercorn main:app {BIND}", ASGI, fast=True),
    Style("hypercorn-uvloop", "hypercorn[uvloop]", f"hypercorn main:app --worker-class uvloop {BIND}", ASGI),
    Style("hypercorn-trio", "hypercorn[trio]", f"hypercorn main:app --worker-class trio {BIND}", _py(app.TRIO)),
    Style("hypercorn-reload", "hypercorn", f"hypercorn main:app --reload {BIND}", ASGI, reloader="hypercorn"),
    Style("gunicorn-sync", "gunicorn", f"gunicorn main:app {BIND}", WSGI),
    Style("gunicorn-gthread", "gunicorn", f"gunicorn main:app --threads 4 {BIND}", WSGI, fast=True),
    Style(
        "gunicorn-uvicorn-worker",
        "gunicorn uvicorn-worker",
        f"gunicorn main:app -k uvicorn_worker.UvicornWorker {BIND}",
        ASGI,
        fast=True,
    ),
    Style("gunicorn-asgi", "gunicorn", f"gunicorn main:app -k asgi {BIND}", ASGI),
    Style("gunicorn-reload", "gunicorn", f"gunicorn main:app --threads 4 --reload {BIND}", WSGI, reloader="gunicorn"),
    Style("daphne", "daphne", "daphne main:app --port @PORT@", ASGI),
    Style("django-runserver", "django", "python manage.py runserver @PORT@", _django(""), reloader="django", fast=True),
    Style("django-runserver-noreload", "django", "python manage.py runserver @PORT@ --noreload", _django("")),
    Style(
        "channels-runserver",
        "django channels daphne",
        "python manage.py runserver @PORT@",
        _django('"daphne"'),
        reloader="django",
    ),
    Style(
        "wsgiref",
        "wheel",
        "python main.py",
        _py(
            app.WSGI
            + MAIN
            + "from wsgiref.simple_server import make_server; make_server('127.0.0.1', @PORT@, app).serve_forever()\n"
        ),
        imports=SCRIPT,
        fast=True,
    ),
    Style(
        "http-server",
        "wheel",
        "python main.py",
        _py(app.SOCKETSERVER + MAIN + "ThreadingHTTPServer(('127.0.0.1', @PORT@), Http).serve_forever()\n"),
        imports=SCRIPT,
        fast=True,
    ),
    Style(
        "socketserver",
        "wheel",
        "python main.py",
        _py(app.SOCKETSERVER + MAIN + "ThreadingTCPServer(('127.0.0.1', @PORT@), Tcp).serve_forever()\n"),
        imports=SCRIPT,
        named=False,
        routes=("/slow",),
    ),
    Style("waitress-serve", "waitress", "waitress-serve --listen 127.0.0.1:@PORT@ main:app", WSGI, fast=True),
    Style(
        "waitress-script",
        "waitress",
        "python main.py",
        _py(app.WSGI + MAIN + "import waitress; waitress.serve(app, listen='127.0.0.1:@PORT@')\n"),
        imports=SCRIPT,
    ),
    Style("tornado", "tornado", "python main.py", _py(app.TORNADO + MAIN + "asyncio.run(main())\n"), imports=SCRIPT, fast=True),
    Style(
        "tornado-autoreload",
        "tornado",
        "python main.py",
        _py(app.TORNADO + MAIN + "asyncio.run(main(debug=True))\n"),
        imports=SCRIPT,
        reloader="tornado",
    ),
    Style(
        "aiohttp-run-app",
        "aiohttp",
        "python main.py",
        _py(app.AIOHTTP + MAIN + "web.run_app(make(), host='127.0.0.1', port=@PORT@)\n"),
        imports=SCRIPT,
        fast=True,
    ),
    Style("aiohttp-module", "aiohttp", "python -m aiohttp.web -H 127.0.0.1 -P @PORT@ main:make", _py(app.AIOHTTP)),
]

FLASK, QUART = _py(app.FLASK), _py(app.QUART)
FRAMEWORK_STYLES = [
    Style("flask-run-debug", "flask", "flask --app main run --debug --port @PORT@", FLASK, reloader="werkzeug", fast=True),
    Style("flask-module", "flask", "python -m flask --app main run --port @PORT@", FLASK),
    Style(
        "flask-app-run-debug",
        "flask",
        "python main.py",
        _py(app.FLASK + MAIN + "app.run(debug=True, port=@PORT@)\n"),
        imports=SCRIPT,
        reloader="werkzeug",
    ),
    Style("quart-run", "quart", "quart --app main run --port @PORT@", QUART, fast=True),
    Style(
        "quart-app-run-debug",
        "quart",
        "python main.py",
        _py(app.QUART + MAIN + "app.run(debug=True, port=@PORT@)\n"),
        imports=SCRIPT,
        reloader="quart",
    ),
    Style(
        "sanic-dev",
        "sanic",
        "sanic main:app --dev --port @PORT@",
        _py(app.SANIC),
        imports=("main", "main"),  # its manager, too, as without devsup
        obeys=False,  # in its first moments
        reloader="sanic",
    ),
    Style("sanic-single-process", "sanic", "sanic main:app --single-process --port @PORT@", _py(app.SANIC)),
    Style("litestar-run", "litestar[standard]", "litestar --app main:app run --port @PORT@", _py(app.LITESTAR)),
    Style(
        "litestar-run-reload",
        "litestar[standard]",
        "litestar --app main:app run --reload --port @PORT@",
        _py(app.LITESTAR),
        reloader="litestar",
    ),
    Style("fastapi-dev", "fastapi[standard]", "fastapi dev main.py --port @PORT@", _py(app.FASTAPI), reloader="uvicorn"),
    Style("fastapi-run", "fastapi[standard]", "fastapi run main.py --port @PORT@", _py(app.FASTAPI)),
    Style(
        "fasthtml-serve",
        "python-fasthtml",
        "python main.py",
        _py(app.FASTHTML),
        imports=("__main__", "main"),
        reloader="uvicorn",
    ),
    Style(
        "bottle-run-reloader",
        "bottle",
        "python main.py",
        _py(app.BOTTLE + MAIN + "app.run(port=@PORT@, reloader=True)\n"),
        imports=SCRIPT,
        reloader="bottle",
    ),
    Style(
        "cherrypy-quickstart",
        "cherrypy",
        "python main.py",
        _py(app.CHERRYPY + MAIN + "cherrypy.config.update({'server.socket_port': @PORT@})\n    cherrypy.quickstart(App())\n"),
        named=False,
        imports=SCRIPT,
        reloader="cherrypy",
    ),
    Style(
        "pserve-reload",
        "pyramid waitress",
        "pserve development.ini --reload",
        app.PYRAMID,
        reloader="hupper",
        variables={"PYTHONPATH": "."},
    ),
]

LAUNCHER_STYLES = [
    Style("nicegui", "nicegui", "python main.py", _py(app.NICEGUI), home="/version", imports=("__main__",), reloader="uvicorn"),
    Style("gradio-launch", "gradio", "python main.py", _py(app.GRADIO), imports=SCRIPT, routes=()),
    Style(
        "gradio-command",
        "gradio",
        "gradio main.py",
        _py(app.GRADIO),
        imports=SCRIPT,
        routes=(),
        reloader="gradio",
    ),
    Style(
        "streamlit",
        "streamlit",
        "streamlit run main.py --server.port @PORT@ --server.headless true",
        _py(app.STREAMLIT),
        options=WATCHED,
        home="/_stcore/health",
        routes=(),
        imports=(),
    ),
    Style(
        "chainlit",
        "chainlit",
        "chainlit run main.py -w --headless --port @PORT@",
        _py(app.CHAINLIT),
        imports=("main.py",),
        home="/version",
        reloader="chainlit",
    ),
    Style(
        "shiny",
        "shiny",
        "shiny run main.py --reload --port @PORT@",
        _py(app.SHINY),
        routes=(),
        alone=False,
        reloader="uvicorn",
    ),
    Style(
        "fastmcp",
        "fastmcp",
        "fastmcp run main.py --transport http --port @PORT@ --no-banner",
        _py(app.FASTMCP),
        imports=("server_module",),
    ),
    Style(
        "fastmcp-script",
        "fastmcp",
        "python main.py",
        _py(app.FASTMCP + MAIN + "mcp.run(transport='http', port=@PORT@, show_banner=False)\n"),
        imports=SCRIPT,
    ),
    Style(
        "dash-run-debug",
        "dash",
        "python main.py",
        _py(app.DASH + MAIN + "app.run(debug=True, port=@PORT@)\n"),
        home="/version",
        imports=SCRIPT,
        reloader="werkzeug",
    ),
    Style(
        "panel-serve",
        "panel",
        "panel serve main.py --port @PORT@",
        _py(app.PANEL),
        options=WATCHED,
        home="/main",
        routes=(),
        imports=(),
    ),
    Style(
        "bokeh-serve",
        "bokeh",
        "bokeh serve main.py --port @PORT@",
        _py(app.BOKEH),
        options=WATCHED,
        home="/main",
        routes=(),
        imports=(),
    ),
    Style(
        "datasette-reload",
        "datasette",
        "datasette --reload --memory --plugins-dir plugins --port @PORT@",
        {"plugins/routes.py": app.DATASETTE_PLUGIN},
        saved="plugins/routes.py",
        options=("--watch", "plugins/*.py"),
        home="/version",
        imports=("routes.py",),
        reloader="hupper",
    ),
    Style(
        "jupyter-server",
        "jupyter-server",
        "jupyter server --ServerApp.jpserver_extensions main=True --no-browser --allow-root --port @PORT@ --ServerApp.token= "
        "--ServerApp.port_retries 0",
        _py(app.JUPYTER_EXTENSION),
        home="/version",
        variables={"PYTHONPATH": "."},
    ),
    Style(
        "mlflow-server",
        "mlflow",
        "mlflow server --port @PORT@ --workers 1 --backend-store-uri sqlite:///tracking.db",
        {"main.py": ""},
        options=WATCHED,
        home="/health",
        routes=(),
        obeys=False,  # its end takes seconds while its seven job runners start
        imports=(),
    ),
    Style(
        "marimo-run",
        "marimo",
        "marimo run main.py --headless --port @PORT@",
        _py(app.MARIMO),
        options=WATCHED,
        home="/health",
        routes=(),
        imports=(),
    ),
]

FOREIGN_STYLES = [
    Style(
        "granian",
        "granian",
        "granian --interface asgi main:app --port @PORT@",
        ASGI,
        kept=False,
        options=WATCHED,
    ),
    Style(
        "robyn",
        "robyn",
        "python main.py",
        _py(app.ROBYN + MAIN + "app.start(host='127.0.0.1', port=@PORT@)\n"),
        kept=False,
        obeys=False,
        imports=SCRIPT,
        routes=("/slow",),
        options=WATCHED,
    ),
]

STYLES = [*UVICORN_STYLES, *SERVER_STYLES, *FRAMEWORK_STYLES, *LAUNCHER_STYLES, *FOREIGN_STYLES]
