"""Servers that devsup is not inside of: Node, a compiled one, `python -I`; their port is watched, not kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import Run, fetch, free_port, save, tool, wait_until

NODE = """
const http = require('http');
let active = 0;
const server = http.createServer((request, response) => {
  if (request.url == '/stats') { response.end(JSON.stringify({ server: { active: active + 1 } })); return; }
  if (request.url == '/health') { response.statusCode = active ? 503 : 200; response.end(); return; }
  if (request.url == '/down') { response.statusCode = 500; response.end(); return; }
  active++;
  response.on('close', () => active--);
  const [, name, milliseconds] = request.url.split('/');
  if (name == 'pieces') { response.write('first '); setTimeout(() => response.end('last'), +milliseconds); return; }
  setTimeout(() => { response.end('v1'); }, +milliseconds || 0);
});
server.listen(PORT, '127.0.0.1', () => console.log('up'));
"""

PLAIN = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(float(self.path.strip("/") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"v1")
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""

# What a Go server does on SIGTERM: it closes its listener, and finishes what it has accepted.
COMPILED = r"""
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static volatile int stop = 0;
static void on_term(int number) { stop = 1; }
int main(int count, char **words) {
  const char *mode = count > 2 ? words[2] : "";
  if (strstr(mode, "daemon") && daemon(1, 1)) return 1;
  if (strstr(mode, "child")) {                     /* leaves the session and clears its environment */
    if (fork() == 0) { setsid(); execle(words[0], words[0], words[1], "pause", (char *)0, (char *[]){0}); }
  }
  if (strstr(mode, "pause")) { for (;;) pause(); }
  struct sigaction action = { .sa_handler = strstr(mode, "deaf") ? SIG_IGN : on_term };
  sigaction(SIGTERM, &action, 0);
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in address = { AF_INET, htons(atoi(words[1])), { htonl(INADDR_LOOPBACK) } };
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) { perror("listen"); return 1; }
  if (strstr(mode, "late")) sleep(2);
  printf("up %d\n", getpid());
  fflush(stdout);
  while (!stop) {
    int connection = accept(listener, 0, 0);
    if (connection < 0) continue;
    char head[4096] = "";
    read(connection, head, sizeof head - 1);
    for (int left = strstr(head, "/slow") ? 15 : 0; left > 0; left--) usleep(100000);
    const char *answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv1";
    write(connection, answer, strlen(answer));
    close(connection);
  }
  return 0;
}
"""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


@pytest.fixture
def node(devsup: Callable[..., Run], project: Path, port: int) -> Callable[..., Run]:
    """`node("--probe", …)`: the server above, reloaded by its source's glob."""
    tool("node")

    def start(*options: str) -> Run:
        save(project / "server.js", NODE.replace("PORT", str(port)))
        run = devsup("node", "server.js", options=["--watch", "*.js", *options])
        run.ready()
        return run

    return start


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server that is nobody's interpreter."""
    source = tmp_path_factory.mktemp("compiled") / "server.c"
    source.write_text(COMPILED)
    subprocess.run([tool("gcc"), "-w", "-o", source.with_suffix(""), source], check=True)
    return str(source.with_suffix(""))


def change(project: Path, port: int, new: str) -> None:
    save(project / "server.js", NODE.replace("PORT", str(port)).replace("v1", new))


def begun(port: int, path: str, pool: ThreadPoolExecutor) -> Future[tuple[int, str]]:
    """A request that the server is working on."""
    answer = pool.submit(fetch, port, path)
    wait_until(lambda: is_received(port))
    return answer


