"""Questions about a server's health, for servers without an agent: an endpoint of its own, or the kernel's table."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from devsup.system.listener import Address

_LIMIT = 2.0  # seconds for an answer
_LARGEST = 1 << 20  # bytes of an answer that are looked at
_OK, _REDIRECT, _CLIENT_ERROR, _SERVER_ERROR = 200, 300, 400, 500


class ProbeError(Exception):
    """The endpoint does not tell what it was asked for; the text is a phrase such as 'GET /x answered 404'."""


class NotYet(Exception):  # noqa: N818 - a state more than an error
    """It cannot say now: the server is starting, or busy; the text says how that showed."""


class HttpProbe:
    """`path` of the server, and the dotted path of a number in its JSON answer ("": its status alone counts).

    The number may count the question itself, and the connection it comes by. Every question comes alone on one connection, so
    that what is asked always adds as much; the lowest number ever seen is the zero point.
    """

    def __init__(self, path: str, field: str = "") -> None:
        self.path, self.field = path, field
        self._zero = math.inf
        self._connection: HTTPConnection | None = None

    @property
    def ports(self) -> set[int]:
        """Our own end of the connection."""
        sock = self._connection.sock if self._connection is not None else None
        return {sock.getsockname()[1]} if sock is not None else set()

    def ask(self, address: Address) -> int | None:
        """How many requests are active now; None where only the status is asked for, and it is well. Blocks.

        Raises NotYet while it has no good answer, ProbeError when it will never have one.
        """
        status, body = self._get(address)
        if status >= _SERVER_ERROR:
            raise NotYet(f"GET {self.path} answered {status}")
        if status >= _CLIENT_ERROR or (status >= _REDIRECT and self.field):
            raise ProbeError(f"GET {self.path} answered {status}")
        if not self.field:
            return None
        value = self._number(body)
        self._zero = min(self._zero, value)
        return math.ceil(value - self._zero)

    def close(self) -> None:
        """Let go of the connection: between two reloads it would be an idle client of the server's."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get(self, address: Address) -> tuple[int, bytes]:
        import http.client  # noqa: PLC0415 - 10 ms, and needed only with such a probe

        reused = self._connection is not None
        if self._connection is None:
            self._connection = http.client.HTTPConnection(address.reached_by, address.port, timeout=_LIMIT)
        try:
            self._connection.request("GET", self.path, headers={"User-Agent": "devsup", "Accept": "application/json, */*"})
            answer = self._connection.getresponse()
            return answer.status, answer.read(_LARGEST)
        except TimeoutError:
            self.close()
            raise NotYet(f"GET {self.path} has no answer") from None
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            if reused:  # the server may have ended it while it was idle
                return self._get(address)
            raise ProbeError(f"GET {self.path} failed: {exc}") from exc

    def _number(self, body: bytes) -> float:
        try:
            value: Any = json.loads(body)
        except ValueError:
            raise ProbeError(f"GET {self.path} is not JSON") from None
        for key in self.field.split("."):
            with suppress(KeyError, IndexError, TypeError, ValueError):
                value = value[int(key)] if isinstance(value, list) else value[key]
                continue
            raise ProbeError(f'GET {self.path} has no field "{self.field}"')
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ProbeError(f'"{self.field}" of GET {self.path} is no number')
        return value


def parse(text: str) -> HttpProbe | None:
    """From `tcp` (None), `http:/path` or `http:/path#field`; config.py has checked it."""
    path, _, name = text.removeprefix("http:").partition("#")
    return None if text == "tcp" else HttpProbe(path, name)
