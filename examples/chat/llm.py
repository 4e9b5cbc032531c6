"""A slow "LLM": it says its prompt back, token by token, over as many seconds as asked for."""

import asyncio
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PORT = int(os.environ.get("LLM_PORT", "8001"))
SECONDS = float(os.environ.get("LLM_SECONDS", "12"))
UNTIL_STDIN_CLOSES = "--until-stdin-closes"


async def speak(text: str, seconds: float) -> AsyncIterator[str]:
    tokens = re.findall(r"\s*\S+", text)
    started = time.monotonic()
    for number, token in enumerate(tokens, start=1):
        # Due times are absolute, so that small delays do not add up over a long answer.
        await asyncio.sleep(max(0.0, started + seconds * number / len(tokens) - time.monotonic()))
        yield token


async def generate(request: Request) -> Response:
    try:
        body = await request.json()
        prompt, seconds = str(body["prompt"]), float(body.get("seconds") or SECONDS)
    except (ValueError, TypeError, KeyError, AttributeError):
        return JSONResponse({"error": 'Send {"prompt": "...", "seconds": 12}; seconds may be left out.'}, 422)
    return StreamingResponse(speak(prompt, seconds), media_type="text/plain")


async def health(request: Request) -> Response:
    return JSONResponse({"name": "slow-llm", "pid": os.getpid(), "seconds": SECONDS})


app = Starlette(routes=[Route("/generate", generate, methods=["POST"]), Route("/health", health)])


def stop_when_stdin_closes(server: uvicorn.Server) -> None:
    """The end of the pipe is the one sign of the parent's death that SIGKILL cannot suppress."""
    # os.read, not sys.stdin: a thread inside a buffered read would hold its lock at interpreter exit.
    while os.read(0, 1024):
        pass
    if not server.server_state.tasks:
        os._exit(0)  # nobody is being answered: the graceful way would add 0.2 s to each reload of the app
    server.should_exit = True


def main() -> None:
    config = uvicorn.Config(app, host="127.0.0.1", port=PORT, log_level="warning", timeout_graceful_shutdown=30)
    server = uvicorn.Server(config)
    if UNTIL_STDIN_CLOSES in sys.argv:
        threading.Thread(target=stop_when_stdin_closes, args=(server,), daemon=True).start()
    with suppress(KeyboardInterrupt):
        server.run()


if __name__ == "__main__":
    main()
