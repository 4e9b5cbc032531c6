from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from devsup.pytest import DevServer
from harness import save

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    return PlainTextResponse("v1")

app = Starlette(routes=[Route("/", home)])
"""


def test_a_save_brings_new_code(dev_server_factory: Callable[..., DevServer], project: Path) -> None:
    save(project / "main.py", APP)
    server = dev_server_factory("uvicorn", "main:app", "--port", "0", cwd=project)
    assert httpx.get(server.url).text == "v1"
    for version in range(2, 6):
        save(project / "main.py", APP.replace("v1", f"v{version}"))
        assert server.wait_for_reload()["generation"] == version
        assert httpx.get(server.url).text == f"v{version}"
    assert server.stop() == 0
