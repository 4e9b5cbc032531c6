"""Takes points, analyses each one after it has answered, and streams them to whoever draws them."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError

ANALYSIS_SECONDS = 0.3
REMEMBERED = 120


class Reading(BaseModel):
    number: int
    at: float
    value: float


class Point(Reading):
    average: float


class Settings(BaseModel):
    window: int = Field(default=5, ge=1, le=60, description="how many points the average is of")


class Pipeline:
    """What arrives, and what has become of it."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.aggregated = self.ignored = 0
        self.ignoring = False
        self._points: deque[Point] = deque(maxlen=REMEMBERED)
        self._fresh = asyncio.Condition()
        self._analyses: set[asyncio.Task[None]] = set()

    def take(self, payload: dict[str, Any]) -> bool:
        """Count a payload, and analyse it later if it is a reading; say whether it is."""
        try:
            reading = Reading.model_validate(payload)
        except ValidationError:
            self.ignored += 1
            self.ignoring = True
            return False
        self.aggregated += 1
        self.ignoring = False
        task = asyncio.create_task(self._analyse(reading), name=f"analysis of point {reading.number}")
        self._analyses.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._analyses.discard)
        return True

    async def points(self, after: float) -> AsyncIterator[Point]:
        """Those that are remembered from later than `after`, then every new one."""
        while True:
            for point in [each for each in self._points if each.at > after]:
                yield point
                after = point.at
            async with self._fresh:
                while self.newest <= after:
                    await self._fresh.wait()

    @property
    def newest(self) -> float:
        return self._points[-1].at if self._points else 0.0

    @property
    def analyses_running(self) -> int:
        return len(self._analyses)

    async def _analyse(self, reading: Reading) -> None:
        await asyncio.sleep(ANALYSIS_SECONDS)  # where a real one would ask a model
        values = [*(point.value for point in self._points), reading.value][-self.settings.window :]
        self._points.append(Point(**reading.model_dump(), average=round(sum(values) / len(values), 3)))
        async with self._fresh:
            self._fresh.notify_all()


app = FastAPI(title="devsup pipeline example")
# The charts come from another port.
app.add_middleware(CORSMiddleware, allow_origin_regex=r"http://(localhost|127\.0\.0\.1)(:\d+)?")
pipeline = Pipeline()


@app.post("/ingest")
async def ingest(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer at once, and with 200 whatever comes: that is how a wrong field name goes unnoticed."""
    taken = pipeline.take(payload)
    return {"status": "ok" if taken else "ignored", "window": pipeline.settings.window}


@app.post("/settings")
async def change_settings(settings: Settings) -> Settings:
    pipeline.settings = settings
    return settings


@app.get("/status")
async def status() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "aggregated_count": pipeline.aggregated,
        "ignored_count": pipeline.ignored,
        "ignoring": pipeline.ignoring,
        "analyses_running": pipeline.analyses_running,
        "settings": pipeline.settings.model_dump(),
    }


@app.get("/stream")
async def stream(after: float | None = None) -> StreamingResponse:
    """Every new point as a server-sent event; `?after=0` gives the remembered ones first."""
    start = pipeline.newest if after is None else after

    async def events() -> AsyncIterator[str]:
        yield "retry: 500\n\n"
        async for point in pipeline.points(start):
            yield f"data: {point.model_dump_json()}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@app.post("/never")
async def never(request: Request) -> None:
    """Give no answer for as long as the client waits for one."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
