"""What is measured of every reloader, case by case: by turns where times are compared, else one after the other."""

import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from signal import SIGINT, SIGKILL

from bench import apps, clients, harness, rps
from bench.report import Result
from bench.roster import Peer, Stand, reason, standing, third_party

Facts = dict[str, float | str | list[float]]  # by column; lists are samples, for the JSON alone

HELD = 10.0  # longest that a reload, an end or a refusal is waited for
AFTER = 4.0  # from the new code until work of the old that is still open counts as kept
BROKEN = 3.0  # how long broken code stays saved
KILLED = 5.0
IDLE = 10.0
BASE = "uvicorn --reload"


@dataclass
class Measured:
    """One case: the facts of each peer, or why there are none; what is demanded of devsup; and what else there is to say."""

    facts: dict[str, Facts] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def attempt(self, peer: Peer) -> Iterator[None]:
        """A peer that fails is noted, and the others go on."""
        try:
            yield
        except (harness.BenchError, OSError, subprocess.TimeoutExpired) as error:
            self.failed[peer.name] = reason(error)

    def demand(self, column: str, base: str, at_most: float, name: str) -> None:
        """A result for each devsup that was measured, against this peer if it was."""
        for peer in [peer for peer in self.facts if peer.startswith("devsup") and base in self.facts]:
            ours, theirs = samples(self.facts[peer][column]), samples(self.facts[base][column])
            unit = column.rpartition(" ")[2]
            self.results.append(Result(f"{peer}: {name}", unit, ours, theirs, at_most=at_most))


def samples(value: float | str | list[float]) -> list[float]:
    return value if isinstance(value, list) else [float(value)]


def light(peers: Sequence[Peer], saves: int) -> Measured:
    measured = _latency([(peer, "light") for peer in peers], saves)
    measured.demand("all ms", BASE, 0.12, f"of {BASE}")
    measured.demand("all ms", "uvicorn-hmr", 0.8, "of uvicorn-hmr")
    return measured


def heavy(peers: Sequence[Peer], saves: int) -> Measured:
    measured = _latency([(peer, "heavy") for peer in peers], saves)
    measured.demand("all ms", BASE, 0.05, f"of {BASE}")
    return measured


def imports(peers: Sequence[Peer], saves: int) -> Measured:
    """How devsup's reload grows with what the app imports."""
    ours = [peer for peer in peers if peer.is_devsup]
    measured = _latency([(peer, program) for peer in ours for program in ("light", "tenfold")], saves)
    for peer in ours:
        few, many = f"{peer.name}: light", f"{peer.name}: tenfold"
        if few in measured.facts and many in measured.facts:
            more, less = samples(measured.facts[many]["all ms"]), samples(measured.facts[few]["all ms"])
            measured.results.append(Result(f"{peer.name}: tenfold over light", "ms", more, less, "difference", at_most=30))
    if ours:
        counts = [f"{program}, {third_party(ours[0], program)}" for program in ("light", "tenfold")]
        measured.notes.append(f"third-party modules: {'; '.join(counts)}")
    return measured


def _latency(pairs: Sequence[tuple[Peer, str]], saves: int) -> Measured:
    """All of them run all the time, and are saved in turn."""
    measured = Measured()
    several = len({program for _, program in pairs}) > 1
    with ExitStack() as stack:
        stands: dict[str, Stand] = {}
        for peer, program in pairs:
            harness.progress(f"{program}: starting {peer.name}")
            with measured.attempt(peer):
                stands[f"{peer.name}: {program}" if several else peer.name] = stack.enter_context(standing(peer, program))
        times: dict[str, list[float]] = {name: [] for name in stands}
        for number in range(1, saves + 1):
            harness.progress(f"save {number} of {saves}")
            for name, stand in stands.items():
                if stand.peer.name not in measured.failed:
                    with measured.attempt(stand.peer):
                        stand.settle()
                        times[name].append(stand.save())
        for name, stand in stands.items():
            if times[name]:
                measured.facts[name] = {
                    "median ms": statistics.median(times[name]),
                    "max ms": max(times[name]),
                    "all ms": times[name],
                }
            if stand.peer.is_devsup:
                measured.notes += _inside(name, stand)
    return measured


def _inside(name: str, stand: Stand) -> Iterator[str]:
    """What devsup itself says of its reloads: when each step was done, and why it does not fork."""
    for event in stand.events("ForkServerOff"):
        yield f"{name}: {event}"
    steps: dict[str, list[float]] = {}
    for event in stand.events("Reloaded"):
        for step, seconds in event["timeline"].items():
            steps.setdefault(step, []).append(seconds * 1000)
    told = " · ".join(f"{step} {statistics.median(times):.0f}" for step, times in steps.items())
    yield f"{name}: ms after the save (medians): {told}"


def one_by_one(measure: Callable[[Peer, int], Facts]) -> Callable[[Sequence[Peer], int], Measured]:
    """A case of peers that are measured alone."""

    def case(peers: Sequence[Peer], saves: int) -> Measured:
        measured = Measured()
        for peer in peers:
            harness.progress(f"{measure.__name__}: {peer.name}")
            with measured.attempt(peer):
                measured.facts[peer.name] = measure(peer, saves)
        return measured

    return case


def traffic(peer: Peer, saves: int) -> Facts:
    times = []
    with standing(peer, "light") as stand, clients.traffic(stand.port) as seen:
        for _ in range(saves):
            stand.settle()
            times.append(stand.save())
    if not seen.times:
        raise harness.BenchError("no request was answered")
    answers: Facts = {"answered": len(seen.times), "lost": seen.lost, "slowest ms": max(seen.times)}
    return {**answers, "reload ms": statistics.median(times), "all ms": times}


