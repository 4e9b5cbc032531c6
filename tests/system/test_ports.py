"""Who is found on a port: real sockets, real processes."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devsup.system.holder import Holder, describe, user_name
from devsup.system.listener import Address
from devsup.system.ports import Listener, as_record, listeners, look, next_free

SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        yield listener.getsockname()[1]


@contextmanager
def server(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that listens until its standard input ends."""
    (folder / "serve.py").write_text(SERVER)
    command = [sys.executable, "serve.py", "--name", "a b\nc"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.communicate()


@contextmanager
def bound() -> Iterator[int]:
    """A port on which nobody listens, kept from everyone else."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").is_file() and sys.platform == "linux", reason="no IPv6")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")


def pids(port: int) -> list[tuple[str, list[int]]]:
    return [(each.address.host, [holder.pid for holder in each.holders]) for each in listeners(port)]


def test_nobody_listens() -> None:
    with bound() as port:
        assert listeners(port) == []


def test_a_connection_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        with client:
            assert listeners(client.getsockname()[1]) == []


def test_this_process() -> None:
    with listening() as port:
        [found] = listeners(port)
    [holder] = found.holders
    assert holder.pid == os.getpid()
    assert holder.cwd == str(Path.cwd())
    assert holder.user == found.user == pwd.getpwuid(os.getuid()).pw_name
    assert str(os.getppid()) in holder.parent
    assert found.address.where == f"127.0.0.1:{port}"


def test_another_process(tmp_path: Path) -> None:
    before = time.time()
    with server(tmp_path) as (process, port):
        [found] = listeners(port)
    [holder] = found.holders
    assert holder.pid == process.pid
    assert holder.command == f"{Path(sys.executable).name} serve.py --name a b c"
    assert holder.words[1:] == ("serve.py", "--name", "a b\nc")
    assert holder.cwd == str(tmp_path.resolve())
    assert holder.age is not None
    # The kernel counts a process's start in ticks since a boot time of whole seconds.
    assert 0 <= holder.age < time.time() - before + 3


@needs_ipv6
def test_every_address_of_either_family(tmp_path: Path) -> None:
    with server(tmp_path) as (process, port), listening("::1", port):
        assert pids(port) == [("127.0.0.1", [process.pid]), ("::1", [os.getpid()])]


def test_two_on_one_address() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as first:
        port = first.getsockname()[1]
        with socket.create_server(("127.0.0.1", port), reuse_port=True):
            assert pids(port) == [("127.0.0.1", [os.getpid()])] * 2


def test_of_those_who_share_a_listener_only_who_has_started_the_others() -> None:
    with listening() as port:
        child = os.fork()
        if not child:
            signal.pause()
        try:
            [found] = listeners(port)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert [holder.pid for holder in found.holders] == [os.getpid()]
    assert found.pids == {os.getpid(), child}


def test_connections_by_state() -> None:
    with listening() as port:
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            [found] = listeners(port)
            assert found.connections == {"established": 2}
        assert look(port).listeners[0].connections == {"close_wait": 2}


@linux_only
def test_what_is_left_of_ended_connections_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        listener.accept()[0].close()  # who closes first waits
        assert client.recv(1) == b""
        client.close()
    found = look(port)
    assert (found.listeners, found.connections) == ([], {"time_wait": 1})
    with socket.create_server(("127.0.0.1", port)):
        assert len(listeners(port)) == 1


def test_the_next_free_port_by_number(port: int) -> None:
    with listening("127.0.0.1", port):
        found = next_free(port - 1)
    assert found is not None
    assert found > port


def test_a_port_in_plain_values() -> None:
    with listening() as port:
        record = as_record(look(port))
    assert json.loads(json.dumps(record)) == record
    [found] = record["listeners"]
    [holder] = found["holders"]
    assert (found["address"], holder["pid"], holder["devsup"]) == (f"127.0.0.1:{port}", os.getpid(), None)


# In words


def mine(command: str = "python main.py", cwd: str | None = None, age: float | None = None) -> Holder:
    return Holder(4121, command, cwd, pwd.getpwuid(os.geteuid()).pw_name, age)


def test_all_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = mine("python /home/me/app/main.py --log=/home/me/log", "/home/me/app", 200)
    assert describe(found) == "python ~/app/main.py --log=~/log (pid 4121, folder ~/app, since 3 min)"


@pytest.mark.parametrize(
    ("home", "folder", "shown"),
    [("/home/me", "/home/me", "~"), ("/home/me", "/home/me2/app", "/home/me2/app"), ("/", "/srv/app", "/srv/app")],
)
def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, home: str, folder: str, shown: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert describe(mine(cwd=folder)) == f"python main.py (pid 4121, folder {shown})"


@pytest.mark.parametrize(
    ("age", "shown"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7300, "2 h"), (86400 * 9.5, "9 d")],
)
def test_the_age(age: float, shown: str) -> None:
    assert describe(mine(age=age)) == f"python main.py (pid 4121, since {shown})"


def test_a_long_command_is_shortened() -> None:
    assert describe(mine("x" * 500)) == f"{'x' * 99}… (pid 4121)"


def test_another_user_is_named() -> None:
    assert describe(Holder(7, "nginx", None, "somebody else", None)) == "nginx (pid 7, user somebody else)"


def test_who_has_started_it() -> None:
    assert describe(Holder(7, "nginx", None, None, None, parent="bash (pid 6)")) == "nginx (pid 7, started by bash (pid 6))"


def test_what_looks_like_a_server_on_a_mac() -> None:
    assert describe(Holder(7, "ControlCenter", None, None, None)).startswith("macOS's AirPlay Receiver")


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("postgres", "a process of user postgres"),
        (user_name(os.geteuid()), "in a container, or has just ended"),
        (None, "a process that cannot be seen from here"),
    ],
)
def test_a_process_that_cannot_be_seen(user: str | None, shown: str) -> None:
    assert shown in Listener(Address(2, "127.0.0.1", 80), 1, frozenset(), (), user, {}).describe()


def test_psutil_waits_until_it_is_needed() -> None:
    code = "import sys, devsup.system.ports; print('psutil' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
