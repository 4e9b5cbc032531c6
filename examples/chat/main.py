"""A chat over WebSocket: each answer reads a database, then streams from a slow LLM over HTTP."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field, ValidationError

import planets
import prompts
from llm_client import LlmError, LocalLlm

PAGE = Path(__file__).parent / "index.html"
llm = LocalLlm()


class Question(BaseModel):
    query: str = Field(min_length=1, max_length=2000)
    seconds: float | None = Field(default=None, gt=0, le=300)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with llm:
        yield


app = FastAPI(title="devsup chat example", lifespan=lifespan)


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGE, headers={"Cache-Control": "no-store"})


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"status": "ok", "version": prompts.VERSION, "greeting": prompts.GREETING, "pid": os.getpid()}


@app.get("/slow")
async def slow(seconds: Annotated[float, Query(ge=0, le=300)] = 5.0) -> dict[str, Any]:
    await asyncio.sleep(seconds)
    return {"slept": seconds, "version": prompts.VERSION}


@app.post("/answer")
async def answer(question: Question) -> StreamingResponse:
    try:
        return StreamingResponse(await ask(question), media_type="text/plain")
    except LlmError as error:
        raise HTTPException(503, str(error)) from error


@app.websocket("/ws/query")
async def ws_query(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await reply(websocket, await websocket.receive_text())
    except WebSocketDisconnect:
        pass


async def reply(websocket: WebSocket, message: str) -> None:
    text = ""
    try:
        # aclosing: if the client leaves, the LLM is told at once, not when the generator happens to be collected.
        async with aclosing(await ask(Question.model_validate_json(message))) as pieces:
            async for piece in pieces:
                text += piece
                await websocket.send_json({"type": "piece", "text": piece})
    except ValidationError:
        await websocket.send_json({"type": "error", "text": 'Send {"query": "..."} with 1 to 2000 characters.'})
    except LlmError as error:
        await websocket.send_json({"type": "error", "text": str(error)})
    else:
        await websocket.send_json({"type": "done", "text": text, "version": prompts.VERSION})


async def ask(question: Question) -> AsyncGenerator[str, None]:
    """Query the database, then return the LLM's answer, still to be read."""
    found = await asyncio.to_thread(planets.find, question.query)
    await llm.ensure()
    return llm.stream(prompts.write_prompt(question.query, found), question.seconds)
