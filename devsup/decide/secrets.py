"""Values that devsup never shows: those of variables whose names say that they are secret, and passwords in URLs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = re.compile(
    r"(^|_)(API_?KEY|ACCESS_?KEY|KEY|TOKEN|SECRET|SECRETS|PASS|PASSWD|PASSWORD|PASSPHRASE|CREDENTIALS?|DSN|PAT)(_|$)",
    re.IGNORECASE,
)
_SHORTEST = 8  # characters: shorter values occur by chance
_URL = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)@")
_MASK = "•••"


def values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets among an environment's values, the longest first."""
    found = {value for name, value in environ.items() if len(value) >= _SHORTEST and _NAMES.search(name)}
    return tuple(sorted(found, key=len, reverse=True))


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """The text without them."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, _MASK)
    return _URL.sub(rf"\1:{_MASK}@", text) if "://" in text else text


def masked(thing: Any, secrets: tuple[str, ...]) -> Any:
    """Plain values (of dicts, lists and strings) without them."""
    if isinstance(thing, str):
        return mask(thing, secrets)
    if isinstance(thing, dict):
        return {key: masked(value, secrets) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [masked(each, secrets) for each in thing]
    return thing
