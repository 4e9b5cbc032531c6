"""On a terminal a program under devsup behaves as it does without: colours, prompts, debugger, signals, size, job control."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import LIMIT, fetch, save, tool, wait_until

Event = dict[str, Any]
_NUMBERS = itertools.count()
_NOT_OURS = {"NO_COLOR", "PYTHONUNBUFFERED", "TMUX", "TMUX_PANE"}  # of whoever runs the tests


class Shell:
    """A bash in a tmux of its own, with devsup's events read from the project's event log."""

    def __init__(self, project: Path, env: dict[str, str]) -> None:
        self._project = project
        self._folder = tempfile.mkdtemp(prefix="tmux")  # short: it holds a Unix socket
        self._env = {key: value for key, value in env.items() if key not in _NOT_OURS}
        self._env |= {"TMUX_TMPDIR": self._folder, "TERM": "xterm-256color", "HISTFILE": "/dev/null"}
        self._name = f"t{os.getpid()}-{next(_NUMBERS)}"

    def open(self) -> None:
        """Start it, and wait for its prompt."""
        bash = ["env", "PS1=READY> ", "bash", "--norc", "--noprofile"]
        self._tmux("new-session", "-d", "-x", "100", "-y", "30", "-c", str(self._project), *bash)
        self.wait_for("READY>")

    def _tmux(self, *words: str) -> str:
        command = [tool("tmux"), "-L", self._name, "-f", "/dev/null", *words]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def type(self, text: str) -> None:
        """These characters, as typed."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: `Enter`, `C-c`, `BSpace`."""
        self._tmux("send-keys", *keys)

    def say(self, line: str) -> None:
        """A line, and Enter."""
        self.type(line)
        self.press("Enter")

    def run(self, *words: str, before: str = "", after: str = "") -> None:
        """Type `devsup run …; echo code=$?`; the shell tells the code when it has ended."""
        self.say(f'{before}"{sys.executable}" -m devsup run {" ".join(words)}{after}; echo "code=$?"')

    def screen(self, *, colours: bool = False) -> str:
        """All that the terminal shows, with what has scrolled away; wrapped lines joined."""
        shown = self._tmux("capture-pane", "-p", "-J", "-S", "-", *(["-e"] if colours else []))
        return "\n".join(line.rstrip() for line in shown.splitlines()).rstrip() + "\n"

    def record(self, path: Path) -> None:
        """From now on write all bytes that the terminal gets to a file."""
        self._tmux("pipe-pane", "-O", f"exec cat > '{path}'")
        wait_until(path.exists)

    def resize(self, columns: int, rows: int) -> None:
        """Another size of the window."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def hang_up(self) -> None:
        """Close the window."""
        self._tmux("kill-session")

    def wait_for(self, text: str, count: int = 1, limit: float = LIMIT) -> str:
        """The screen, when it shows `text` that often."""

        def shown() -> str:
            screen = self.screen()
            return screen if screen.count(text) >= count else ""

        return wait_until(shown, limit, lambda: f"{count} times {text!r}\n{self.screen()}\n{self.events()}")

    def code(self, label: str = "code") -> int:
        """The exit code of devsup, when it has ended and the shell has told it."""

        def ended() -> re.Match[str] | None:
            return re.search(rf"{label}=(\d+)$", self.screen(), re.MULTILINE)

        found = wait_until(ended, story=lambda: f"{self.screen()}\n{self.events()}")
        assert found is not None
        return int(found[1])

    def settings(self, name: str) -> str:
        """What `stty -a` says now."""
        path = self._project.parent / name
        self.say(f"stty -a > '{path}'; echo said-{name}")
        self.wait_for(f"\nsaid-{name}")
        return path.read_text()

    def events(self) -> list[Event]:
        """What devsup has told its event log."""
        path = self._project / ".devsup" / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def event(self, name: str, count: int = 1, limit: float = LIMIT, **fields: Any) -> Event:
        """The `count`-th event of this name with these fields, when it has come."""

        def found() -> Event | None:
            same = [each for each in self.events() if each["event"] == name]
            same = [each for each in same if all(each.get(key) == fields[key] for key in fields)]
            return same[count - 1] if len(same) >= count else None

        event = wait_until(found, limit, lambda: f"no {name} {fields}\n{self.screen()}\n{self.events()}")
        assert event is not None
        return event

    def has(self, name: str) -> bool:
        """Whether there was such an event."""
        return any(each["event"] == name for each in self.events())

    def close(self) -> None:
        """End the terminal, and with it what runs there."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self._tmux("kill-server")
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def shell(project: Path, environment: dict[str, str]) -> Iterator[Shell]:
    """A shell prompt in the project's folder."""
    tool("tmux")
    tool("bash")
    made = Shell(project, environment)
    try:
        made.open()
        yield made
    finally:
        made.close()


