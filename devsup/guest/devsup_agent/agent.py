"""One process's end of the link: a thread that reads commands, and senders that any thread may call."""

import functools
import os
import socket
import sys
import threading
import time

from devsup_agent import finder, modules, wire
from devsup_agent.active import background, heart, jobs

_UNKNOWN = 0.3  # seconds from listening until a server that nobody knows is taken to serve
_YIELDING = 10  # how nice the rest of an ended program is
_ANSWER_LIMIT = 5.0  # seconds; the supervisor answers in well under a millisecond


class Agent:
    """The link of this process. Every public method is safe to call from any thread, and does nothing without a link."""

    def __init__(self):
        self._reset()

    def _reset(self):
        self._link = None
        self._lock = threading.RLock()
        self._replies = {}
        self._next_id = 0
        self._prompts = 0
        self._growth = None
        self._reader = 0  # our thread
        self.servers = []
        self.served_once = self.has_answered = False
        self.final = False  # the stop that goes on is the last one
        self.manages = False  # others serve, this process starts them
        self.manager = None  # pid of the process that would start another in this one's place
        self.settings: dict = {"streams": {}, "learned": {}, "daemons": [], "probed": False}
        self.settings.update(stream_grace=2.0, background_grace=30.0)
        self.debugged = False
        self._wanted = False  # the link, once there is a worker
        self.waits = False  # for a fork to be the worker
        self.background = background.Background(self)
        self.heart = heart.Heart(self)

    # -- the link -------------------------------------------------------------------------------------------------

    def connect(self):
        """Open the link once per process; False where there is no supervisor to talk to."""
        with self._lock:
            if self.waits:
                self._wanted = True
                return False
            if self._link is None:
                try:
                    self._open()
                except (OSError, RuntimeError):  # no supervisor, or no more threads at the interpreter's end
                    self._link = None
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
        self._link = wire.Channel(link)
        version = ".".join(map(str, sys.version_info[:3]))
        self.send(
            "hello",
            token=os.environ.get("DEVSUP_TOKEN", ""),
            pid=os.getpid(),
            python=version,
            executable=sys.executable or "",
        )
        reader = threading.Thread(target=self._read, name="devsup-agent", daemon=True, args=(self._link,))
        reader.pydev_do_not_trace = True  # type: ignore[attr-defined] # a debugger that halts all threads leaves this one
        reader.start()

    def begin(self):
        """A fork server has become a worker."""
        self.waits = False
        if self._wanted:
            self.connect()

    def forked(self):
        """In a forked child: the descriptor is the parent's, and there is no thread; start afresh when it serves."""
        if self.waits:
            return
        if self._link is not None:
            self._link.close()
        finder.on_import = None
        self._reset()

    def send(self, op, fds=(), **fields):
        """Send one message, with descriptors; False when the link is gone."""
        with self._lock:
            if self._link is None:
                return False
            try:
                self._link.send(op, fds, **fields)
            except OSError:
                return False
        return True

    def offer(self, op, **fields):
        """Send one message that may be lost: nobody waits for a supervisor that does not listen."""
        with self._lock:
            if self._link is None:
                return False
            try:
                self._link.offer(op, **fields)
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
        self._reader = threading.get_ident()
        self.send("reader", thread=threading.get_native_id())
        for messages in iter(link.receive, None):
            for message, fds in messages:
                try:
                    self._obey(message, fds)
                except Exception as exc:
                    self.send("trouble", text="{}: {!r}".format(message.get("op"), exc))

    def _obey(self, message, fds):
        op = message["op"]
        if op == "reply":
            sockets = sys.modules["devsup_agent.sockets"]
            if "held" in message and not sockets.stopping.is_set():  # about to accept: whether its siblings let anything in
                sockets.gate.clear() if message["held"] else sockets.gate.set()
            waiting = self._replies.get(message["id"])
            if waiting is not None:
                waiting[1:] = [message, fds]
                waiting[0].set()
        elif op == "settings":
            self.settings = message
        elif op == "status":
            self.send("active", id=message["id"], items=[*self.active(), *self.background.items()])
        elif op == "requests":
            from devsup_agent import stacks

            self.send("requested", id=message["id"], items=stacks.listed(self.servers))
        elif op == "imports":
            from devsup_agent import preload

            self.send("imported", id=message["id"], **preload.wanted())
        elif op == "stacks":
            from devsup_agent import stacks

            self.send("stacked", id=message["id"], **stacks.described(self.servers))
        elif op == "compile":
            self.send("compiled", id=message["id"], errors=modules.compile_errors(message["paths"]))
        elif op == "connections":
            taker = next((server for server in self.servers if hasattr(server, "adopt")), None)
            for fd in fds if taker is None else ():
                os.close(fd)
            if taker is not None:
                taker.adopt(fds)
        elif op in ("drain", "close_gate", "open_gate", "retire", "stop"):
            self._drive(op, message)

    def _drive(self, op, message):
        """Hand a command to every server of this process; report when the last of them, and what they left, has done it."""
        self.background.forget()
        self.final = message.get("final", False)
        if self.final:  # nobody reads on: a stream of which nothing is known is no work any more
            self.settings = {**self.settings, "streams": {**self.settings["streams"], "*": "endless"}}
        if op == "open_gate":
            sys.modules["devsup_agent.sockets"].gate.set()
            for server in list(self.servers):
                server.open_gate()
        elif op == "retire":  # as a drain and a stop, but another one serves already
            self._each("close_gate", lambda: self.background.wait(float("inf"), self._end))
            self._each("once_closed", functools.partial(self.send, "retired", id=message["id"]))
        elif op == "stop" and message.get("cut", False):
            self.background.lost()
            self._stop(cut=True)
        elif op == "stop":  # what is left behind may end as a stream may
            ends = time.monotonic() + self.settings["stream_grace"]
            self._each("close_gate", lambda: self.background.wait(float("inf"), self._end, ends - time.monotonic()))
        else:
            until, said = (time.monotonic(), "clear") if op == "drain" else (float("inf"), "drained")
            report = functools.partial(self.send, said, seq=message.get("seq", 0))
            self._each(op, lambda: self.background.wait(until, report))

    def _each(self, op, then):
        """Give a command to every server; `then` is called when the last of them is done."""
        left = [len(self.servers)]

        def done():
            left[0] -= 1
            if left[0] <= 0:
                then()

        for server in list(self.servers):
            getattr(server, op)(done)
        if not self.servers:
            then()

    def _end(self):
        self.background.lost()
        self._stop(cut=False)

    def _stop(self, cut):
        for server in list(self.servers):
            server.stop(cut)

    def active(self):
        """What the servers of this process have in hand: [{name, age, stream}]."""
        return [item for server in self.servers for item in server.active()]

    # -- what the hooks report --------------------------------------------------------------------------------------

    def serve(self, server, name, routes, listeners=()):
        """A server of this process accepts requests from now on."""
        if self.connect():
            sys.modules["devsup_agent.sockets"].report(listeners)
            jobs.patch(threading)
            self.servers.append(server)
            self.served_once = True
            files, packages = modules.imported()
            finder.on_import = self._grew
            aside = threading.current_thread() is not threading.main_thread()
            secure = [sock.getsockname()[:2] for sock in getattr(server, "secure", ())]
            about = {"aside": aside, "secure": secure, "adopts": hasattr(server, "adopt") and not secure}
            self.ask("ready", server=name, routes=routes, paths=files, packages=packages, **about)

    def serves_soon(self):
        """A listener is open; unless a known server says so in a moment, whatever the program is serves from now on."""
        waiting = threading.Timer(_UNKNOWN, self._serve_unknown)
        waiting.daemon = True
        waiting.start()

    def _serve_unknown(self):
        if not self.served_once and not self.manages:
            from devsup_agent.servers import common

            self.serve(common.Drain(common.leave), "python", [])

    def served(self, server):
        """A server of this process has ended."""
        if server in self.servers:
            self.servers.remove(server)
            self.background.resting = True  # its loop may end before the look that is due

    def _grew(self):
        if threading.get_ident() == self._reader:  # what we import ourselves
            return
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

    def answered(self):
        """The first answer is out."""
        if not self.has_answered:
            self.has_answered = True
            self.send("answered", at=time.monotonic())

    def reloader_off(self, name, dirs=(), includes=(), excludes=()):
        """The program asked for its own reloader, which stays off; its rules are kept."""
        self.send("reloader", name=name, dirs=list(dirs), includes=list(includes), excludes=list(excludes))

    def prompting(self, on):
        """The program began or ended to read from the terminal."""
        if self.connect():
            self._prompts += 1 if on else -1
            self.send("prompt", on=self._prompts > 0)

    def debugging(self, on):
        """A debugger's client has come or gone: while it is there, time is the user's."""
        if self.connect() and on != self.debugged:
            self.debugged = on
            self.send("debugger", on=on)
            if not on:
                self.background.clocks_run()

    def over(self):
        """The program has ended, but for the interpreter: nothing of it would be in the next one's way."""
        from devsup_agent import owned

        if self.send("over", alone=not owned.anything()):
            os.nice(_YIELDING)  # the next worker begins

    def lost(self, work):
        """Work that is being cut: say what it was, once."""
        if work.told:
            return
        work.told = True
        self.send("lost", name=work.name, age=time.monotonic() - work.started, detail=work.detail())


agent = Agent()
os.register_at_fork(after_in_child=agent.forked)
