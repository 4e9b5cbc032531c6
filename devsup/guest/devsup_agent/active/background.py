"""Work that requests leave behind: asyncio tasks, executor jobs and threads that go on after the answer (DESIGN 5).

Theory of operation. `owners.enter` puts the request into the context that its server runs it in, and whatever is started from
there inherits it: tasks by a copy of the context, jobs and threads by our hand. That is all that a request costs. Whose a task is
stands in its own context, so nothing is noted when one starts: they are looked through when somebody asks, and at most once a
second after requests came, to learn when those were answered. A piece of work counts from then on for `background_grace`;
a target that was seen to outlive it is a daemon, which the supervisor remembers, and never counts again. What a reload has cut
leaves nothing behind that counts.

What libraries keep for themselves is not work: a thread or job counts when the user's own code is what runs in it, or what
started it. What waits inside asyncio (`queue.get()` made a task) is none either.
"""

import threading
import time
import weakref

from devsup_agent import guard
from devsup_agent.active import owners

LOOK = 1.0  # seconds from a request until the tasks are looked through


class Piece:
    """A job or a thread that was started in a request's context; and a task, while it is looked at."""

    __slots__ = ("handle", "request", "target", "whose")

    def __init__(self, whose, target, handle=None):
        self.whose, self.target, self.handle = whose, target, handle
        self.request = None  # the record of `whose`, once that is over

    @property
    def name(self):
        """As the reports show it: the target's qualified name without its module."""
        return self.target.partition(":")[2]