APP = """
import os
import sys
import threading
import time

import uvicorn

print("ttys:", os.isatty(0), os.isatty(1), os.isatty(2))

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    x = 42
    BODY
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"v1"})
"""


def serve(
    shell: Shell, project: Path, port: int, *, body: str = "pass", options: str = "", before: str = "", after: str = ""
) -> Event:
    """The app under devsup, ready."""
    save(project / "main.py", APP.replace("BODY", body))
    shell.run(options, f"uvicorn main:app --port {port}", before=before, after=after)
    return shell.event("WorkerReady", generation=1)


@contextlib.contextmanager
def asking(port: int) -> Iterator[list[tuple[int, str]]]:
    """A request that waits in the background; its answer is in the list once it has come."""
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        with contextlib.suppress(OSError):
            answers.append(fetch(port, timeout=LIMIT))

    thread = threading.Thread(target=ask)
    thread.start()
    yield answers
    thread.join(LIMIT + 5)


def answer(answers: list[tuple[int, str]], shell: Shell) -> tuple[int, str]:
    """The answer of `asking`, when it has come."""
    wait_until(lambda: answers, story=lambda: f"{shell.screen()}\n{shell.events()}")
    return answers[0]


# Colours


def test_the_worker_has_terminals_and_its_colours_arrive(shell: Shell, project: Path, port: int) -> None:
    serve(shell, project, port)
    shell.wait_for("ttys: True True True")
    shell.wait_for("Uvicorn running")
    assert re.search(r"\x1b\[32mINFO\x1b\[[0-9;]*m", shell.screen(colours=True))
    shell.press("C-c")
    assert shell.code() == 0


@pytest.mark.parametrize("no_color", [False, True])
def test_devsups_own_lines_are_coloured_unless_no_color_is_set(shell: Shell, project: Path, port: int, no_color: bool) -> None:
    bytes_shown = project.parent / "bytes"
    shell.record(bytes_shown)
    serve(shell, project, port, before="NO_COLOR=1 " if no_color else "")
    shell.wait_for(f"devsup http://127.0.0.1:{port}")
    shell.press("C-c")
    assert shell.code() == 0
    lines = [line for line in bytes_shown.read_bytes().splitlines() if f"http://127.0.0.1:{port}".encode() in line]
    own = [line for line in lines if b"devsup" in line and b"uvicorn main:app" not in line]
    assert len(own) == 1, bytes_shown.read_bytes()
    assert (b"\x1b" in own[0]) is not no_color


@pytest.mark.parametrize("piped", [False, True])
def test_on_a_terminal_python_buffers_by_line(shell: Shell, project: Path, piped: bool) -> None:
    """So that half lines of stdout and stderr do not mix; what is piped comes at once."""
    save(project / "how.py", "import sys; print(f'lines {sys.stdout.line_buffering}, at once {sys.stdout.write_through}')\n")
    shell.run("python how.py", after=" | cat" if piped else "")
    screen = shell.wait_for("at once")
    assert "at once True" in screen if piped else "lines True, at once False" in screen, screen