def is_received(port: int) -> bool:
    """Whether a server of the port has a connection whose bytes it has read."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "01" and fields[4].endswith(":00000000") and fields[9] != "0":
            return True
    return False


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


# Recognised


def test_node_is_recognised_and_the_command_that_reloads_it_is_told_once(
    devsup: Callable[..., Run], project: Path, port: int
) -> None:
    tool("node")
    save(project / "server.js", NODE.replace("PORT", str(port)))
    run = devsup("node", "server.js")
    ready = run.ready()
    assert (ready["server"], ready["urls"]) == ("foreign", [f"http://127.0.0.1:{port}"])
    told = run.wait_for("ForeignServer")
    assert told["command"].startswith("devsup run --watch '**/*.js' ")
    assert told["command"].endswith(" node server.js")
    assert run.stop() == 0
    assert not listens(port)


def test_it_is_ready_soon_after_it_listens(node: Callable[..., Run]) -> None:
    run = node()
    up = next(at for at, each in enumerate(run.events) if each["event"] == "Line" and each["line"] == "up")
    assert run.all("Line", line="up")
    assert up < run.events.index(run.all("WorkerReady")[0])


def test_it_is_not_ready_before_it_accepts(devsup: Callable[..., Run], compiled: str, port: int) -> None:
    run = devsup(compiled, str(port), "late")
    wait_until(lambda: listens(port))
    assert run.ready()["seconds"] >= 2
    assert any(line.startswith("up") for line in run.lines())


PRIVATE = """
import select, socket
private = socket.socket()
private.bind(("127.0.0.1", 0))
private.listen()
print("a stranger" if select.select([private], [], [], 2.5)[0] else "nobody", "knocked", flush=True)
"""


def test_what_a_program_opens_for_itself_is_not_knocked_at(devsup: Callable[..., Run], project: Path, port: int) -> None:
    """As debugpy does at import: the first to connect is taken for its own other half."""
    (project / "main.py").write_text(PRIVATE + PLAIN.replace("PORT", str(port)))
    run = devsup("python", "main.py")
    assert run.ready()["server"] == "http.server", run.story()
    assert run.ready()["urls"] == [f"http://127.0.0.1:{port}"]
    assert run.lines() == ["nobody knocked"]
    assert run.stop() == 0


def test_a_save_of_a_watched_file_brings_new_code_and_nothing_is_told_again(
    node: Callable[..., Run], project: Path, port: int
) -> None:
    run = node()
    for generation in (2, 3):
        change(project, port, f"v{generation}")
        run.ready(generation)
        assert fetch(port) == (200, f"v{generation}")
    assert len(run.all("ForeignServer")) == 1
    assert run.all("ForeignServer")[0]["command"] == ""
    assert not run.all("Trouble")
    assert run.stop() == 0


def test_a_whole_script_on_the_command_line_is_no_file(devsup: Callable[..., Run], port: int) -> None:
    """Longer than the name of any file can be."""
    script = "/* " + "x" * 5000 + " */" + NODE.replace("PORT", str(port))
    run = devsup(tool("node"), "-e", script)
    assert run.ready()["server"] == "foreign", run.story()
    assert run.stop() == 0


def test_other_files_reload_nothing(node: Callable[..., Run], project: Path, port: int) -> None:
    run = node()
    save(project / "notes.py", "print('not mine')")
    run.wait_for("ChangeIgnored", path=str(project / "notes.py"))
    change(project, port, "v2")
    run.ready(2)
    assert len(run.all("ReloadStarted")) == 1


@pytest.mark.parametrize("flag", ["-I", "-S", "-E"])
def test_python_that_keeps_the_agent_out(flag: str, devsup: Callable[..., Run], project: Path, port: int) -> None:
    save(project / "app.py", PLAIN.replace("PORT", str(port)))
    run = devsup("python", flag, "app.py", options=["--watch", "*.py"])
    assert run.ready()["server"] == "foreign"
    assert fetch(port) == (200, "v1")
    save(project / "app.py", PLAIN.replace("PORT", str(port)).replace("v1", "v2"))
    run.ready(2)
    assert fetch(port) == (200, "v2")
    assert run.stop() == 0


def test_a_new_port_is_told(node: Callable[..., Run], project: Path, port: int) -> None:
    run = node()
    other = free_port()
    change(project, other, "v2")
    assert run.ready(2)["urls"] == [f"http://127.0.0.1:{other}"]
    run.wait_for("ListenerClosed", url=f"http://127.0.0.1:{port}")


# What a reload waits for


def test_a_request_without_its_answer_is_waited_for(
    node: Callable[..., Run], project: Path, port: int, pool: ThreadPoolExecutor
) -> None:
    run = node()
    answer = begun(port, "/wait/900", pool)
    change(project, port, "v2")
    waiting = run.wait_for("ReloadWaiting")
    assert waiting["active"][0]["name"].startswith("connection from 127.0.0.1:")
    assert answer.result() == (200, "v1")
    run.ready(2)
    assert not run.all("Trouble")


def test_an_answer_in_pieces_is_waited_for(node: Callable[..., Run], project: Path, port: int, pool: ThreadPoolExecutor) -> None:
    run = node()
    answer = begun(port, "/pieces/400", pool)
    change(project, port, "v2")
    assert answer.result() == (200, "first last")
    run.ready(2)


def test_an_idle_connection_is_not_waited_for(node: Callable[..., Run], project: Path, port: int) -> None:
    run = node()
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"GET /wait/100 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"v1" in idle.recv(65536)
        change(project, port, "v2")
        run.ready(2)
        assert run.wait_for("Reloaded")["waited"] < 1.5


def test_connections_are_waited_for_no_longer_than_two_seconds(
    node: Callable[..., Run], project: Path, port: int, pool: ThreadPoolExecutor
) -> None:
    run = node()
    answer = begun(port, "/wait/20000", pool)
    change(project, port, "v2")
    run.ready(2)
    assert 2 <= run.wait_for("Reloaded")["waited"] < 6
    assert "--probe" in run.wait_for("Trouble")["text"]
    with contextlib.suppress(OSError):
        assert answer.result()[0] == 0


def test_a_number_of_the_servers_own_is_waited_for_until_it_is_at_rest(
    node: Callable[..., Run], project: Path, port: int, pool: ThreadPoolExecutor
) -> None:
    run = node("--probe", "http:/stats#server.active")
    answers = [begun(port, "/wait/3500", pool) for _ in range(2)]
    change(project, port, "v2")
    waiting = run.wait_for("ReloadWaiting")["active"]
    assert [(each["name"], each["count"]) for each in waiting] == [("counted by /stats#server.active", 2)]
    assert [answer.result() for answer in answers] == [(200, "v1")] * 2
    run.ready(2)
    assert fetch(port) == (200, "v2")
    assert not run.all("Trouble")


def test_503_of_a_health_endpoint_means_busy(
    node: Callable[..., Run], project: Path, port: int, pool: ThreadPoolExecutor
) -> None:
    run = node("--probe", "http:/health")
    answer = begun(port, "/wait/3000", pool)
    change(project, port, "v2")
    assert run.wait_for("ReloadWaiting")["active"][0]["name"] == "GET /health answered 503"
    assert answer.result() == (200, "v1")
    run.ready(2)


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ("http:/stats#nowhere", 'has no field "nowhere"'),
        ("http:/stats#server", "is no number"),
        ("http:/other#active", "is not JSON"),
    ],
)
def test_a_probe_that_does_not_tell_is_named_once_and_connections_count(
    probe: str, problem: str, node: Callable[..., Run], project: Path, port: int, pool: ThreadPoolExecutor
) -> None:
    run = node("--probe", probe)
    assert problem in run.wait_for("Trouble")["text"]
    answer = begun(port, "/wait/700", pool)
    change(project, port, "v2")
    assert answer.result() == (200, "v1")
    run.ready(2)
    assert len(run.all("Trouble")) == 1, run.story()


def test_ready_means_that_the_endpoint_is_well(devsup: Callable[..., Run], project: Path, port: int) -> None:
    tool("node")
    warm = "let warm = false; setTimeout(() => { warm = true; console.log('warm'); }, 1200);"
    text = NODE.replace("PORT", str(port)).replace("active ? 503", "!warm ? 503")
    save(project / "server.js", warm + text)
    run = devsup("node", "server.js", options=["--probe", "http:/health"])
    run.ready()
    assert "warm" in run.lines()


@pytest.mark.parametrize("probe", ["udp", "http:", "http:health", "http://elsewhere/x", "http:/a#", "http:/a#b#c", "http:/a b"])
def test_what_is_no_probe_is_refused(probe: str, devsup: Callable[..., Run], project: Path) -> None:
    run = devsup("node", "server.js", options=["--probe", probe])
    assert run.wait() == 2
    assert json.dumps(probe) in run.stderr
    assert "--probe http:/health" in run.stderr


# Its end


def test_a_graceful_server_finishes_what_it_has_begun(
    devsup: Callable[..., Run], compiled: str, port: int, pool: ThreadPoolExecutor
) -> None:
    run = devsup(compiled, str(port))
    run.ready()
    answer = begun(port, "/slow", pool)
    assert run.stop() == 0
    assert answer.result() == (200, "v1")


def test_behind_a_launcher_that_ends_at_once_too(
    devsup: Callable[..., Run], compiled: str, port: int, pool: ThreadPoolExecutor
) -> None:
    run = devsup("sh", "-c", f"trap 'exit 0' TERM; {compiled} {port} & wait")
    run.ready()
    answer = begun(port, "/slow", pool)
    assert run.stop() == 0
    assert answer.result() == (200, "v1")


def test_who_ignores_the_signal_is_killed(devsup: Callable[..., Run], compiled: str, project: Path, port: int) -> None:
    save(project / "devsup.toml", f'[services.web]\ncommand = ["{compiled}", "{port}", "deaf"]\nstop_timeout = 0.5\n')
    run = devsup()
    run.ready()
    assert run.stop() == 0
    assert run.wait_for("WorkerExited")["exit"]["signal"] == signal.SIGKILL
    assert not listens(port)


def test_a_child_that_left_the_session_and_cleared_its_environment_is_ended(
    devsup: Callable[..., Run], compiled: str, port: int
) -> None:
    run = devsup(compiled, str(port), "child")
    run.ready()
    pid = wait_until(lambda: pausing(compiled, port))
    assert run.stop() == 0
    assert pid in run.wait_for("Stopped")["left"]
    assert pausing(compiled, port) is None


def test_it_is_ended_when_devsup_is_killed(devsup: Callable[..., Run], compiled: str, port: int) -> None:
    run = devsup(compiled, str(port), "child")
    run.ready()
    wait_until(lambda: pausing(compiled, port))
    run.process.kill()
    run.wait()
    wait_until(lambda: pausing(compiled, port) is None and not listens(port))


def pausing(compiled: str, port: int) -> int | None:
    """The process that the test's server has put aside."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == f"{compiled}\0{port}\0pause\0".encode():
                return int(entry.name)
    return None


