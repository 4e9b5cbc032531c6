"""The reloaders of programs and frameworks stay off: devsup reloads. Those of uvicorn, gunicorn, … stand with their servers."""

import functools
import inspect

from devsup_agent.agent import agent


def patch(module):
    """Plant the hook; `module` is one of those below."""
    agent.connect()
    _PATCHES[module.__name__](module)


def _django(module):
    def run_with_reloader(main_func, *args, **kwargs):
        agent.reloader_off("django")
        return main_func(*args, **kwargs)

    module.run_with_reloader = run_with_reloader


class _Reloader:
    """What hupper's worker talks to its reloader by."""

    def watch_files(self, files):
        """Files whose change reloads."""
        agent.reloader_off("hupper", includes=[str(file) for file in files])

    def trigger_reload(self):
        """Nothing: a save does."""

    def graceful_shutdown(self):
        """Nothing: the supervisor does."""


_reloader = _Reloader()


def _hupper(module):
    def start_reloader(*_args, **_kwargs):
        agent.reloader_off("hupper")
        return _reloader

    module.start_reloader = start_reloader


def _hupper_worker(module):
    module.is_active, module.get_reloader = (lambda: True), (lambda: _reloader)


def _quart(module):
    async def observe_changes(_sleep, shutdown_event):
        agent.reloader_off("quart")
        await shutdown_event.wait()

    module.observe_changes = observe_changes


def _tornado(module):
    def start(check_time=500):
        agent.reloader_off("tornado")

    module.start = start


def _cherrypy(module):
    module.Autoreloader.start = lambda _self: agent.reloader_off("cherrypy")


def _bottle(module):
    run = module.run

    @functools.wraps(run)
    def once(*args, **kwargs):
        if kwargs.pop("reloader", False):
            agent.reloader_off("bottle")
        return run(*args, **kwargs)

    module.run = once


def _sanic(module):
    prepare = module.StartupMixin.prepare
    signature = inspect.signature(prepare)

    @functools.wraps(prepare)
    def prepared(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        if given.arguments.pop("dev", False):
            given.arguments.update(debug=True, auto_reload=True)
        if given.arguments.get("auto_reload"):
            agent.reloader_off("sanic")
            given.arguments["auto_reload"] = False
        agent.manages = True
        return prepare(*given.args, **given.kwargs)

    module.StartupMixin.prepare = prepared


def _without(module, command, option, *rules):
    """A click command whose option asks for the reloader, and whose other options are its rules."""
    callback = getattr(module, command).callback

    @functools.wraps(callback)
    def once(*args, **kwargs):
        given = [kwargs.get(rule) or () for rule in rules]
        if kwargs.get(option) or any(given):
            agent.reloader_off(module.__name__.partition(".")[0], *given)
            kwargs.update({option: False}, **dict.fromkeys(rules, ()))
        return callback(*args, **kwargs)

    getattr(module, command).callback = once


def _litestar(module):
    _without(module, "run_command", "reload", "reload_dir", "reload_include", "reload_exclude")


def _chainlit(module):
    _without(module, "chainlit_run", "watch")


def _gradio(module):
    if module.GRADIO_WATCH_DIRS:
        agent.reloader_off("gradio")
        module.GRADIO_WATCH_DIRS = []


_PATCHES = {
    "django.utils.autoreload": _django,
    "hupper.reloader": _hupper,
    "hupper.worker": _hupper_worker,
    "quart.utils": _quart,
    "tornado.autoreload": _tornado,
    "cherrypy.process.plugins": _cherrypy,
    "bottle": _bottle,
    "sanic.mixins.startup": _sanic,
    "litestar.cli.commands.core": _litestar,
    "chainlit.cli": _chainlit,
    "gradio.http_server": _gradio,
}