def work(peer: Peer, _: int) -> Facts:
    """What becomes of work that a save meets, and when new code answers; each on a server of its own."""
    facts: Facts = {}
    for kind, client in clients.KINDS.items():
        facts[kind] = "-"
        if peer.family == "asgi" or kind in clients.WSGI_KINDS:
            with standing(peer, "work") as stand:
                stand.settle()
                facts[kind] = _caught(stand, client)
    return facts


def _caught(stand: Stand, client: Callable[[int], contextlib.AbstractContextManager[clients.Client]]) -> str:
    with client(stand.port) as caught:
        took = stand.save_within(HELD)
        held = f"{took / 1000:.1f} s" if took is not None else f"> {HELD:.0f} s"
        return f"{caught.outcome(AFTER if took is not None else 0.2)}, {held}"


def broken(peer: Peer, _: int) -> Facts:
    with standing(peer, "light") as stand:
        stand.settle()
        stand.write("def broken(:\n")
        answers = list(_answers(stand.port, BROKEN))
        kept = answers.count(b"v0") / len(answers)
        back = stand.save_within(HELD)
        code = stand.server.process.poll()
    never = f"none in {HELD:.0f} s" if code is None else f"ended, exit code {code}"
    said = "yes" if kept == 1 else "no" if kept == 0 else f"{kept:.0%} of answers"
    return {"old code kept": said, "next good save ms": never if back is None else back}


def _answers(port: int, seconds: float) -> Iterator[bytes | None]:
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        yield harness.ask(port, timeout=1)
        time.sleep(0.05)


def second(peer: Peer, _: int) -> Facts:
    with (
        standing(peer, "light") as first,
        harness.app_folder(apps.files(peer.family, "light", 2)) as folder,
        harness.Server(peer.line(first.port), folder) as other,
    ):
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = other.process.wait(HELD)
            return {"second instance": f"refused, exit code {code}", "after s": time.perf_counter() - other.spawned}
        answers = {harness.ask(first.port, timeout=1) for _ in range(40)}
    return {"second instance": "shares the port" if b"v2" in answers else "stays, serves nothing", "after s": f"> {HELD:.0f}"}


def kill(peer: Peer, _: int) -> Facts:
    with standing(peer, "light") as stand:
        stand.server.send(SIGKILL)
        killed = time.perf_counter()
        while not harness.is_free(stand.port):
            if time.perf_counter() - killed > KILLED:
                return {"port free after s": "still served" if harness.ask(stand.port, timeout=1) else "still held"}
            time.sleep(harness.STEP)
        return {"port free after s": time.perf_counter() - killed}


def stop(peer: Peer, _: int) -> Facts:
    with standing(peer, "work") as stand, clients.get(stand.port, "/endless"):
        asked = time.perf_counter()
        stand.server.send(SIGINT, group=True)
        gone = stand.server.wait_gone(HELD)
        return {"all gone after s": time.perf_counter() - asked if gone else f"> {HELD:.0f}"}


def _idle(peer: Peer, _: int) -> Facts:
    facts: Facts = {}
    for program in ("light", "heavy"):
        with standing(peer, program) as stand:
            stand.settle()
            stand.save()
            stand.settle()
            began, before = time.perf_counter(), stand.server.cpu_seconds()
            time.sleep(IDLE)
            used, passed = stand.server.cpu_seconds() - before, time.perf_counter() - began
            facts |= {f"{program} CPU %": 100 * used / passed, f"{program} MiB": stand.server.memory()}
    return facts


def idle(peers: Sequence[Peer], saves: int) -> Measured:
    measured = one_by_one(_idle)(peers, saves)
    measured.demand("heavy MiB", BASE, 1.6, f"memory of {BASE}, heavy app")
    return measured


def throughput(*_: object) -> Measured:
    """Of devsup's own environment, as in the benchmark of this name, against bare uvicorn."""
    rps.need_wrk()
    text, answer = rps.APPS["Starlette"]
    with harness.app_folder({"app.py": text}) as folder:
        return Measured(results=rps.compare("keep-alive, of bare uvicorn", folder, answer, [], target=0.97))


@dataclass(frozen=True)
class Case:
    """`saves` is how many there are by default; `ratio` the column that is compared with `uvicorn --reload`."""

    title: str
    measure: Callable[[Sequence[Peer], int], Measured]
    saves: int = 1
    ratio: str = ""


CASES = {
    "light": Case("save to new code, idle, light app", light, 15, "median ms"),
    "heavy": Case("save to new code, idle, pandas + SQLAlchemy + FastAPI imported", heavy, 7, "median ms"),
    "imports": Case("devsup with ten times the third-party modules", imports, 7),
    "traffic": Case("saves under steady traffic", one_by_one(traffic), 10, "reload ms"),
    "work": Case("what a save meets: what becomes of it, and when new code answers", one_by_one(work)),
    "broken": Case("a save that does not compile", one_by_one(broken)),
    "second": Case("the same command once more, on the same port", one_by_one(second)),
    "kill": Case("the supervisor is killed", one_by_one(kill)),
    "stop": Case("Ctrl-C while an endless stream is open", one_by_one(stop)),
    "idle": Case("nothing happens, after a reload", idle, 1, "heavy MiB"),
    "rps": Case("requests per second", throughput),
}
