"""One look at whether a service works: an endpoint, a port, a command, a file, a stream.

What could be seen is returned, and judged elsewhere. What could not be asked is a CheckError. No question outlives its timeout,
or leaves a connection: a probe must not be what a reload waits for.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio

from devsup.system import spawn

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    import httpx

_LARGEST = 1 << 20  # bytes of an answer that are looked at
_BLOCK = 65536
_LAST = 4096  # bytes of what a command printed, of which the last line is told
_LINE = 120  # characters of it
_GONE = 1.0  # seconds that the kernel has after KILL
_HEAD = {"User-Agent": "devsup", "Accept-Encoding": "identity", "Connection": "close"}
_STREAM = "text/event-stream"


class CheckError(Exception):
    """It could not be asked, or failed: a phrase that continues the probe's name, such as "refused"."""


# -- HTTP -----------------------------------------------------------------------------------------------------------------


async def http(url: str, timeout: float) -> tuple[int, bytes | None]:
    """Status and body of a GET; no body, where that is longer than 1 MiB or than the timeout."""
    status, body = 0, bytearray()
    with anyio.move_on_after(timeout):
        async with _get(url, "application/json, */*") as response:
            status = response.status_code
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > _LARGEST:
                    return status, None
            return status, bytes(body)
    if not status:
        raise CheckError(f"has no answer after {timeout:g} s")
    return status, None


async def stream(url: str, timeout: float, take: Callable[[int], None]) -> None:
    """Follow a stream until it ends: `take` gets 0 when it has opened, and then how many events or chunks have come."""
    with anyio.move_on_after(timeout) as opening:
        async with _get(url, f"{_STREAM}, */*") as response:
            if not response.is_success:
                raise CheckError(f"answered {response.status_code}")
            opening.deadline = float("inf")
            take(0)
            count = EventCounter().feed if response.headers.get("content-type", "").startswith(_STREAM) else lambda _: 1
            async for piece in response.aiter_raw():
                take(count(piece))
            return
    raise CheckError(f"has no answer after {timeout:g} s")


class EventCounter:
    """Counts the events of a text/event-stream: what ends with an empty line and has data, unlike a comment (": ping")."""

    def __init__(self) -> None:
        self._rest, self._has_data, self._after_cr = b"", False, False

    def feed(self, data: bytes) -> int:
        """How many have ended in these bytes."""
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        *lines, rest = (self._rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[: len(b"data:")]
        events = 0
        for line in lines:
            if not line:
                events += self._has_data
                self._has_data = False
            elif line == b"data" or line.startswith(b"data:"):
                self._has_data = True
        return events


async def load_http() -> Any:
    """The module httpx, with all that its clients need: 0.2 s, the first time, in a thread."""
    await anyio.to_thread.run_sync(importlib.import_module, "httpcore")  # the larger part, which httpx leaves to its clients
    return await anyio.to_thread.run_sync(importlib.import_module, "httpx")


@asynccontextmanager
async def _get(url: str, accept: str) -> AsyncIterator[httpx.Response]:
    """Without proxies, redirects, or a connection that stays. Timeouts are the caller's."""
    module = await load_http()
    try:
        async with (
            module.AsyncClient(trust_env=False, timeout=None, verify=tls()) as client,
            client.stream("GET", url, headers={**_HEAD, "Accept": accept}) as response,
        ):
            yield response
    except (module.HTTPError, module.InvalidURL) as exc:
        raise CheckError(why(exc)) from exc


@cache
def tls() -> ssl.SSLContext:
    """Developers' certificates are their own; whether the service answers is asked, not who it is."""
    import ssl  # noqa: PLC0415 - as httpx

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def why(exc: BaseException) -> str:
    """Of a failed question, as of CheckError: the innermost cause, in a word where there is one."""
    while True:
        inner = exc.exceptions[0] if isinstance(exc, BaseExceptionGroup) else exc.__cause__ or exc.__context__
        if inner is None:
            break
        exc = inner
    if isinstance(exc, ConnectionRefusedError):
        return "refused"
    return f"failed: {getattr(exc, 'strerror', None) or exc}".rstrip(".: ")


# -- the rest -------------------------------------------------------------------------------------------------------------


async def tcp(host: str, port: int, timeout: float) -> None:
    """Open a connection, and close it."""
    try:
        with anyio.fail_after(timeout):
            connection = await anyio.connect_tcp(host, port)
            await connection.aclose()
    except TimeoutError:
        raise CheckError(f"has no answer after {timeout:g} s") from None
    except OSError as exc:
        raise CheckError(why(exc)) from exc


async def size(path: str, timeout: float) -> int | None:
    """Of a file; None where there is none. In a thread: its disk may be far away."""
    try:
        with anyio.fail_after(timeout):
            return (await anyio.to_thread.run_sync(os.stat, path, abandon_on_cancel=True)).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except TimeoutError:
        raise CheckError(f"could not be looked at within {timeout:g} s") from None
    except OSError as exc:
        raise CheckError(f"could not be looked at: {exc.strerror}") from exc


async def command(words: Sequence[str], cwd: str, env: Mapping[str, str], timeout: float) -> None:
    """Run it: it has to exit with 0. When it has ended, or its time is over, so has all of its process group."""
    source, target = os.pipe()
    try:
        process = _start(words, cwd, env, target)
        printed = bytearray()
        try:
            with anyio.fail_after(timeout):
                await _run(process, source, printed)
        finally:
            await _kill(process)
    except TimeoutError:
        raise CheckError(f"took longer than {timeout:g} s") from None
    finally:
        os.close(source)
    lines = printed.decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    said = f": {last[:_LINE]}" if last else ""
    if process.returncode < 0:
        raise CheckError(f"was ended by {signal.Signals(-process.returncode).name}{said}")
    if process.returncode:
        raise CheckError(f"exited with {process.returncode}{said}")


def _start(words: Sequence[str], cwd: str, env: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    except (OSError, ValueError) as exc:
        raise CheckError(f"could not be started: {getattr(exc, 'strerror', None) or exc}") from exc
    finally:
        os.close(output)


async def _run(process: subprocess.Popen[bytes], source: int, printed: bytearray) -> None:
    """Until it has ended, not what it left behind, which may hold its output open."""
    os.set_blocking(source, False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, source, printed)
        if not await spawn.ended(process.pid):
            await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        tasks.cancel_scope.cancel()
    _take(source, printed)


async def _read(source: int, printed: bytearray) -> None:
    while True:
        await anyio.wait_readable(source)
        if not _take(source, printed):
            return


def _take(source: int, printed: bytearray) -> bool:
    """What is there now; False at the end, or where there is nothing."""
    with suppress(BlockingIOError):
        data = os.read(source, _BLOCK)
        printed += data
        del printed[:-_LAST]
        return bool(data)
    return False


async def _kill(process: subprocess.Popen[bytes]) -> None:
    """All of its group, and reap it: not before, as a number that is reaped may be another's."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.CancelScope(shield=True), anyio.move_on_after(_GONE):
        if not await spawn.ended(process.pid):
            await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        process.poll()