# Prompts

ASKING = {
    "input": "print('hello', input('who? '))",
    "readline": "import sys; print('who? ', end='', flush=True); print('hello', sys.stdin.readline().strip())",
    "for line in stdin": "import sys; print('who? ', end='', flush=True); print('hello', next(sys.stdin).strip())",
    "click.prompt": "import click; print('hello', click.prompt('who? '))",
    "with readline loaded": "import readline; print('hello', input('who? '))",
}


@pytest.mark.parametrize("way", ASKING)
def test_a_script_can_ask(shell: Shell, project: Path, way: str) -> None:
    """What is typed is shown, corrected with backspace, and read; letters that are devsup's keys too."""
    save(project / "ask.py", ASKING[way])
    shell.run("python ask.py")
    shell.wait_for("who?")
    shell.type("q rshX")
    shell.press("BSpace")
    wait_until(lambda: re.search(r"^who\? ?:? q rsh$", shell.screen(), re.MULTILINE), story=shell.screen)
    shell.press("Enter")
    shell.wait_for("hello q rsh")
    assert shell.code() == 0
    assert not shell.has("Stopping")


def test_a_password_is_not_shown(shell: Shell, project: Path) -> None:
    save(project / "ask.py", "import getpass; print('length', len(getpass.getpass('word? ')))")
    shell.run("python ask.py")
    shell.wait_for("word?")
    shell.say("secret")
    screen = shell.wait_for("length 6")
    assert "secret" not in screen
    assert shell.code() == 0


def test_a_foreign_program_can_ask(shell: Shell, project: Path) -> None:
    """Also one that has no agent in it."""
    save(project / "ask.sh", "printf 'who? '; read name; echo hello $name")
    shell.run("bash ask.sh")
    shell.wait_for("who?")
    shell.say("Ada")
    shell.wait_for("hello Ada")
    assert shell.code() == 0


# The debugger


def press_h_until_helped(shell: Shell) -> None:
    """The program may still be taking its last line: what comes at once after it may be its own."""
    for _ in range(5):
        shell.press("h")
        with contextlib.suppress(AssertionError):
            shell.wait_for("devsup keys", limit=2)
            return
    shell.wait_for("devsup keys", limit=0.1)


PDB = "breakpoint()"
SYNC = "import asyncio; await asyncio.get_running_loop().run_in_executor(None, lambda: breakpoint() or x)"


@pytest.mark.parametrize("body", [PDB, SYNC], ids=["in the loop", "in a thread"])
def test_at_pdbs_prompt_all_keys_are_pdbs(shell: Shell, project: Path, port: int, body: str) -> None:
    worker = serve(shell, project, port, body=body)
    with asking(port) as answers:
        shell.wait_for("(Pdb)")
        shell.say("p 6*7")
        shell.wait_for("\n42\n")
        shell.say("h")
        shell.wait_for("Documented commands")
        shell.say("s")
        shell.wait_for("(Pdb)", 4)
        shell.say("r")
        shell.wait_for("(Pdb)", 5)
        assert "devsup keys" not in shell.screen()
        assert not shell.has("Status")
        assert not shell.has("ReloadStarted")
        shell.say("c")
        assert answer(answers, shell) == (200, "v1")
    assert not shell.has("Stopping")
    press_h_until_helped(shell)
    assert not [each for each in shell.events() if each["event"] == "WorkerExited" and each["pid"] == worker["pid"]]
    shell.press("q")
    assert shell.code() == 0


