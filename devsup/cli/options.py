"""Kinds of values that several commands take."""

from __future__ import annotations

from typing import Any

import click


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
