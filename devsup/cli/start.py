"""`devsup start`: the team's services, from devsup.toml or a Procfile."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from devsup.cli.options import Duration, says

if TYPE_CHECKING:
    from devsup.config import Config
    from devsup.system.owner import Record

_UP = "DEVSUP_UP"  # the descriptor on which a detached devsup says that it can be asked


@click.command()
@click.argument("services", nargs=-1)
@click.option("--file", "-f", type=click.Path(path_type=Path), help="A devsup.toml of any name, or a Procfile.")
@click.option("--only", metavar="SERVICE", multiple=True, help="Show what these print alone; the logs have all. Repeatable.")
@click.option("--take-over", is_flag=True, help="End what holds a port or runs a service; asks first unless it is an older copy.")
@click.option("--detach", "-d", is_flag=True, help="Return once all are ready, or with the reason why not; they go on.")
@click.option("--timeout", type=Duration(), metavar="TIME", default="60s", help="With -d: longest wait. Default: 60s.")
@says
def start(
    services: tuple[str, ...],
    file: Path | None,
    only: tuple[str, ...],
    detach: bool,
    timeout: float,
    level: Literal["quiet", "verbose"] | None,
    log_format: Literal["text", "json"],
    take_over: bool,
) -> None:
    """Run SERVICES, and those that they depend on; without a name, all of devsup.toml.

    A SERVICE of a devsup that runs already is started there.
    """
    import time

    from devsup import config as configs
    from devsup.cli.services import of_config
    from devsup.cli.status import report
    from devsup.client import Client
    from devsup.launch import Style, launch

    here = Path.cwd()
    config = configs.load_file(file) if file else configs.load(here)
    chosen = configs.choose_all(config, services)
    for name in only:
        configs.choose(config, name)
    if services and _UP not in os.environ and (record := _told(config, services)):
        with closing(Client(record.control, record.pid)) as asking:
            sys.exit(report(asking, services, "ready", timeout) if detach else 0)
    options = [of_config(config, name, take_over=take_over) for name in chosen]
    if detach and _UP not in os.environ:
        sys.exit(_detach(list(chosen), timeout))
    if _UP in os.environ:
        os.set_inheritable(int(os.environ[_UP]), False)
    style = Style(level=level or "normal", log_format=log_format, only=only, detached=_UP in os.environ)
    with launch(options, style) as launched:
        from devsup.run import run

        code = run(launched, time.monotonic(), _is_up)
    sys.exit(code)


def _told(config: Config, services: tuple[str, ...]) -> Record | None:
    """The devsup that runs this config, once it is told to start these; None where there is none."""
    from devsup.client import Client, path_of
    from devsup.system import owner

    running = {each.control: each for each in owner.running() if config.path and each.config == str(config.path)}
    for record in running.values():
        with closing(Client(record.control, record.pid)) as asking:
            if set(services) <= set(asking.get("/v1")["services"]):
                for name in services:
                    asking.post(path_of(name, "start"))
                return record
    return None


def _detach(names: list[str], timeout: float) -> int:
    """Start this very command once more, on its own; returns the exit code once its services are ready, or cannot be."""
    import subprocess

    from devsup.cli.status import report
    from devsup.client import Client
    from devsup.errors import DevsupError

    up_read, up_write = os.pipe()
    with tempfile.TemporaryFile() as said:
        words = [sys.executable, "-m", "devsup", *sys.argv[1:]]
        environ = {**os.environ, _UP: str(up_write)}
        child = subprocess.Popen(
            words, env=environ, pass_fds=[up_write], stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        os.close(up_write)
        with os.fdopen(up_read) as up:
            control = up.read()
        if not control:
            code = child.wait()
            said.seek(0)
            click.echo(said.read().decode(errors="replace"), err=True, nl=False)
            return code or 1
    with closing(Client(control, child.pid)) as asking:
        try:
            code = report(asking, names, "ready", timeout)
        except DevsupError:  # it is done already
            return child.wait()
    if child.poll() is None:
        click.echo(f"devsup runs on, pid {child.pid}: devsup status, devsup logs -f, devsup down", err=True)
    return code


def _is_up(control: str) -> None:
    """Tell whoever has started us detached where we can be asked."""
    fd = os.environ.pop(_UP, "")
    if fd:
        with os.fdopen(int(fd), "w") as up:
            up.write(control)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for said in (1, 2):  # nobody will read on
            os.dup2(nowhere, said)
        os.close(nowhere)
