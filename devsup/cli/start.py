"""`devsup start`: the team's services, from devsup.toml or a Procfile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from devsup.config import Config
    from devsup.launch import Options


@click.command()
@click.argument("services", nargs=-1)
@click.option("--file", "-f", type=click.Path(path_type=Path), help="A devsup.toml of any name, or a Procfile.")
@click.option("--only", metavar="SERVICE", multiple=True, help="Show what these print alone; the logs have all. Repeatable.")
@click.option("--take-over", is_flag=True, help="End what holds a port or runs a service; asks first unless it is an older copy.")
@click.option("--verbose", "-v", "level", flag_value="verbose", help="Say more: routes, every step.")
@click.option("--quiet", "-q", "level", flag_value="quiet", help="Say only what went wrong.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="json: one object a line, events and output alike.",
)
def start(
    services: tuple[str, ...],
    file: Path | None,
    only: tuple[str, ...],
    level: Literal["quiet", "verbose"] | None,
    log_format: Literal["text", "json"],
    take_over: bool,
) -> None:
    """Run SERVICES, and those that they depend on; without a name, all of devsup.toml."""
    import time

    from devsup import config as configs
    from devsup.launch import Style, launch

    here = Path.cwd()
    config = configs.load_file(file) if file else configs.load(here)
    chosen = configs.choose_all(config, services)
    for name in only:
        configs.choose(config, name)
    options = [_options(config, name, take_over=take_over) for name in chosen]
    with launch(options, Style(level=level or "normal", log_format=log_format, only=only)) as launched:
        from devsup.run import run

        code = run(launched, time.monotonic())
    sys.exit(code)


def _options(config: Config, name: str, *, take_over: bool) -> Options:
    from devsup.errors import UsageError
    from devsup.launch import Options

    service, project = config.services[name], config.path.parent if config.path is not None else Path.cwd()
    cwd = project / service.cwd
    if not cwd.is_dir():
        where = config.origin(name, "cwd")
        raise UsageError(f"{where}: services.{name}.cwd is {cwd}, which is no folder.", f"Create it: mkdir -p {cwd}")
    return Options(
        name=name,
        service=service,
        command=service.words,
        cwd=cwd.resolve(),
        project=project.resolve(),
        config=config.path,
        take_over=take_over,
        is_alone=False,
        retries=config.origin(name, "restart") != "default" and service.restart != "never",
    )
