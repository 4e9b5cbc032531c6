"""What several commands take, and ask."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def in_colour() -> bool:
    """Whether what is printed may have colours."""
    return sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def says(command: _Command) -> _Command:
    """How much devsup says, and in which form: `level` and `log_format`."""
    options = (
        click.option("--verbose", "-v", "level", flag_value="verbose", help="Say more: routes, every step."),
        click.option("--quiet", "-q", "level", flag_value="quiet", help="Say only what went wrong."),
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            help="json: one object a line, events and output alike.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, as a number or as text with a unit: 30, 500ms, 30s, 2m, 1h, 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As click's."""
        from devsup.config.values import duration

        seconds = duration(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no time; write it as 30s, 500ms or 2m", param, ctx)
        return seconds
