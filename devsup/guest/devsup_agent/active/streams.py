"""Streamed answers by their content type: until when one is work, and where it may be cut; and what its route is called."""

import fnmatch
import math
import re


class Kind:
    """`fresh`: seconds for which a stream of an undecided route is work. A cut tears nothing after one of `ends`."""

    def __init__(self, fresh, ends, inside=None):
        self.fresh, self._ends, self._inside = fresh, ends, inside

    def is_whole(self, last):
        """Whether bytes that end so, or none at all, end between two events, parts or lines."""
        return not last or (last.endswith(self._ends) and (self._inside is None or not last.endswith(self._inside)))


EVENTS = Kind(60.0, (b"\n\n", b"\r\n\r\n", b"\r\r"))  # EventSource, which reconnects by itself
_PARTS = Kind(0.0, (b"\r\n", b"\xff\xd9"), inside=b"\r\n\r\n")  # pictures of an <img>: a part ends with a line or as JPEG does
_LINES = Kind(math.inf, (b"\n",))
UNKNOWN = Kind(math.inf, ())  # its headers cannot be found out
_KINDS = {
    "text/event-stream": EVENTS,
    "multipart/x-mixed-replace": _PARTS,
    "application/x-ndjson": _LINES,
    "application/ndjson": _LINES,
    "application/jsonl": _LINES,
    "application/jsonlines": _LINES,
    "application/x-jsonlines": _LINES,
    "application/stream+json": _LINES,
    "application/json-seq": _LINES,
}


def kind_of(head):
    """The kind of an answer with these headers, pairs of bytes or of strings; None where it is no known stream."""
    for key, value in head or ():
        if _text(key).lower() == "content-type":
            return _KINDS.get(_text(value).partition(";")[0].strip().lower())
    return None


def _text(value):
    return bytes(value).decode("latin-1") if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


def template(path, params):
    """'/charts/42' with {'id': 42} is '/charts/{id}': what one of many such streams has taught holds for all."""
    parts = path.split("/")
    for name, value in (params or {}).items():
        for at in range(len(parts) - 1, -1, -1):
            if parts[at] and parts[at] == str(value):
                parts[at] = "{" + str(name) + "}"
                break
    return "/".join(parts)


def setting(path, streams):
    """What the user's settings say of a path: 'work', 'endless', or '' where they say nothing."""
    for route, decision in streams.items():
        if fnmatch.fnmatchcase(path, re.sub(r"\{[^}]*\}", "*", route)):
            return decision
    return ""
