"""What stands in for parts of socketserver and http.server behaves as they do."""

from __future__ import annotations

import http.server
import importlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

socketserver: Any = importlib.import_module("devsup_agent.servers.socketserver")


def test_a_selector_that_is_closed_wakes_nobody(tmp_path: Path) -> None:
    """Its number may be that of a file of the program's by then."""
    selector = socketserver.Selector()
    numbers = {selector._wake_read, selector._wake_write}
    selector.close()
    files = [(tmp_path / str(at)).open("w+b", buffering=0) for at in range(8)]
    try:
        assert numbers <= {file.fileno() for file in files}
        selector.wake()
        assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 8
    finally:
        for file in files:
            file.close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Looks at its stream as programs do that hand it to others."""

    def do_GET(self) -> None:
        stream: Any = self.rfile
        same = stream.fileno() == self.connection.fileno() and stream.raw._sock is self.connection
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(same).encode())

    def setup(self) -> None:
        """As behind the agent."""
        super().setup()
        stream, record = self.rfile, Record()
        self.rfile = socketserver._Requests(socketserver._FirstByte(stream.detach(), record), record)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Record:
    """Of a connection; notes nothing."""

    in_head = True

    def first_byte(self) -> None:
        """It came."""


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    """On any port."""
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.handle_request)
        thread.start()
        yield found
        thread.join()


def test_the_stream_of_a_request_tells_its_socket(server: http.server.HTTPServer) -> None:
    with urlopen(f"http://127.0.0.1:{server.server_address[1]}/", timeout=10) as answer:
        assert answer.read() == b"True"
