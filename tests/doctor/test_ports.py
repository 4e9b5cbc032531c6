"""The ports that the project is sure to serve: real listeners, real connections."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devsup.doctor import Finding
from devsup.doctor.ports import free
from harness import Answer, Run, free_port, save, tool

Examine = Callable[..., list[Finding]]
Ask = Callable[..., Answer]

APP = "async def app(scope, receive, send): pass\n"
LISTENER = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listens", flush=True)
sys.stdin.read()
"""


@contextmanager
def listener(port: int, folder: Path, host: str = "127.0.0.1") -> Iterator[subprocess.Popen[str]]:
    """A process of somebody else's that listens."""
    save(folder / "other.py", LISTENER)
    words = [sys.executable, "other.py", host, str(port)]
    with subprocess.Popen(words, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        try:
            yield process
        finally:
            process.kill()


def test_no_port_is_named(examine: Examine) -> None:
    nothing = [Finding("ports", "ok", "No command and no config names a port.")]
    assert examine(free, "python", "main.py") == nothing
    assert examine(free) == nothing


@pytest.mark.parametrize("words", ["uvicorn main:app --port {}", "main:app --port {}", "python -m http.server {}"])
def test_a_port_that_is_free(examine: Examine, port: int, words: str) -> None:
    [found] = examine(free, *words.format(port).split())
    assert (found.verdict, found.text) == ("ok", f"port {port} is free.")


def test_one_that_is_taken_fails_and_the_remedy_frees_it(examine: Examine, folder: Path, port: int, ask: Ask) -> None:
    with listener(port, folder) as other:
        [found] = examine(free, "uvicorn", "main:app", "--port", str(port))
        assert found.verdict == "fail"
        assert f"Port {port} is taken: 127.0.0.1:{port} by python" in found.text
        assert f"pid {other.pid}" in found.text
        command = re.search(r'"devsup (port \d+ --free)"', found.remedy)
        assert command is not None, found.remedy
        assert ask(*shlex.split(command[1]), "--yes").code == 0
        assert other.wait(20)
        [found] = examine(free, "uvicorn", "main:app", "--port", str(port))
        assert found.verdict == "ok", found


def test_the_port_of_a_service(examine: Examine, folder: Path, port: int) -> None:
    save(folder / "devsup.toml", f'[services.web]\ncommand = "python main.py"\nport = {port}\n')
    with listener(port, folder, "0.0.0.0"):
        [found] = examine(free)
        assert (found.verdict, found.text.startswith(f"web: Port {port} is taken: 0.0.0.0:{port} by ")) == ("fail", True)
    [found] = examine(free)
    assert (found.verdict, found.text) == ("ok", f"web: port {port} is free.")


def test_who_listens_where_no_client_would_come_is_not_in_the_way(examine: Examine, folder: Path, port: int) -> None:
    with listener(port, folder, "127.0.0.2"):
        [found] = examine(free, "uvicorn", "main:app", "--port", str(port))
        assert found.verdict == "ok", found


def test_two_services_of_one_port_fail(examine: Examine, folder: Path, port: int) -> None:
    command = f'command = "uvicorn main:app --port {port}"'
    save(folder / "devsup.toml", f"[services.web]\n{command}\n[services.api]\n{command}\n")
    assert [(each.verdict, each.text) for each in examine(free)] == [
        ("ok", f"web: port {port} is free."),
        ("fail", f"Services web and api both want port {port}."),
    ]


def test_a_socket_that_is_bound_and_does_not_listen_fails(examine: Examine, port: int) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", port))
        [found] = examine(free, "uvicorn", "main:app", "--port", str(port))
    assert (found.verdict, "is taken by a socket that does not listen" in found.text) == ("fail", True), found


def test_an_address_of_another_machine_fails(examine: Examine, port: int) -> None:
    [found] = examine(free, "uvicorn", "main:app", "--host", "192.0.2.1", "--port", str(port))
    assert (found.verdict, found.text) == ("fail", "192.0.2.1 is no address of this machine.")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked over netlink")
def test_connections_that_have_ended_are_explained_and_blamed_on_nobody(examine: Examine, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = server.accept()
        accepted.close()  # who closes first has to remember
        assert client.recv(1) == b""
    [found] = examine(free, "uvicorn", "main:app", "--port", str(port))
    assert found.verdict == "ok"
    assert found.text.startswith(f"port {port} is free. 1 connection in TIME_WAIT has ended")


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can give that up")
def test_a_port_for_root_alone_fails(project: Path, environment: dict[str, str]) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("every user may have it here")
    words = [tool("setpriv"), "--bounding-set=-net_bind_service", "--", sys.executable, "-m", "devsup", "doctor"]
    command = [*words, "uvicorn", "main:app", "--port", "81"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "fail  ports        port 81 is for root alone." in done.stdout
    assert done.returncode == 1


def test_a_port_of_this_projects_own_devsup_is_well(
    examine: Examine, devsup: Callable[..., Run], folder: Path, port: int
) -> None:
    save(folder / "main.py", APP)
    words = ("uvicorn", "main:app", "--port", str(port))
    run = devsup(*words)
    run.ready()
    [found] = examine(free, *words)
    assert (found.verdict, found.text.startswith(f"port {port} is served: ")) == ("ok", True), found
    other = free_port()
    [found] = examine(free, "uvicorn", "main:app", "--port", str(port), "--ws-max-size", str(other))
    assert found.verdict == "fail", "another command is no copy of it"
    assert run.stop() == 0
