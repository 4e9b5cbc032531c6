"""A config as TOML: what is in effect, with the place where each value was set."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from devsup.config.source import Keys, dotted, quoted
from devsup.config.values import CHECKS, KINDS, Check, Probe, Service
from devsup.decide import secrets

if TYPE_CHECKING:
    from devsup.config import Config

_MASK = "•••"
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})


def as_record(config: Config) -> dict[str, Any]:
    """All that is in effect, without secrets, and where each key was set."""
    services = {name: _plain(service) for name, service in config.services.items()}
    origins = {dotted(keys): config.origin(*keys) for keys, _ in _leaves(services)}
    return {"files": [str(path) for path in config.files], "services": services, "origins": origins}


def as_toml(config: Config, *, defaults: bool) -> str:
    """The same as TOML, which loads again; without `defaults` only what is set in a file."""
    lines = [f"# {path}" for path in config.files]
    header: Keys = ()
    for name, service in config.services.items():
        lines += ["", f"[{dotted(('services', name))}]"]
        header = (name,)
        for keys, value in _leaves({name: _plain(service)}):
            place = config.origin(*keys)
            if value is None or (place == "default" and not defaults):
                continue
            if keys[:-1] != header:
                header = keys[:-1]
                lines += ["", f"[{dotted(('services', *header))}]"]
            written = literal(shlex.join(value) if keys[-1] == "command" and isinstance(value, list) else value)
            lines.append(f"{quoted(keys[-1])} = {written}  # {place.rpartition('/')[2]}")
    return "\n".join([*lines, ""])


def literal(value: object) -> str:
    """A value as TOML writes it."""
    if value and isinstance(value, Mapping):
        return f"{{ {', '.join(f'{quoted(key)} = {literal(each)}' for key, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    # JSON's strings are TOML's, but for this one character.
    return msgspec.json.encode(value).decode().replace("\x7f", r"\u007f")


def _plain(service: Service) -> dict[str, Any]:
    """A service without its secrets."""
    probes = {name: _asked(probe, KINDS) for name, probe in service.probes.items()}
    checks = {name: _asked(check, CHECKS) for name, check in service.checks.items()}
    for each in checks.values():
        for key in ("headers", "json"):
            if key in each:
                each[key] = _hidden(each[key])
    record = {**msgspec.to_builtins(service), "probes": probes, "checks": checks}
    for key in ("command", "target"):
        if not record[key]:
            del record[key]
    found: dict[str, Any] = secrets.masked(record, secrets.values(service.env))
    found["env"] = _hidden(found["env"])
    return _tables_last(found)


def _hidden(value: Any, name: str = "") -> Any:
    """Variables, headers, or what is sent as JSON, without the values of what is secret by its name."""
    if isinstance(value, dict):
        return {key: _hidden(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_hidden(each, name) for each in value]
    return _MASK if _is_secret(name) and value is not None else value


def _is_secret(name: str) -> bool:
    return name.lower() in _SECRET_HEADERS or secrets.is_secret(name.replace("-", "_"))


def _asked(asked: Probe | Check, table: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """What goes with this kind of probe or check."""
    every = {*table, *(each for expected in table.values() for each in expected)}
    other = every - {asked.kind, *table[asked.kind]}
    return _tables_last({key: value for key, value in msgspec.to_builtins(asked).items() if key not in other})


def _tables_last(record: dict[str, Any]) -> dict[str, Any]:
    """As TOML wants it."""
    return dict(sorted(record.items(), key=lambda item: isinstance(item[1], dict) and item[1] != {}))


def _leaves(table: Mapping[str, Any], above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Each key that is not a table of others, with its value."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value
