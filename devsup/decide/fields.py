"""What a JSON answer says in one of its fields."""

from __future__ import annotations

from typing import Any

import msgspec

_SHOWN = 60  # characters of a value


class UnfitError(Exception):
    """An answer that is none: the text continues a sentence that begins with what was asked."""


def find(body: bytes | None, field: str) -> Any:
    """What an answer says at a dotted path; a list's items go by their number. None is a body without an end."""
    if body is None:
        raise UnfitError("answered without an end in time")
    try:
        value = msgspec.json.decode(body)
    except ValueError:  # also what is no UTF-8
        raise UnfitError("answered with no JSON") from None
    at = ""
    for key in field.split("."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise UnfitError(f"has no field {field}: {at or 'it'} {_has(value)}") from None
        at = f"{at}.{key}" if at else key
    return value


def _has(value: object) -> str:
    """What is there in place of a field."""
    if isinstance(value, dict) and value:
        return f"has {cut(', '.join(map(str, value)))}"
    if isinstance(value, list) and value:
        return f"has {len(value)} item{'' if len(value) == 1 else 's'}"
    return f"is {shown(value)}"


def shown(value: object) -> str:
    """A value as JSON, cut where it is long."""
    return cut(msgspec.json.encode(value).decode())


def cut(text: str, longest: int = _SHOWN) -> str:
    """What fits into a line."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
