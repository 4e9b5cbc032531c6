"""From the tables of the files to services: keys that there are not, and values that do not belong."""

from __future__ import annotations

from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from devsup.config.source import Keys, Sources, guess, quoted, shown
from devsup.config.values import Service, UnreadableError
from devsup.errors import UsageError

_T = TypeVar("_T", bound=Struct)

_DEFAULT_NAME = "app"
_DEPTH_OF_A_PROBE = len(("services", "NAME", "probes", "NAME"))


def read(sources: Sources) -> dict[str, Service]:
    """The services of these files, each value of its type. Raises UsageError for the first that is not."""
    for source in sources.files:
        _table(Sources((source,)), (), source.table, ("services",))
    services = _table(sources, ("services",), sources.merged.get("services", {}))
    return {name: _struct(sources, ("services", name), raw, Service) for name, raw in services.items()}


def _struct(sources: Sources, keys: Keys, raw: object, kind: type[_T]) -> _T:
    hints, defaults = get_type_hints(kind, include_extras=True), kind()
    table = _table(sources, keys, raw, kind.__struct_fields__)
    values = {key: _value(sources, (*keys, key), value, hints[key], getattr(defaults, key)) for key, value in table.items()}
    return kind(**values)


def _table(sources: Sources, keys: Keys, table: object, allowed: tuple[str, ...] | None = None) -> dict[str, Any]:
    """`table`, once it is sure to be one, with none but the `allowed` keys (None: any)."""
    if not isinstance(table, dict):
        raise sources.error(keys, f"is {shown(table)}, where a table belongs.", _as_table(sources, keys, table))
    for key in table:
        if allowed is not None and key not in allowed:
            raise sources.error((*keys, key), "is not a key of devsup.", _another(sources, keys, key, allowed))
    return table


def _as_table(sources: Sources, keys: Keys, value: object) -> str:
    if len(keys) == _DEPTH_OF_A_PROBE and isinstance(value, str):
        return f"Write {quoted(keys[-1])} = {{ http = {shown(value)} }}, or another kind of probe."
    return f"Make it a table: [{sources.named(keys if len(keys) > 1 else ('services', 'NAME'))}]."


def _another(sources: Sources, keys: Keys, key: str, allowed: tuple[str, ...]) -> str:
    """What to do about a `key` that there is not."""
    if keys:
        return f"{guess(key, allowed)}The keys allowed here are {', '.join(allowed)}."
    if key in Service.__struct_fields__:
        return f"It belongs to a service: put it below a line [{sources.named(('services', _DEFAULT_NAME))}]."
    return f"{guess(key, allowed)}The only key allowed here is services."


def _value(sources: Sources, keys: Keys, raw: object, hint: Any, default: object = None) -> object:
    """Turn one TOML value into `hint`'s type, or raise a UsageError that names the deepest key to blame."""
    if get_origin(hint) in {Union, UnionType}:  # None is the default alone: TOML has none
        hint = get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, Struct):
        return _struct(sources, keys, raw, hint)
    kind, meta = get_args(hint)
    value = raw
    try:
        value = meta.extra["read"](raw) if meta.extra else raw
        if isinstance(value, dict) and get_origin(kind) is dict:
            return {key: _value(sources, (*keys, key), item, get_args(kind)[1]) for key, item in value.items()}
        return msgspec.convert(value, hint)
    except UnreadableError as error:
        raise sources.error(keys, f"is {shown(raw)}, {error.problem}", error.remedy) from error
    except msgspec.ValidationError as error:
        raise _misfit(sources, keys, raw, kind, meta, default) from error


def _misfit(sources: Sources, keys: Keys, raw: object, kind: Any, meta: Meta, default: object) -> UsageError:
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    close = guess(raw, choices) if isinstance(raw, str) else ""
    if close:
        remedy = close.rstrip()
    elif kind is str and isinstance(raw, bool | int | float):
        remedy = f'Write it in quotes: {quoted(keys[-1])} = "{shown(raw)}".'
    elif default:
        remedy = f"Correct the line, or delete it to have the default, {shown(default)}."
    else:
        remedy = "Correct the line, or delete it."
    return sources.error(keys, f"is {shown(raw)}, where {meta.description} belongs.", remedy)
