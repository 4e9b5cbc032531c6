"""uvloop accepts in C: its connections are known by their transports. Its gate stays open."""

import functools

from devsup_agent import guard, sockets


def patch(module):
    """Plant the hook; `module` is uvloop."""
    create_server = module.Loop.create_server

    @functools.wraps(create_server)
    async def created(self, factory, *args, **kwargs):
        def make():
            protocol = factory()
            with guard("a hook of uvloop"):
                _hear(type(protocol))
            return protocol

        return await create_server(self, make, *args, **kwargs)

    module.Loop.create_server = created


def _hear(protocol_class):
    """Let a class of protocols tell of each connection; uvicorn's are known already."""
    made = protocol_class.connection_made
    if hasattr(made, "devsup") or made.__module__.startswith("uvicorn."):
        return

    @functools.wraps(made)
    def connection_made(self, transport):
        with guard("a hook of uvloop"):
            sockets.note(transport)
        return made(self, transport)

    connection_made.devsup = True  # type: ignore[attr-defined] # planted once
    protocol_class.connection_made = connection_made