def test_pdbs_q_does_not_end_devsup(shell: Shell, project: Path, port: int) -> None:
    serve(shell, project, port, body="breakpoint() if scope['path'] == '/stop' else None")
    request = subprocess.Popen(
        [sys.executable, "-c", f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/stop')"],
        stderr=subprocess.DEVNULL,
    )
    shell.wait_for("(Pdb)")
    shell.say("q")
    if sys.version_info >= (3, 14):
        shell.wait_for("Quit")
        shell.say("y")
        shell.event("WorkerReady", generation=2)
    assert request.wait(LIMIT) != 0
    assert fetch(port) == (200, "v1")
    assert not shell.has("Stopping")
    shell.press("q")
    assert shell.code() == 0


@pytest.mark.parametrize("mode", ["drain", "restart"])
def test_while_pdb_prompts_a_save_does_not_restart(shell: Shell, project: Path, port: int, mode: str) -> None:
    worker = serve(shell, project, port, body=PDB, options=f"--reload {mode} --drain-timeout 0.5")
    with asking(port) as answers:
        shell.wait_for("(Pdb)")
        saved = time.time()
        save(project / "main.py", APP.replace("BODY", "pass").replace("v1", "v2222"))
        wait_until(lambda: time.time() > saved + 2.5)  # five times the drain timeout
        shell.say("p x + 1")
        shell.wait_for("\n43\n")
        assert not shell.has("WorkerExited"), shell.events()
        shell.say("c")
        if mode == "drain":
            assert answer(answers, shell) == (200, "v1")
            assert not shell.has("WorkLost")
        shell.event("WorkerExited", pid=worker["pid"])
        shell.event("WorkerReady", generation=2)
    assert fetch(port) == (200, "v2222")
    shell.press("q")
    assert shell.code() == 0


def test_the_drain_clock_stands_still_while_pdb_prompts(shell: Shell, project: Path, port: int) -> None:
    """After the prompt the request has the time left that it had before: its 1.5 s fit into 3."""
    serve(shell, project, port, body="breakpoint(); time.sleep(1.5)", options="--drain-timeout 3")
    with asking(port) as answers:
        shell.wait_for("(Pdb)")
        save(project / "main.py", APP.replace("BODY", "pass").replace("v1", "v2222"))
        started = shell.event("ReloadStarted")["at"]
        wait_until(lambda: time.time() > started + 5.0)
        shell.say("c")
        assert answer(answers, shell) == (200, "v1"), shell.events()
    shell.event("WorkerReady", generation=2)
    assert not shell.has("WorkLost"), shell.events()
    shell.press("q")
    assert shell.code() == 0


def test_a_save_while_pdb_prompts_during_the_start(shell: Shell, project: Path, port: int) -> None:
    """A breakpoint at the top of a module: neither the limit of a start nor a save ends it."""
    save(project / "devsup.toml", "[services.app]\nhold = 0.4\n")
    text = APP.replace("BODY", "pass")
    save(project / "main.py", text.replace('print("ttys', 'breakpoint(); print("ttys'))
    shell.run(f"uvicorn main:app --port {port}")
    shell.wait_for("(Pdb)")
    saved = time.time()
    save(project / "main.py", text.replace("v1", "v2222"))
    wait_until(lambda: time.time() > saved + 2.0)
    shell.say("p 6*7")
    shell.wait_for("\n42\n")
    assert not shell.has("WorkerExited"), shell.events()
    shell.say("c")
    shell.event("WorkerReady", generation=2)
    assert fetch(port) == (200, "v2222")
    shell.press("q")
    assert shell.code() == 0


def test_keys_are_devsups_again_when_a_prompting_worker_is_killed(shell: Shell, project: Path, port: int) -> None:
    worker = serve(shell, project, port, body=PDB)
    with asking(port):
        shell.wait_for("(Pdb)")
        os.kill(worker["pid"], 9)
        shell.event("WorkerReady", generation=2)
    shell.press("h")
    shell.wait_for("devsup keys")
    shell.press("q")
    assert shell.code() == 0


def test_ctrl_c_leads_out_of_a_prompt(shell: Shell, project: Path, port: int) -> None:
    """Whoever gets the first one, the second ends it, and the shell has its terminal back."""
    before = shell.settings("before")
    serve(shell, project, port, body=PDB)
    with asking(port):
        shell.wait_for("(Pdb)")
        shell.press("C-c")
        wait_until(lambda: shell.has("Stopping") or "KeyboardInterrupt" in shell.screen(), story=shell.screen)
        shell.press("C-c")
        assert shell.code() == 0
    assert shell.settings("after") == before


# Keys


def test_the_keys(shell: Shell, project: Path, port: int) -> None:
    """`h` helps, `s` tells the status, `r` reloads, `q` quits; none of them is shown."""
    first = serve(shell, project, port)
    shell.press("h")
    shell.wait_for("devsup keys")
    shell.press("s")
    assert shell.event("Status")["pid"] == first["pid"]
    shell.wait_for("active: nothing")
    shell.press("r")
    second = shell.event("WorkerReady", generation=2)
    assert second["pid"] != first["pid"]
    assert fetch(port) == (200, "v1")
    shell.press("q")
    assert shell.code() == 0
    assert not re.search(r"^[hsrq]+$", shell.screen(), re.MULTILINE), shell.screen()


def test_r_cuts_a_wait_short(shell: Shell, project: Path, port: int) -> None:
    serve(shell, project, port, body="import asyncio; print('long', 'begins'); await asyncio.sleep(30)")
    request = subprocess.Popen(
        [sys.executable, "-c", f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/long')"],
        stderr=subprocess.DEVNULL,
    )
    shell.wait_for("long begins")
    save(project / "main.py", APP.replace("BODY", "pass").replace("v1", "v2222"))
    shell.wait_for("waiting for 1 active request: GET /long")
    assert not shell.has("WorkerExited")
    shell.press("r")
    shell.event("WorkerReady", generation=2)
    assert fetch(port) == (200, "v2222")
    assert request.wait(LIMIT) != 0
    shell.press("q")
    assert shell.code() == 0


# Ends


@pytest.mark.parametrize(
    "way", ["Ctrl-C", "Ctrl-Backslash", "q", "SIGTERM", "SIGHUP", "SIGQUIT", "exit", "crash", "refused", "usage"]
)
def test_after_every_end_the_terminal_is_as_it_was(shell: Shell, project: Path, port: int, way: str) -> None:
    before = shell.settings("before")
    expected = {"exit": 7, "crash": 128 + 9, "refused": 2, "usage": 2}.get(way, 0)
    if way == "exit":
        save(project / "ends.py", "import sys; sys.exit(7)")
        shell.run("--reload off python ends.py")
    elif way == "crash":
        worker = serve(shell, project, port, options="--reload off")
        os.kill(worker["pid"], 9)
    elif way == "refused":
        save(project / "main.py", APP)
        shell.run("nomodule:app")
    elif way == "usage":
        shell.run("--watch 'nosuch/**' nomodule:app")
    else:
        serve(shell, project, port)
        if way.startswith("SIG"):
            os.kill(supervisor(project), signal.Signals[way])
        else:
            shell.press({"Ctrl-C": "C-c", "Ctrl-Backslash": "C-\\"}.get(way, way))
    assert shell.code() == expected
    assert shell.settings("after") == before
    shell.say("echo typed-$((40 + 2))")
    screen = shell.wait_for("typed-42")
    assert "echo typed-$((40 + 2))" in screen, "the shell does not echo"


def supervisor(project: Path) -> int:
    """The pid of the devsup whose worker runs in this folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if b"\0devsup\0run\0" in (entry / "cmdline").read_bytes() and (entry / "cwd").resolve() == project.resolve():
                    return int(entry.name)
    raise AssertionError("no devsup runs here")


def test_ctrl_c_once_is_graceful(shell: Shell, project: Path, port: int) -> None:
    """The app's shutdown runs to its end, and only once."""
    lifespan = """if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shutdown", "begins")
        await __import__("asyncio").sleep(0.3)
        print("shutdown", "complete")
        await send({"type": "lifespan.shutdown.complete"})
        return"""
    save(project / "main.py", APP.replace('if scope["type"] == "lifespan":\n        return', lifespan).replace("BODY", "pass"))
    shell.run(f"uvicorn main:app --port {port}")
    worker = shell.event("WorkerReady")
    shell.press("C-c")
    assert shell.code() == 0
    screen = shell.screen()
    assert re.findall(r"^shutdown \w+$", screen, re.MULTILINE) == ["shutdown begins", "shutdown complete"], screen
    assert "Traceback" not in screen
    ended = shell.event("WorkerExited", pid=worker["pid"])
    assert ended["expected"]
    assert ended["exit"]["code"] == 0


STUBBORN = {
    "a script": "import signal, time\n"
    "for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\n"
    "print('now', 'up', flush=True)\n"
    "while True: time.sleep(60)\n",
    "a server": "import uvicorn, time\n"
    "async def app(scope, receive, send):\n"
    "    await receive(); await send({'type': 'lifespan.startup.complete'}); print('now', 'up', flush=True)\n"
    "    await receive(); time.sleep(60)\n"
    "uvicorn.run(app, port=0)\n",
}


@pytest.mark.parametrize("kind", STUBBORN)
def test_ctrl_c_twice_kills_a_worker_that_does_not_end(shell: Shell, project: Path, kind: str) -> None:
    save(project / "devsup.toml", "[services.app]\nstop_timeout = 50.0\n")
    save(project / "stubborn.py", STUBBORN[kind])
    shell.run("python stubborn.py")
    shell.wait_for("now up")
    pid = shell.event("WorkerSpawned")["pid"]
    if kind == "a server":
        shell.event("WorkerReady")
    shell.press("C-c")
    shell.event("Stopping")
    assert Path(f"/proc/{pid}").exists()
    shell.press("C-c")
    assert shell.code() == 0
    assert shell.event("WorkerExited", pid=pid)["exit"]["signal"] == 9


def test_a_print_loop_does_not_stop_ctrl_c(shell: Shell, project: Path) -> None:
    save(project / "loop.py", "while True: print('spam and eggs', 'again')\n")
    shell.run("python loop.py")
    shell.wait_for("spam and eggs again")
    shell.press("C-c")
    assert shell.code() == 0
    assert shell.has("Stopping")


def test_a_closed_window_ends_everything(shell: Shell, project: Path, port: int) -> None:
    worker = serve(shell, project, port)
    devsup = supervisor(project)
    shell.hang_up()
    wait_until(lambda: not Path(f"/proc/{worker['pid']}").exists(), story=lambda: f"{shell.events()}")
    wait_until(lambda: not Path(f"/proc/{devsup}").exists(), story=lambda: f"{shell.events()}")
    assert [each["code"] for each in shell.events() if each["event"] == "Stopped"] == [0], shell.events()


# Size and job control


def test_the_worker_sees_a_new_size(shell: Shell, project: Path) -> None:
    save(
        project / "size.py",
        "import os, signal, time\n"
        "def show(*_): print('size', *os.get_terminal_size(0), *os.get_terminal_size(1), *os.get_terminal_size(2), flush=True)\n"
        "signal.signal(signal.SIGWINCH, show)\nshow()\nwhile True: time.sleep(60)\n",
    )
    shell.run("python size.py")
    shell.wait_for("size 100 30 100 30 100 30")
    shell.event("WorkerSpawned")
    shell.resize(120, 40)
    shell.wait_for("size 120 40 120 40 120 40")
    shell.resize(90, 25)
    shell.wait_for("size 90 25 90 25 90 25")
    shell.press("C-c")
    assert shell.code() == 0


def test_ctrl_z_and_fg(shell: Shell, project: Path, port: int) -> None:
    before = shell.settings("before")
    serve(shell, project, port)
    assert fetch(port) == (200, "v1")
    shell.press("C-z")
    shell.wait_for("Stopped")
    assert shell.settings("stopped") == before
    shell.say("echo typed-$((40 + 2))")
    assert "echo typed-$((40 + 2))" in shell.wait_for("typed-42"), "the shell does not echo"
    shell.say('fg; echo "after=$?"')
    assert fetch(port) == (200, "v1")
    shell.press("h")
    shell.wait_for("devsup keys")
    save(project / "main.py", APP.replace("BODY", "pass").replace("v1", "v2222"))
    shell.event("WorkerReady", generation=2)
    assert fetch(port) == (200, "v2222")
    shell.press("C-c")
    assert shell.code("after") == 0
    assert shell.settings("after") == before


def test_ctrl_z_twice(shell: Shell, project: Path, port: int) -> None:
    serve(shell, project, port)
    for count in (1, 2):
        shell.press("C-z")
        shell.wait_for("Stopped", count)
        shell.say("fg")
        assert fetch(port) == (200, "v1")
        shell.press("h")
        shell.wait_for("devsup keys", count)
    shell.press("q")
    shell.event("Stopped", code=0)


def test_in_the_background_it_serves_and_leaves_the_terminal_alone(shell: Shell, project: Path, port: int) -> None:
    """`devsup run … &`: what is typed goes to the shell; `fg` brings the keys."""
    save(project / "main.py", APP.replace("BODY", "pass"))
    shell.say(f'"{sys.executable}" -m devsup run uvicorn main:app --port {port} &')
    shell.event("WorkerReady")
    shell.say("echo typed-$((40 + 2))")
    shell.wait_for("typed-42")
    assert fetch(port, timeout=5) == (200, "v1")
    shell.say("jobs; echo told-$((40 + 2))")
    screen = shell.wait_for("told-42")
    assert "Running" in screen, screen
    assert "Stopped" not in screen, screen
    shell.say('fg; echo "after=$?"')
    shell.wait_for("fg; echo")
    shell.press("h")
    shell.wait_for("devsup keys")
    shell.press("q")
    assert shell.code("after") == 0


def test_bg_after_ctrl_z(shell: Shell, project: Path, port: int) -> None:
    serve(shell, project, port)
    shell.press("C-z")
    shell.wait_for("Stopped")
    shell.say("bg")
    assert fetch(port) == (200, "v1")
    shell.say("echo typed-$((40 + 2))")
    shell.wait_for("typed-42")
    assert fetch(port, timeout=5) == (200, "v1")
    shell.say("fg")
    shell.press("h")
    shell.wait_for("devsup keys")
    shell.press("C-c")
    shell.event("Stopped", code=0)


# Pipes and files


def test_piped_there_are_no_colours_and_no_control_codes(shell: Shell, project: Path, port: int) -> None:
    serve(shell, project, port, after=" 2>&1 | cat > ../shown")
    assert fetch(port) == (200, "v1")
    wanted = (rb"ttys: \w+ False False\n", rb"\ndevsup http://127.0.0.1:", rb"Uvicorn running", rb"reload: drain", b"200 OK")
    path = project.parent / "shown"
    wait_until(lambda: all(re.search(part, path.read_bytes()) for part in wanted), story=path.read_text)
    shell.press("C-c")
    shell.event("Stopped", code=0)
    shown = path.read_bytes()
    assert not re.search(rb"[^\n\t\x20-\x7e\x80-\xff]", shown), shown


@pytest.mark.parametrize("reader", ["cat", "(trap '' INT; exec cat)"], ids=["that dies of Ctrl-C", "that reads on"])
def test_piped_into_cat_on_the_terminal(shell: Shell, project: Path, port: int, reader: str) -> None:
    """Ctrl-C reaches both; devsup ends with 0 and without a word, also when nobody reads it any more."""
    before = shell.settings("before")
    serve(shell, project, port, after=f' | {reader}; echo "first=${{PIPESTATUS[0]}}"')
    screen = shell.wait_for("devsup http://127.0.0.1:")
    assert re.search(r"^ttys: \w+ False False$", screen, re.MULTILINE)
    shell.press("C-c")
    shell.event("Stopped", code=0)
    if reader != "cat":  # else bash gives the line up
        assert shell.code("first") == 0
    assert shell.settings("after") == before
    assert "Traceback" not in shell.screen()


def test_stderr_in_a_file(shell: Shell, project: Path) -> None:
    """`2> file` takes the program's errors, and takes them plain."""
    save(
        project / "speak.py",
        "import sys\nprint('to', 'stdout', sys.stdout.isatty())\nprint('to', 'stderr', sys.stderr.isatty(), file=sys.stderr)\n",
    )
    shell.run("python speak.py", after=" 2> ../errors")
    assert shell.code() == 0
    assert (project.parent / "errors").read_text() == "to stderr False\n"
    screen = shell.screen()
    assert "to stdout True" in screen
    assert "to stderr" not in screen


def test_stdin_from_nowhere(shell: Shell, project: Path, port: int) -> None:
    """`< /dev/null` in a terminal serves, and Ctrl-C ends it."""
    before = shell.settings("before")
    serve(shell, project, port, after=" < /dev/null")
    shell.wait_for(f"devsup http://127.0.0.1:{port}")
    assert fetch(port) == (200, "v1")
    shell.press("C-c")
    assert shell.code() == 0
    assert shell.settings("after") == before


def test_stdin_from_a_file_reaches_the_program(shell: Shell, project: Path) -> None:
    save(project / "names", "Ada\n")
    save(project / "ask.py", "print('hello', input())")
    shell.run("python ask.py", after=" < names")
    shell.wait_for("hello Ada")
    assert shell.code() == 0


def test_devsup_begins_on_a_line_of_its_own(shell: Shell, project: Path, port: int) -> None:
    """After output without a newline."""
    half = "half a line"
    serve(
        shell,
        project,
        port,
        body=f"print({half!r}, end='', flush=True)",
        options="",
        after=" --log-level warning --no-access-log",
    )
    assert fetch(port) == (200, "v1")
    shell.wait_for(half)
    shell.press("h")
    lines = shell.wait_for("devsup keys").splitlines()
    assert half in lines
    assert [line for line in lines if line.startswith("devsup keys")]
    shell.press("C-c")
    assert shell.code() == 0


def test_lines_begin_at_the_left(shell: Shell, project: Path) -> None:
    """Newlines are turned into what the terminal needs, once: no staircase, no empty lines between."""
    save(project / "lines.py", "import sys\nfor n in (1, 2, 3): print('line', n)\nprint('error', 'line', file=sys.stderr)\n")
    shell.run("python lines.py")
    shell.code()
    assert "\nline 1\nline 2\nline 3\n" in shell.screen()
    assert "\nerror line\n" in shell.screen()


def test_json_in_a_terminal_is_json(shell: Shell, project: Path, port: int) -> None:
    """Keys add no other lines to it."""
    shown = project.parent / "shown"
    serve(shell, project, port, options="--log-format json")
    shell.wait_for('"Line"')
    shell.record(shown)
    shell.press("h", "s", "Enter")
    shell.event("Status")
    shell.press("r")
    shell.event("WorkerReady", generation=2)
    wait_until(lambda: b'"generation":2,"pid"' in shown.read_bytes() and b'"Reloaded"' in shown.read_bytes())
    lines = [line for line in shown.read_bytes().splitlines() if line]
    assert [line for line in lines if b"Reloaded" in line]
    for line in lines[:-1]:  # the last may still be coming
        assert isinstance(json.loads(line), dict), line
    shell.press("q")
    assert shell.code() == 0
