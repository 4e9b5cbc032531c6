"""The app's side of the LLM: start llm.py if nothing answers, stream its answer, end it at shutdown."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

PORT = int(os.environ.get("LLM_PORT", "8001"))
START_SECONDS = 15.0
STOP_SECONDS = 35.0  # longer than llm.py's own limit for answers that are still being spoken
HERE = Path(__file__).parent
log = logging.getLogger("uvicorn.error")


class LlmError(Exception):
    """The LLM cannot answer; the text is fit to be shown to the user."""


class LocalLlm:
    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        # verify=False spares the start the loading of certificates (25 ms), which plain local HTTP never uses.
        # No connection is kept: an idle one may lead to an LLM that has been replaced since.
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{PORT}",
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=httpx.Timeout(60.0, connect=2.0),
            trust_env=False,
            verify=False,
        )
        self._warm_up = asyncio.create_task(self._start_early())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._warm_up.cancel()
        await asyncio.gather(self._warm_up, return_exceptions=True)
        await self._http.aclose()
        await asyncio.to_thread(self._stop_child)

    async def stream(self, prompt: str, seconds: float | None = None) -> AsyncGenerator[str, None]:
        body = {"prompt": prompt, "seconds": seconds}
        try:
            async with self._http.stream("POST", "/generate", json=body) as response:
                response.raise_for_status()
                async for piece in response.aiter_text():
                    yield piece
        except httpx.HTTPError as error:
            raise LlmError(f"The LLM broke off ({type(error).__name__}). Ask again.") from error

    async def ensure(self) -> None:
        """Return once an LLM answers. Asked before each query: the one found earlier may belong to another process."""
        async with self._starting:
            if await self._answers():
                return
            await asyncio.to_thread(self._stop_child)  # one that ended, or is ending, still has to be waited for
            self._child = child = self._start_child()
            deadline = time.monotonic() + START_SECONDS
            while not await self._answers():
                if (code := child.poll()) is not None:
                    raise LlmError(f"llm.py ended with exit code {code}. Run “python llm.py” to see why.")
                if time.monotonic() > deadline:
                    child.kill()
                    raise LlmError(f"llm.py does not answer on port {PORT} after {START_SECONDS:.0f} s.")
                await asyncio.sleep(0.05)

    async def _start_early(self) -> None:
        try:
            await self.ensure()
        except LlmError as error:
            log.warning("No LLM yet, the next query tries again: %s", error)

    async def _answers(self) -> bool:
        try:
            response = await self._http.get("/health", timeout=2.0)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return False
        except httpx.HTTPError as error:
            log.debug("Port %d: %r", PORT, error)
        else:
            if "slow-llm" in response.text:
                return True
        raise LlmError(f"Port {PORT} is held by another program. Set LLM_PORT to a free port.")

    def _start_child(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DEVSUP_")}
        command = [sys.executable, "llm.py", "--until-stdin-closes"]
        return subprocess.Popen(command, cwd=HERE, env=environment, stdin=subprocess.PIPE)

    def _stop_child(self) -> None:
        child, self._child = self._child, None
        if child is None or child.stdin is None:
            return
        # Closing stdin lets it finish what it is saying to others; it works alike on every system.
        child.stdin.close()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