class Background:
    """All that the requests of this process have left behind. Every method is safe to call from any thread."""

    def __init__(self, agent):
        self._agent = agent
        self._lock = threading.RLock()
        self._jobs: set = set()  # pieces that run: jobs of executors, and threads
        self._young: weakref.WeakSet = weakref.WeakSet()  # tasks, futures and threads that were seen within their grace
        self._done = None  # of who waits
        self._until = self._deadline = 0.0
        self._awaited: set = set()  # what is waited for and tells of its end
        self._followed: weakref.WeakSet = weakref.WeakSet()  # tasks that tell of their end
        self._timer = None
        self._fires = 0.0
        self._resumed = 0.0  # when a debugger last let the clocks run
        self._answering = False  # whether requests ran at the last look that do not tell of their end
        self.resting = True  # no look is due

    # -- what a drain asks --------------------------------------------------------------------------------------------

    def wait(self, until, done, limit=float("inf")):
        """Call `done` once nothing is left of requests from before `until` (monotonic), or after `limit` seconds."""
        with self._lock:
            self._until, self._done, self._deadline = until, done, time.monotonic() + limit
        self._check()

    def forget(self):
        """Nobody waits any more."""
        self._done = None

    def items(self):
        """What counts now, equal ones together, oldest first: [{name, origin, age, stream, count}]."""
        now, groups = time.monotonic(), {}  # type: ignore[var-annotated]
        with self._lock:
            for piece in sorted(self._look(), key=lambda each: each.request.started):
                key = name, origin = piece.name, piece.request.name
                fresh = {"name": name, "origin": origin, "age": now - piece.request.started, "stream": "", "count": 0}
                groups.setdefault(key, fresh)["count"] += 1
        return list(groups.values())

    def lost(self):
        """What is left is being cut: say what it was."""
        for item in self.items():
            self._agent.send("lost", detail="", **item)

    def clocks_run(self):
        """A debugger has let go: graces begin anew."""
        self._resumed = time.monotonic()
        self._check()

    # -- what servers tell --------------------------------------------------------------------------------------------

    def stir(self, loop):
        """A request has come after a while without any: look soon what it has left behind. On the loop's own thread."""
        self.resting = False
        self._agent.heart.stir(loop)
        loop.call_later(LOOK, self._settle, loop)

    def _settle(self, loop):
        with guard("the look for background tasks"):
            self.resting = True
            self._check()
            if self._answering:  # nobody else will tell when
                self.stir(loop)

    def leave(self, request):
        """The request is over."""
        if request.answered is None:
            request.answered = time.monotonic()
            if self._jobs:
                self._check()

    # -- looking ------------------------------------------------------------------------------------------------------

    def _look(self):
        """The pieces that count now; learns from those that have outlived their grace."""
        now, counting = time.monotonic(), []
        with guard("the look for background tasks"), self._lock:
            for piece in self._left(now):
                if piece.request.cut:
                    continue
                if self._ends(piece) > now:
                    self._young.add(piece.handle)
                    if piece.target and piece.target not in self._agent.settings["daemons"]:
                        counting.append(piece)
                elif piece.handle in self._young:
                    self._young.discard(piece.handle)
                    self._learn(piece)
        return counting

    def _left(self, now):
        """Every piece whose request is over."""
        running, pieces = set(), [each for each in self._jobs if each.handle is not None]
        requests = {task for server in self._agent.servers for task in list(getattr(server, "tasks", ()))}
        for task in owners.tasks(self._agent.servers):
            whose = owners.context(task).get(owners.owner)
            if task in requests or (whose is not None and task is getattr(whose, "task", None)):
                running.add(whose)
            elif whose is not None:
                pieces.append(Piece(whose, None, task))
        self._answering = not all(hasattr(whose, "answered") for whose in running)
        for piece in pieces:
            piece.request = piece.request or _over(piece.whose, running, now)
            if piece.request is not None:
                piece.target = owners.target_of_task(piece.handle) if piece.target is None else piece.target
                yield piece

    def _ends(self, piece):
        if self._agent.debugged:
            return float("inf")
        return max(piece.request.answered, self._resumed) + self._agent.settings["background_grace"]

    def _learn(self, piece):
        daemons = self._agent.settings["daemons"]
        if piece.target and piece.target not in daemons:
            daemons.append(piece.target)
            self._agent.send("daemon", target=piece.target, name=piece.name, origin=piece.request.name)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _check(self):
        """Let who waits go on, or see to it that the next look is taken in time."""
        done = None
        with self._lock:
            now, left = time.monotonic(), self._look()
            self._awaited = {each.handle for each in left if each.request.started <= self._until} if self._done else set()
            if self._done and (not self._awaited or now >= self._deadline):
                done, self._done = self._done, None
            if self._done:
                self._follow()
            ends = [self._ends(each) for each in left] + ([self._deadline] if self._done else [])
            self._arm(min(ends, default=float("inf")), now)
        if done is not None:  # not under the lock: servers have locks of their own
            done()

    def _follow(self):
        """Have the tasks that are waited for tell of their end; jobs and threads do."""
        for handle in self._awaited - set(self._followed):
            self._followed.add(handle)
            with guard("a background task"):
                if hasattr(handle, "get_loop"):
                    handle.get_loop().call_soon_threadsafe(handle.add_done_callback, self._ended)

    def _arm(self, when, now):
        """Look again at `when`; a look that is due before then will see to it."""
        if when == float("inf") or (self._timer is not None and now < self._fires <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._fires = when
        self._timer = threading.Timer(max(0.01, when - now), self._ring)
        self._timer.daemon = self._timer.pydev_do_not_trace = True  # type: ignore[attr-defined] # no debugger halts it
        self._timer.start()

    def _ring(self):
        with guard("the look for background tasks"):
            self._timer = None
            self._check()

    def _ended(self, handle):
        with guard("the end of a background task"):
            with self._lock:
                self._awaited.discard(handle)
                last = self._done is not None and not self._awaited
            if last:
                self._check()

    # -- jobs and threads ---------------------------------------------------------------------------------------------

    def begin(self, whose, target):
        """A piece that counts until `end`."""
        piece = Piece(whose, target)
        with self._lock:
            self._jobs.add(piece)
        return piece

    def end(self, piece):
        """It has ended."""
        with self._lock:
            self._jobs.discard(piece)
            piece.whose = piece.request = None  # whoever keeps the future keeps us
        self._ended(piece.handle)


def _over(whose, running, now):
    """The record of a request that has been answered; None while it runs."""
    if hasattr(whose, "answered"):
        return whose if whose.answered is not None else None
    if whose in running:
        return None
    from devsup_agent.active import work

    record = work.record_of(whose, None)
    if record.answered is None:
        record.answered = now
    return record
