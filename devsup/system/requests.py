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
_GLANCE = 0.5  # seconds
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
        self,
        method: str,
        url: str,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        *,
        keep: bool = False,
        glance: bool = False,
    ) -> Answer:
        """The answer, read whole; the first 16 MiB of its body are kept. Raises CheckError where there is none in time.

        With `keep` its connection is for the next request, too: a server may end one that it has answered, and that request is
        then sent once more. At a `glance` its head counts, and of the body what comes at once.
        """
        head = {**_HEAD, **({} if keep else {"Connection": "close"}), **(headers or {})}
        try:
            request = self._client.build_request(method, url, headers=head, content=content)
            with anyio.fail_after(timeout):
                try:
                    return await self._sent(request, glance=glance)
                except (self._module.ReadError, self._module.WriteError, self._module.RemoteProtocolError):
                    if not keep:
                        raise
                    return await self._sent(request, glance=glance)
        except TimeoutError:
            raise CheckError(f"has no answer after {timeout:g} s") from None
        except (self._module.HTTPError, self._module.InvalidURL, UnicodeError) as exc:
            raise CheckError(why(exc)) from exc

    async def _sent(self, request: httpx.Request, *, glance: bool) -> Answer:
        began, body = time.perf_counter(), bytearray()
        response = await self._client.send(request, stream=True)
        try:
            with anyio.move_on_after(_GLANCE if glance else None):
                async for piece in response.aiter_raw():
                    body += piece[: _LARGEST - len(body)]
                    if glance and len(body) == _LARGEST:
                        break
        finally:
            await response.aclose()
        return Answer(response.status_code, dict(response.headers), bytes(body), time.perf_counter() - began)


@asynccontextmanager
async def session() -> AsyncIterator[Session]:
    """Without proxies; certificates are not looked at: whether the service answers is asked, not who it is."""
    module = await load_http()
    async with module.AsyncClient(trust_env=False, timeout=None, verify=tls()) as client:
        yield Session(client, module)
