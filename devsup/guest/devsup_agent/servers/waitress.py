"""waitress: one loop that reads and writes, threads that run the app."""

import functools

from devsup_agent import guard
from devsup_agent.active import wsgi
from devsup_agent.agent import agent
from devsup_agent.servers import common


def patch(module):
    """Plant the hooks; `module` is waitress.server."""
    for server_class in (module.BaseWSGIServer, module.MultiSocketServer):
        _patch_run(server_class, module.wasyncore)


def _patch_run(server_class, wasyncore):
    run = server_class.run

    @functools.wraps(run)
    def served(self):
        drain = None
        with guard("a hook of waitress"):
            sockets = self._map if hasattr(self, "_map") else self.map
            servers = [each for each in list(sockets.values()) if hasattr(each, "application")]
            routes = wsgi.routes(servers[0].application)

            def close():
                wasyncore.close_all(sockets, ignore_all=True)

            drain = common.Drain(lambda: servers[0].trigger.pull_trigger(close))
            for server in servers:
                server.application = wsgi.wrap(server.application, drain)
            agent.serve(drain, "waitress", routes)
        try:
            return run(self)
        finally:
            agent.served(drain)

    server_class.run = served