def test_a_server_that_goes_to_the_background_is_ended_and_told_how_to_stay(
    devsup: Callable[..., Run], compiled: str, port: int
) -> None:
    run = devsup(compiled, str(port), "daemon")
    assert run.wait() == 0
    assert "in the foreground" in run.wait_for("Trouble")["text"]
    assert not listens(port)


def test_a_crash_is_told_and_it_is_started_again(devsup: Callable[..., Run], compiled: str, port: int) -> None:
    run = devsup(compiled, str(port))
    pid = run.ready()["pid"]
    os.kill(pid, signal.SIGSEGV)
    assert run.wait_for("WorkerExited")["exit"]["signal"] == signal.SIGSEGV
    run.ready(2)
    assert fetch(port) == (200, "v1")
    assert run.stop() == 0


# Python whose server is another language's


def test_granian_reloads_by_globs_with_its_request_answered(
    devsup: Callable[..., Run], project: Path, port: int, pool: ThreadPoolExecutor
) -> None:
    pytest.importorskip("granian")
    app = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "http":
        await asyncio.sleep(float(scope["path"].strip("/") or 0))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"v1"})
"""
    save(project / "main.py", app)
    run = devsup("granian", "--interface", "asgi", "--port", str(port), "main:app", options=["--watch", "*.py"])
    assert run.ready()["server"] == "foreign"
    answer = begun(port, "/0.9", pool)
    save(project / "main.py", app.replace("v1", "v2"))
    assert answer.result() == (200, "v1")
    run.ready(2)
    assert fetch(port) == (200, "v2")
    assert run.stop() == 0
    assert len(run.all("ForeignServer")) == 1
