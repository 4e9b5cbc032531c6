"""One line of a .gitignore as a test of an entry's name. pathspec translates it, from a form in which it agrees with git.

pathspec (1.1) knows no `[[:alpha:]]`, reads a backslash in a set as itself, drops tabs at the end of a line, takes `a/**` for
what it is itself, and splits `[!a/]` in two. So sets and white space become placeholders, filled in after the translation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TRIMMED = re.compile(rb"(?:\\.|[^ ]| +(?! *$))*", re.DOTALL)  # spaces at the end go, unless a backslash protects them
_TOKEN = re.compile(rb"\*+|\\?.", re.DOTALL)
_ITEM = re.compile(rb"\[:([^\]]*):\]|(\\.|[^\\])(?:-(\\.|[^\]\\]))?", re.DOTALL)  # of a set: a class, a byte, a range
_PLACE = b"\0"  # of a set, in what pathspec is given: no name has this byte
_ALL = frozenset(range(1, 256)) - {ord("/")}
_CLASSES = {
    b"alnum": rb"[0-9A-Za-z]",
    b"alpha": rb"[A-Za-z]",
    b"blank": rb"[ \t]",
    b"cntrl": rb"[\x01-\x1f\x7f]",
    b"digit": rb"[0-9]",
    b"graph": rb"[!-~]",
    b"lower": rb"[a-z]",
    b"print": rb"[ -~]",
    b"punct": rb"[!-/:-@\[-`{-~]",
    b"space": rb"[ \t\r\n]",
    b"upper": rb"[A-Z]",
    b"xdigit": rb"[0-9A-Fa-f]",
}


class Pattern(NamedTuple):
    """`matches` takes the bytes of a path below the pattern's folder, a folder's with a slash at its end; `ignores` or not."""

    matches: Callable[[bytes], object]
    ignores: bool


def patterns(text: bytes) -> Iterator[Pattern]:
    """Those of a whole file, in its order."""
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        trimmed = _TRIMMED.match(line.removesuffix(b"\r"))
        pattern, sets = _adapted(trimmed[0] if trimmed is not None else b"")
        regex, ignores = GitIgnoreSpecPattern.pattern_to_regex(pattern)
        if regex is not None and ignores is not None:
            pieces = zip(regex.split(_PLACE), [*sets, b""], strict=True)
            yield Pattern(re.compile(b"".join(map(b"".join, pieces)), re.DOTALL).fullmatch, ignores)


def _adapted(line: bytes) -> tuple[bytes, list[bytes]]:
    """What pathspec is to translate, and the sets in it as regular expressions; (b"", []) for what matches nothing."""
    negated, body = line.startswith(b"!"), line.removeprefix(b"!")
    for_folders, body = body.endswith(b"/"), body.removesuffix(b"/")
    anchored, body = b"/" in body, body.removeprefix(b"/")
    found = _without_sets(body)
    if line.startswith(b"#") or found is None:
        return b"", []
    body, sets = found
    names = [b"?*" if name == b"*" or (name == b"**" and not anchored) else name for name in body.split(b"/")]
    if names[-1] == b"**":
        names.append(b"?*")  # what is in the folder, not the folder
    if b"" in names:
        return b"", []
    return b"!" * negated + b"/" * anchored + b"/".join(names) + b"/" * for_folders, sets


def _without_sets(body: bytes) -> tuple[bytes, list[bytes]] | None:
    parts, sets, at = list[bytes](), list[bytes](), 0
    while at < len(body):
        part = _TOKEN.match(body, at)
        token = part[0] if part is not None else b""
        at += len(token)
        members = frozenset(token[-1:]) if token[-1:].isspace() else None
        if token == b"[":
            found = _set(body, at)
            if found is None:
                return None
            members, at = found
        elif token == b"\\":  # at the end
            return None
        if members is not None:
            sets.append(b"[%s]" % b"".join(b"\\x%02x" % byte for byte in sorted(members)) if members else b"(?!)")
        parts.append(_PLACE if members is not None else b"/" if token == b"\\/" else token[:2])  # *** is **
    return b"".join(parts), sets


def _set(body: bytes, at: int) -> tuple[frozenset[int], int] | None:
    """The bytes that a set stands for, and where it ends; `at` is behind its bracket. None for a bad one: it matches nothing."""
    members, negated = set[int](), body[at : at + 1] in {b"!", b"^"}
    first = at = at + negated
    while at == first or body[at : at + 1] != b"]":
        item = _ITEM.match(body, at)
        if item is None:
            return None
        name, low, high = item.groups()
        if name is not None and name not in _CLASSES:
            return None
        if name is not None:
            members.update(byte for byte in range(1, 256) if re.match(_CLASSES[name], bytes([byte])))
        else:
            members.update(low[-1:], range(low[-1], (high or low)[-1] + 1))  # in git, [z-a] has z
        at = item.end()
    return frozenset(_ALL - members if negated else _ALL & members), at + 1
