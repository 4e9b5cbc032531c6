"""daphne, on its own and as Django's runserver: an ASGI app behind Twisted."""

import functools

from devsup_agent import guard
from devsup_agent.active import asgi
from devsup_agent.agent import agent
from devsup_agent.servers import common


def patch(module):
    """Plant the hooks; `module` is daphne.server."""
    run, listen_success = module.Server.run, module.Server.listen_success

    @functools.wraps(run)
    def served(self):
        with guard("a hook of daphne"):
            self.devsup = common.Drain(lambda: module.reactor.callFromThread(module.reactor.stop))
            self.devsup_routes = asgi.routes(self.application)
            self.application = asgi.Recorder(agent, self.devsup).wrap(self.application)
        try:
            return run(self)
        finally:
            agent.served(getattr(self, "devsup", None))

    @functools.wraps(listen_success)
    def listening(self, port):
        listen_success(self, port)
        with guard("a hook of daphne"):
            if self.devsup not in agent.servers:
                agent.serve(self.devsup, "daphne", self.devsup_routes)

    module.Server.run, module.Server.listen_success = served, listening
    _patch_close(module.Server)


def _patch_close(server_class):
    handle_reply = server_class.handle_reply

    @functools.wraps(handle_reply)
    async def reply(self, protocol, message):
        if (message["type"], message.get("code")) == ("websocket.close", 1012):  # which autobahn would let no app say
            return protocol.sendCloseFrame(code=1012, isReply=False)
        return await handle_reply(self, protocol, message)

    server_class.handle_reply = reply
