"""The listener moves up: what `bind` and `listen` do in a worker, and what may no longer be done to a shared listener.

The program binds and listens as it always did. After its first `listen` a duplicate goes to the supervisor, which keeps it; the
next generation's `bind` of that address is answered with the kept socket, put over the new socket's descriptor.

From then on the open file description, and so O_NONBLOCK and the backlog, belong to supervisor, placeholder and workers at
once. O_NONBLOCK is set and never cleared; a program that expects a blocking `accept` waits in ours. Nobody shrinks the backlog,
and `shutdown`, which would close the listener for all, does nothing.
"""

import contextlib
import errno
import os
import select
import socket
import sys
import threading
import time
import typing
import weakref

_PATCHED = ("bind", "listen", "accept", "connect", "connect_ex", "setblocking", "settimeout", "shutdown")
_real = {name: getattr(socket.socket, name) for name in _PATCHED}
_kept: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # socket -> backlog: listeners that the supervisor holds too
_own: weakref.WeakSet = weakref.WeakSet()  # bound to any free port: the program's alone, until a server is seen to serve it
_places: dict = {}  # (host, port) -> where in the program it was bound to any free port
_times: dict = {}  # where -> how often
_bound: weakref.WeakSet = weakref.WeakSet()  # bound by this process, not yet listening
_unserved: set = set()  # ports kept for us, perhaps not served yet
known: set = set()  # (host, port) of all that the supervisor holds
gate = threading.Event()  # threaded servers accept only while it is set
gate.set()
accepting = threading.Lock()  # held from the look at the gate until the connection is known
_accepted: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # connection -> when it was accepted, from a kept listener
stopping = threading.Event()  # with it, a closed gate lets accept fail instead of wait
_TURN = 0.001  # seconds
_FRAMES = 8  # that tell one server's bind from another's
_pipe: list = []  # two descriptors; the first is readable once it is set


class StoppingError(OSError):
    """The accept loop is to end: servers take an OSError from accept in their stride."""


def patch(module):
    """Put ours in place of the methods; `module` is the socket module, or gevent's."""
    if module.__name__ != "socket":
        _patch_gevent(module)
        return
    ours = {"bind": _bind, "listen": _listen, "accept": _accept, "shutdown": _shutdown}
    ours.update(setblocking=_setblocking, settimeout=_settimeout)
    for name, method in ours.items():
        setattr(module.socket, name, method)
    begin()


def begin():
    """Learn what the supervisor keeps for this worker."""
    _unserved.update(map(int, os.environ.get("DEVSUP_KEPT", "").split()))
    if os.environ.pop("DEVSUP_HELD", None):  # another worker serves until this one is ready
        gate.clear()
    if _unserved:
        socket.socket.connect, socket.socket.connect_ex = _connect, _connect_ex  # type: ignore[method-assign]


def report(listeners):
    """Hand up what a server is seen to serve: on any free port, or listening without our `listen` (uvloop's do so in C)."""
    alone = [] if listeners or known else [sock for sock in _own if _listens(sock)]
    for sock in [*listeners, *_bound, *(alone if len(alone) == 1 else [])]:
        with contextlib.suppress(OSError):  # closed since
            if _listens(sock) and _name(sock) not in known:
                same = [each for each in [sock, *_own] if type(each) is socket.socket and _name(each) == _name(sock)]
                _hand_up(same[0] if same else socket.socket(sock.family, sock.type, fileno=os.dup(sock.fileno())), 2048)


def _listens(sock):
    with contextlib.suppress(OSError):
        return _is_tcp(sock) and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return False


def _name(sock):
    with contextlib.suppress(OSError):
        return sock.getsockname()[:2]
    return None


def _agent():
    from devsup_agent.agent import agent

    return agent


def _is_tcp(sock):
    return sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM


