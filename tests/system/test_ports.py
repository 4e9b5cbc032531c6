"""Who is found on a port: real sockets, real processes."""

import os
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devsup.system import ports
from devsup.system.ports import Holder, describe, holder

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


def test_nobody_listens() -> None:
    with bound() as port:
        assert holder(port) is None


def test_a_connection_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        with client:
            assert holder(client.getsockname()[1]) is None


def test_this_process() -> None:
    with listening() as port:
        found = holder(port)
    assert found is not None
    assert found.pid == os.getpid()
    assert found.cwd == str(Path.cwd())
    assert found.user == pwd.getpwuid(os.getuid()).pw_name


def test_another_process(tmp_path: Path) -> None:
    before = time.time()
    with server(tmp_path) as (process, port):
        found = holder(port)
        assert found is not None
        assert found.pid == process.pid
        assert found.command == f"{Path(sys.executable).name} serve.py --name a b c"
        assert found.cwd == str(tmp_path.resolve())
        assert found.age is not None
        # The kernel counts a process's start in ticks since a boot time of whole seconds.
        assert 0 <= found.age < time.time() - before + 3


@needs_ipv6
def test_either_family() -> None:
    with listening("::1") as port:
        found = holder(port)
    assert found is not None
    assert found.pid == os.getpid()


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost", "0.0.0.0", "::", "no such host"])
def test_hosts_that_the_listener_is_in_the_way_of(host: str) -> None:
    with listening("127.0.0.1") as port:
        assert holder(port, host) is not None


def test_a_listener_on_another_address_is_not_in_the_way() -> None:
    with listening("127.0.0.1") as port:
        assert holder(port, "192.0.2.1") is None


def test_a_listener_on_all_addresses_is_in_the_way() -> None:
    with listening("0.0.0.0") as port:
        assert holder(port, "127.0.0.1") is not None


@needs_ipv6
def test_the_nearest_address_is_told_first(tmp_path: Path) -> None:
    with server(tmp_path) as (process, port), listening("::", port):
        found = holder(port, "127.0.0.1")
        own = holder(port, "::1")
    assert found is not None
    assert own is not None
    assert (found.pid, own.pid) == (process.pid, os.getpid())


def test_process_by_process_gives_the_same(tmp_path: Path) -> None:
    with server(tmp_path) as (process, port):
        found = [each for each in ports._listeners_by_process() if each[1] == port]
    assert found == [("127.0.0.1", port, process.pid)]


@linux_only
def test_the_user_is_known_from_the_port_alone() -> None:
    with listening() as port:
        assert ports._owner(port) == pwd.getpwuid(os.getuid()).pw_name
    with bound() as port:
        assert ports._owner(port) is None


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


@pytest.mark.parametrize(("user", "shown"), [("postgres", "a process of user postgres"), (None, "a process of another user")])
def test_a_process_that_cannot_be_seen(user: str | None, shown: str) -> None:
    assert describe(Holder(None, "", None, user, None)) == shown


def test_psutil_waits_until_it_is_needed() -> None:
    code = "import sys, devsup.system.ports; print('psutil' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
