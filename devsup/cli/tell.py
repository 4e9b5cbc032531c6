"""`devsup reload`, `restart`, `stop` and `down`: a word to a devsup that runs, from any folder of its project."""

from __future__ import annotations

import click

_SERVICE = click.argument("service", required=False)


def _tell(verb: str, service: str | None) -> None:
    from devsup.client import client, path_of
    from devsup.errors import UsageError

    with client(service) as asking:
        names = asking.get("/v1")["services"]
        if service is None and len(names) > 1:
            raise UsageError(f"Several services run: {', '.join(names)}.", f"Name one: devsup {verb} {names[0]}")
        asking.post(path_of(service or names[0], verb))


@click.command()
@_SERVICE
def reload(service: str | None) -> None:
    """Give SERVICE new code, after its active requests."""
    _tell("reload", service)


@click.command()
@_SERVICE
def restart(service: str | None) -> None:
    """Start SERVICE anew at once, whatever is active."""
    _tell("restart", service)


@click.command()
@_SERVICE
def stop(service: str | None) -> None:
    """End SERVICE; the others go on. Said again, it is killed."""
    _tell("stop", service)


@click.command()
def down() -> None:
    """End all services, and the devsup that runs them; returns when they have ended."""
    from devsup.client import client, find
    from devsup.errors import DevsupError
    from devsup.system import ending

    record = find()
    with client() as asking:
        asking.post("/v1/down")
    if not ending.until(lambda: not record.is_running, _ENDS_WITHIN):
        raise DevsupError(f"devsup (pid {record.pid}) still runs.", "See what it waits for: devsup status")


_ENDS_WITHIN = 30.0  # seconds