def _resolved(sock, address):
    """(ip, port) as the kernel will name it."""
    host = address[0] or ("::" if sock.family == socket.AF_INET6 else "0.0.0.0")  # noqa: S104 - what the program asks for
    found = socket.getaddrinfo(host, address[1], sock.family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    return found[0][4][:2]


def _patch_gevent(module):
    """Gevent's own sockets adopt, too; `module` is gevent._socketcommon. They never block, and have no gate."""
    bind = module.SocketMixin.bind

    def adopting(self, address):
        try:
            bind(self, address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or not _adopt(self, address, {}):
                raise

    module.SocketMixin.bind = adopting


def _bind(self, address):
    if not (_is_tcp(self) and isinstance(address, tuple)):
        return _real["bind"](self, address)
    if not address[1]:
        return _bind_anywhere(self, address)
    try:
        # Only a socket that may share its port could be bound beside the kept listener.
        if _shares_port(self) and _adopt(self, address, {}):
            return None
        _real["bind"](self, address)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        answer: dict = {}
        if _adopt(self, address, answer):
            return None
        if not answer.get("released"):
            raise _named(exc, answer) from None
        _real["bind"](self, address)
    _bound.add(self)
    _places.pop(self.getsockname()[:2], None)
    return None


def _bind_anywhere(self, address):
    """Any free port: the one of the last generation, where a server got it that was bound in the same place."""
    place = _place()
    _times[place] = _times.get(place, 0) + 1
    place = f"{place} #{_times[place]}"
    if 0 in _unserved and _adopt(self, address, {}, place):
        return
    _real["bind"](self, address)
    _own.add(self)
    _places[self.getsockname()[:2]] = place


def place_of(sock):
    """Where in the program it was bound to any free port; empty for one that was bound to its number."""
    return _places.get(_name(sock), "")


def _place():
    """Which code binds, whatever its lines are by now."""
    frame: typing.Any = sys._getframe(2)
    names: list = []
    while frame is not None and len(names) < _FRAMES:
        names.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
        frame = frame.f_back
    return " ".join(names)


def _shares_port(sock):
    return hasattr(socket, "SO_REUSEPORT") and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def _adopt(sock, address, answer, place=""):
    """Put the kept listener of `address` over `sock`; False, and why in `answer`, when there is none."""
    try:
        ip, port = _resolved(sock, address)
        reply, fds = _agent().ask("claim", family=int(sock.family), host=ip, port=port, place=place)
        answer.update(reply)
        if not fds:
            return False
        os.dup2(fds[0], sock.fileno(), inheritable=False)
        os.close(fds[0])
    except Exception:
        return False
    _kept[sock] = answer.get("backlog", 128)
    known.add(sock.getsockname()[:2])
    return True


def _named(exc, answer):
    """The same error, with who holds the port in it."""
    return OSError(exc.errno, "{}: held by {}".format(exc.strerror, answer["holder"])) if answer.get("holder") else exc


def _connect(self, address):
    if _has_no_server(self, address):
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return _real["connect"](self, address)


def _connect_ex(self, address):
    return errno.ECONNREFUSED if _has_no_server(self, address) else _real["connect_ex"](self, address)


def _has_no_server(sock, address):
    """Whether the kernel would take a connection that nobody serves: a program that asks so finds its port free."""
    try:
        if not (_is_tcp(sock) and isinstance(address, tuple) and address[1] in _unserved):
            return False
        ip, port = _resolved(sock, address)
        reply, _ = _agent().ask("unserved", host=ip, port=port)
    except Exception:
        return False
    if not reply.get("unserved"):
        _unserved.discard(port)
    return reply.get("unserved", False)


def _listen(self, *args):
    try:
        backlog = max(args[0] if args else min(socket.SOMAXCONN, 128), _kept.get(self, 0))
    except TypeError:
        return _real["listen"](self, *args)
    _real["listen"](self, backlog)
    if self in _bound or (_is_tcp(self) and self not in _kept and self not in _own):  # bound in the process that started this one
        _hand_up(self, backlog)
    elif self in _kept:
        _agent().serves_soon()
    elif _is_tcp(self) and self in _own:
        _tell_private(self)
    return None


def _tell_private(sock):
    """It is between the program and somebody that it tells: no stranger may connect to see whether it serves."""
    with contextlib.suppress(Exception):
        tell("private", sock)


def tell(op, sock, **fields):
    """Say something of a bound socket."""
    if _agent().connect():
        host, port = sock.getsockname()[:2]
        _agent().send(op, family=int(sock.family), host=host, port=port, **fields)


def _hand_up(sock, backlog):
    _bound.discard(sock)
    try:
        agent = _agent()
        if not agent.connect():
            return
        host, port = sock.getsockname()[:2]
        os.set_blocking(sock.fileno(), False)
        _kept[sock] = backlog
        known.add((host, port))
        agent.ask(
            "listening",
            fds=[sock.fileno()],
            family=int(sock.family),
            backlog=backlog,
            place=place_of(sock),
            manages=agent.manages,
        )
        agent.serves_soon()
    except Exception:
        return


def _accept(self):
    if not is_kept(self):
        return _real["accept"](self)
    if self.gettimeout() == 0:
        return _accept_at_once(self)
    while True:
        gate.wait()
        if stopping.is_set():
            raise StoppingError(errno.ECONNABORTED, "devsup stops this worker")
        with contextlib.suppress(BlockingIOError):
            accepted = _accept_at_once(self)
            if socket.getdefaulttimeout() is None:
                accepted[0].setblocking(True)
            return accepted
        if gate.is_set():
            _wait_for_connection(self)


def _accept_at_once(self):
    with accepting:  # whoever closes the gate knows afterwards of every connection that came before
        if gate.is_set() and not stopping.is_set():
            os.set_blocking(self.fileno(), False)  # a wrapper or a duplicate that another has made may have cleared it
            accepted = _real["accept"](self)
            _accepted[accepted[0]] = time.monotonic()
            return accepted
    time.sleep(_TURN)  # an event loop asks again at once, for as long as a client waits
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def note(connection):
    """A connection was accepted without our `accept`; it is known by its transport."""
    with accepting:
        _accepted[connection] = time.monotonic()


def accepted():
    """The connections of kept listeners: {socket or transport: when it was accepted}; of Rust's none."""
    with accepting:
        return dict(_accepted)


def is_kept(sock):
    """Whether the supervisor holds this listener too."""
    if sock not in _kept and type(sock) is not socket.socket and known and _name(sock) in known:  # it was wrapped for TLS
        _kept[sock] = 128
    return sock in _kept


def _wait_for_connection(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(_stop_pipe()[0], select.POLLIN)
    timeout = sock.gettimeout()
    if not poll.poll(None if timeout is None else timeout * 1000):
        raise socket.timeout("timed out")


def _stop_pipe():
    with accepting:
        if not _pipe:
            _pipe.extend(os.pipe())
    return _pipe


def stop_accepting():
    """Let every blocking accept of a kept listener end."""
    stopping.set()
    gate.set()
    os.write(_stop_pipe()[1], b"x")


def _setblocking(self, flag):
    _real["setblocking"](self, flag)
    if self in _kept:
        os.set_blocking(self.fileno(), False)


def _settimeout(self, value):
    _real["settimeout"](self, value)
    if self in _kept:
        os.set_blocking(self.fileno(), False)


def _shutdown(self, how):
    if self not in _kept:
        _real["shutdown"](self, how)
