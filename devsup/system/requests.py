"""Requests to a service, one after the other on connections that are kept, as a client that comes back sends them."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from devsup.system.checks import CheckError, load_http, tls, why

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import httpx

_LARGEST = 16 << 20  # bytes of an answer
_HEAD = {"User-Agent": "devsup", "Accept": "*/*", "Accept-Encoding": "identity"}


class Answer(NamedTuple):
    """An HTTP answer; names of headers in lower case, `seconds` until its last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


class Session:
    """Sends requests. Redirects are answers."""

    def __init__(self, client: httpx.AsyncClient, module: Any) -> None:
        self._client, self._module = client, module

    async def send(
        self, method: str, url: str, timeout: float, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Answer:
        """The answer, read whole. Raises CheckError where there is none in time."""
        answer: Answer | None = None
        try:
            with anyio.move_on_after(timeout):
                began, body = time.perf_counter(), bytearray()
                async with self._client.stream(method, url, headers={**_HEAD, **(headers or {})}, content=content) as response:
                    async for piece in response.aiter_raw():
                        body += piece
                        if len(body) > _LARGEST:
                            raise CheckError(f"answered with more than {_LARGEST >> 20} MiB")
                seconds = time.perf_counter() - began
                answer = Answer(response.status_code, dict(response.headers), bytes(body), seconds)
        except (self._module.HTTPError, self._module.InvalidURL, UnicodeError) as exc:
            raise CheckError(why(exc)) from exc
        if answer is None:
            raise CheckError(f"has no answer after {timeout:g} s")
        return answer


@asynccontextmanager
async def session() -> AsyncIterator[Session]:
    """Without proxies; certificates are not looked at: whether the service answers is asked, not who it is."""
    module = await load_http()
    async with module.AsyncClient(trust_env=False, timeout=None, verify=tls()) as client:
        yield Session(client, module)
