"""One process's end of the link: a thread that reads commands, and senders that any thread may call."""

import array
import os
import socket
import sys
import threading
import time

from devsup_agent import finder, modules, wire

_UNKNOWN = 0.3  # seconds from listening until a server that nobody knows is taken to serve
_ANSWER_LIMIT = 5.0  # seconds; the supervisor answers in well under a millisecond


class Agent:
    """The link of this process. Every public method is safe to call from any thread, and does nothing without a link."""

    def __init__(self):
        self._reset()

    def _reset(self):
        self._socket = None
        self._lock = threading.RLock()
        self._replies = {}
        self._next_id = 0
        self._prompts = 0
        self._growth = None
        self.servers = []
        self.final = False  # the stop that goes on is the last one
        self.manages = False  # others serve, this process starts them
        self.manager = None  # pid of the process that would start another in this one's place
        self.settings: dict = {"streams": {}, "learned": {}, "stream_grace": 2.0}

    # -- the link -------------------------------------------------------------------------------------------------

    def connect(self):
        """Open the link once per process; False where there is no supervisor to talk to."""
        with self._lock:
            if self._socket is None:
                try:
                    self._open()
                except (OSError, RuntimeError):  # no supervisor, or no more threads at the interpreter's end
                    self._socket = None
                    return False
            return True

    def _open(self):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(None)  # whatever the program has set as the default
        try:
            link.connect(os.environ["DEVSUP_LINK"])
        except (OSError, KeyError):
            link.close()
            raise OSError("no supervisor") from None
        self._socket = link
        version = ".".join(map(str, sys.version_info[:3]))
        self.send(
            "hello",
            token=os.environ.get("DEVSUP_TOKEN", ""),
            pid=os.getpid(),
            python=version,
            executable=sys.executable or "",
        )
        threading.Thread(target=self._read, name="devsup-agent", daemon=True, args=(link,)).start()

    def forked(self):
        """In a forked child: the descriptor is the parent's, and there is no thread; start afresh when it serves."""
        if self._socket is not None:
            self._socket.close()
        finder.on_import = None
        self._reset()

    def send(self, op, fds=(), **fields):
        """Send one message, with descriptors; False when the link is gone."""
        fields.update(op=op, fds=len(fds))
        data = wire.encode(fields)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with self._lock:
            link = self._socket
            if link is None:
                return False
            try:
                sent = link.sendmsg([data], rights)
                link.sendall(data[sent:])
            except OSError:
                return False
        return True

    def ask(self, op, **fields):
        """Send and wait for the answer: (message, descriptors); ({}, []) when none comes."""
        if not self.connect():
            return {}, []
        arrived = threading.Event()
        with self._lock:
            self._next_id += 1
            key = self._next_id
            self._replies[key] = [arrived, {}, []]
        if self.send(op, id=key, **fields):
            arrived.wait(_ANSWER_LIMIT)
        _, message, fds = self._replies.pop(key)
        return message, fds

    def _read(self, link):
        decoder, space = wire.Decoder(), socket.CMSG_SPACE(4 * wire.MAX_FDS)
        fds: list = []
        while True:
            try:
                data, rights, _, _ = link.recvmsg(65536, space)
            except OSError:
                return
            if not data:
                return
            for _, _, raw in rights:
                arrived = array.array("i")
                arrived.frombytes(raw[: len(raw) - len(raw) % arrived.itemsize])
                for fd in arrived:
                    os.set_inheritable(fd, False)
                fds.extend(arrived)
            for message in decoder.feed(data):
                mine = [fds.pop(0) for _ in range(message.get("fds", 0)) if fds]
                try:
                    self._obey(message, mine)
                except Exception as exc:
                    self.send("trouble", text="{}: {!r}".format(message.get("op"), exc))

    def _obey(self, message, fds):
        op = message["op"]
        if op == "reply":
            waiting = self._replies.get(message["id"])
            if waiting is not None:
                waiting[1:] = [message, fds]
                waiting[0].set()
        elif op == "settings":
            self.settings = message
        elif op == "status":
            self.send("active", id=message["id"], items=[item for server in self.servers for item in server.active()])
        elif op == "compile":
            self.send("compiled", id=message["id"], errors=modules.compile_errors(message["paths"]))
        elif op in ("drain", "close_gate", "open_gate", "stop"):
            self._drive(op, message)

    def _drive(self, op, message):
        """Hand a command to every server of this process; report when the last of them has done it."""
        seq, left = message.get("seq", 0), [len(self.servers)]

        def done():
            left[0] -= 1
            if left[0] <= 0:
                self.send({"drain": "clear", "close_gate": "drained"}.get(op, "done"), seq=seq)

        self.final = message.get("final", False)
        if self.final:  # nobody reads on: a stream of which nothing is known is no work any more
            self.settings = {**self.settings, "streams": {**self.settings["streams"], "*": "endless"}}
        if not self.servers:
            left[0] = 1
            done()
        for server in list(self.servers):
            if op == "stop":
                server.stop(message.get("cut", False))
            elif op == "open_gate":
                server.open_gate()
            else:
                getattr(server, op)(done)

    # -- what the hooks report --------------------------------------------------------------------------------------

    def serve(self, server, name, routes, listeners=()):
        """A server of this process accepts requests from now on."""
        if self.connect():
            sys.modules["devsup_agent.sockets"].report(listeners)
            self.servers.append(server)
            files, packages = modules.imported()
            finder.on_import = self._grew
            aside = threading.current_thread() is not threading.main_thread()
            self.send("ready", server=name, routes=routes, paths=files, packages=packages, aside=aside)

    def serves_soon(self):
        """A listener is open; unless a known server says so in a moment, whatever the program is serves from now on."""
        waiting = threading.Timer(_UNKNOWN, self._serve_unknown)
        waiting.daemon = True
        waiting.start()

    def _serve_unknown(self):
        if not self.servers and not self.manages:
            from devsup_agent.servers import common

            self.serve(common.Drain(common.leave), "python", [])

    def served(self, server):
        """A server of this process has ended."""
        if server in self.servers:
            self.servers.remove(server)

    def _grew(self):
        if self._growth is None:
            self._growth = threading.Timer(0.3, self._send_growth)
            self._growth.daemon = True
            self._growth.start()

    def _send_growth(self):
        self._growth = None
        self._send_files()

    def _send_files(self):
        files, packages = modules.imported()
        self.send("files", paths=files, packages=packages)

    def reloader_off(self, name, dirs=(), includes=(), excludes=()):
        """The program asked for its own reloader, which stays off; its rules are kept."""
        self.send("reloader", name=name, dirs=list(dirs), includes=list(includes), excludes=list(excludes))

    def prompting(self, on):
        """The program began or ended to read from the terminal."""
        if self.connect():
            self._prompts += 1 if on else -1
            self.send("prompt", on=self._prompts > 0)

    def lost(self, work):
        """Work that is being cut: say what it was, once."""
        if work.told:
            return
        work.told = True
        self.send("lost", name=work.name, age=time.monotonic() - work.started, detail=work.detail())


agent = Agent()
os.register_at_fork(after_in_child=agent.forked)
