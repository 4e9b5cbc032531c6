from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness import Run, fetch, save

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse("v1")

app = Starlette(routes=[Route("/", home)])
"""


def test_a_save_brings_new_code(devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "main.py", APP)
    run = devsup("uvicorn", "main:app", "--port", str(port))
    run.ready()
    assert fetch(port) == (200, "v1")
    for version in range(2, 6):
        save(project / "main.py", APP.replace("v1", f"v{version}"))
        run.ready(version)
        assert fetch(port) == (200, f"v{version}")
    assert run.stop() == 0
