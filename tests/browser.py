"""A headless Chromium, as a test drives it: pages by their scripts, over its DevTools protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_core_python  # type: ignore[import-untyped]
from websockets.sync.client import ClientConnection, connect

from harness import LIMIT, tool, wait_until

_OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
]


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(LIMIT))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str) -> None:
        """Load a page, and wait until its script has run."""
        self.call("Page.navigate", url=url)
        wait_until(lambda: self.value("document.readyState") == "complete" and self.value("location.href") == url)

    def value(self, expression: str) -> Any:
        """What a line of script gives."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A tab in a browser of its own, whose processes are gone when the block ends."""
    words = [tool("chromium"), *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    env = {**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            told = profile / "DevToolsActivePort"
            port = wait_until(lambda: int(told.read_text().split()[0]) if told.exists() and told.read_text() else 0)
            tabs = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=LIMIT))
            url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            with connect(url, proxy=None, max_size=None, compression=None, open_timeout=LIMIT) as connection:
                page = Page(connection)
                yield page
                with contextlib.suppress(Exception):
                    page.call("Browser.close")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def axe(page: Page) -> list[dict[str, Any]]:
    """What the accessibility checker axe finds wrong."""
    page.call("Page.setBypassCSP", enabled=True)
    source = Path(axe_core_python.__file__).with_name("axe.min.js").read_text()
    page.value(source + "; void 0")
    wrong = "found.violations.map(each => ({id: each.id, nodes: each.nodes.map(node => node.html)}))"
    page.value(f"axe.run().then(found => {{ window.found = {wrong}; }}); void 0")
    wait_until(lambda: page.value("Array.isArray(window.found)"))
    found: list[dict[str, Any]] = page.value("window.found")
    return found
