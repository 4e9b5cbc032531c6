"""Values that devsup never shows: those of variables whose names say that they are secret, and passwords in URLs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN(?!IZ)|CREDENTIAL|(?:API|ACCESS|PRIVATE|MASTER|SIGNING)_?KEY|\w_?PWD"
    r"|(?:^|_)(?:KEYS?|AUTH|PAT|DSN|PASS)(?:$|_)",
    re.IGNORECASE,
)
_PLACES = re.compile(r"_(?:SOCK|FILE|PATH|DIR)$|^OLDPWD$", re.IGNORECASE)  # where a secret is, or something else
_SHORTEST = 8  # characters: shorter values occur by chance
_LEAST = 6  # characters of a secret that a cut may have left
_URL = re.compile(r"(?<=://)([^\s/:@]*):(?!\d+(?:/|$|\s))([^\s'\"<>]+)@")
_MASK = "•••"


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is secret."""
    return _NAMES.search(name) is not None and _PLACES.search(name) is None


def values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets among an environment's values, the longest first."""
    found = {value for name, value in environ.items() if len(value) >= _SHORTEST and is_secret(name)}
    return tuple(sorted(found, key=len, reverse=True))


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """The text without them."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, _MASK)
        elif secret[:_LEAST] in text[-len(secret) :]:
            text = _without_beginning(text, secret)
    return _URL.sub(rf"\1:{_MASK}@", text) if "://" in text else text


def _without_beginning(text: str, secret: str) -> str:
    """A text that was cut within the secret, without what is left of that."""
    bare = text.rstrip("…")
    for length in range(len(secret) - 1, _LEAST - 1, -1):
        if bare.endswith(secret[:length]):
            return bare[:-length] + _MASK
    return text


def masked(thing: Any, secrets: tuple[str, ...]) -> Any:
    """Plain values (of dicts, lists and strings) without them."""
    if isinstance(thing, str):
        return mask(thing, secrets)
    if isinstance(thing, dict):
        return {key: masked(value, secrets) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [masked(each, secrets) for each in thing]
    return thing
