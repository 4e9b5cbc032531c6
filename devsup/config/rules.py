"""What no single value tells: keys that exclude each other, probes that would ask devsup itself, services in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devsup.config.source import Keys, Sources, guess, quoted
from devsup.config.values import BUDGETS, BUILT_IN, CHECKS, KINDS, REPLACEABLE, Check, Probe, Service
from devsup.decide.addresses import LAUNCHER, intended, meet

_HERE = "127.0.0.1"


def check(sources: Sources, services: Mapping[str, Service]) -> None:
    """Raise UsageError for the first thing that cannot be."""
    for name, service in services.items():
        keys = ("services", name)
        if not name or "/" in name or "\0" in name:
            raise sources.error(keys, f'is no name: no log file can be called "{name}.log".', "Use letters, digits and dashes.")
        if service.command and service.target:
            raise sources.error(
                (*keys, "target"), "stands beside command, and a service runs one of them.", "Delete one of the two lines."
            )
        for probe_name, probe in service.probes.items():
            _check_probe(sources, (*keys, "probes", probe_name), probe)
            _check_address(sources, (*keys, "probes", probe_name), probe, service)
        for check_name, each in service.checks.items():
            _check_check(sources, (*keys, "checks", check_name), each)
        _check_dependencies(sources, keys, services)
    cycle = _cycle(services)
    if cycle:
        problem = f"closes a circle, in which each would wait for the next: {' → '.join(cycle)}."
        raise sources.error(("services", cycle[0], "depends_on", cycle[1]), problem, "Delete one of these dependencies.")


def _check_probe(sources: Sources, keys: Keys, probe: Probe) -> None:
    expected = _check_kind(sources, keys, probe, KINDS)
    if probe.never and keys[-1] == "ready":
        problem = "says what must not be printed, which does not tell when a service is ready."
        raise sources.error(keys, problem, "Give the probe another name, or ask for a line: ready = { log = 'started' }.")
    for each in ("equals", "grows_within"):
        if probe.http and each in expected and not probe.field:
            raise sources.error((*keys, each), "is expected of a field, and none is named.", 'Name it: field = "stats.count".')


def _check_check(sources: Sources, keys: Keys, check: Check) -> None:
    expected = _check_kind(sources, keys, check, CHECKS)
    if keys[-1] in BUILT_IN and keys[-1] not in REPLACEABLE:
        problem = "is called as a check that every service has, and that cannot be another one."
        raise sources.error(keys, problem, f"Give it another name; {_listed(sorted(REPLACEABLE))} may be replaced.")
    if "body" in expected and "json" in expected:
        raise sources.error((*keys, "json"), "stands beside body, and a request has one of them.", "Delete one of the two.")
    if "redirect" in expected and check.status is not None and not 300 <= check.status < 400:
        problem = f"is expected of an answer with status {check.status}, which is no redirect."
        raise sources.error((*keys, "redirect"), problem, "Delete the status, or make it 302.")
    for each in ("warm_up", *BUDGETS, "error_rate"):
        if each in expected and not check.runs:
            raise sources.error((*keys, each), "is of a scenario, which says how often it runs.", "Say it: runs = 50.")


def _check_kind(sources: Sources, keys: Keys, asked: Probe | Check, table: Mapping[str, tuple[str, ...]]) -> set[str]:
    """A probe, or check, asks one thing, and expects what can be expected of that. Returns the keys that are set."""
    what = "probe" if isinstance(asked, Probe) else "check"
    kinds = [kind for kind in table if getattr(asked, kind)]
    if not kinds:
        raise sources.error(keys, "asks nothing.", f"Give it one of {', '.join(table)}.")
    if len(kinds) > 1:
        raise sources.error(keys, f"asks {_listed(kinds)}, and a {what} asks one thing.", f"Make a {what} of each.")
    default = type(asked)()
    expected = [each for each in asked.__struct_fields__ if getattr(asked, each) != getattr(default, each)]
    for each in expected:
        where = [kind for kind, expectations in table.items() if each in expectations]
        if where and kinds[0] not in where:
            raise sources.error((*keys, each), f"does not go with {kinds[0]}.", f"It belongs to {what}s with {_listed(where)}.")
    return set(expected)


def _check_address(sources: Sources, keys: Keys, probe: Probe, service: Service) -> None:
    """A listener that devsup keeps takes every connection, whether a worker is there or not."""
    host, _, port = (probe.tcp or "").rpartition(":")
    launcher = LAUNCHER if ":" in "".join(service.words[:1]) else ()
    kept = {*service.port, *(number for _, number in intended([*launcher, *service.words], {}))}
    if port and int(port) in kept and meet(host.strip("[]") or _HERE, _HERE):
        problem = f"asks port {port}, which devsup keeps open for this service: it answers whether the service works or not."
        remedy = f'Ask the service itself: {quoted(keys[-1])} = {{ http = "/" }}.'
        if keys[-1] == "ready":
            remedy = f"{remedy[:-1]}, or delete the probe: devsup sees when it serves."
        raise sources.error((*keys, "tcp"), problem, remedy)


def _check_dependencies(sources: Sources, keys: Keys, services: Mapping[str, Service]) -> None:
    for other, condition in services[keys[1]].depends_on.items():
        here = (*keys, "depends_on", other)
        if other not in services:
            problem = f'names "{other}", and there is no such service.'
            raise sources.error(here, problem, f"{guess(other, services)}The services are {', '.join(services)}.")
        if condition == "completed" and services[other].restart == "always":
            problem = f'waits for the end of a service that never ends: {other} has restart = "always".'
            raise sources.error(here, problem, 'Wait for "ready", or delete that restart.')


def _cycle(services: Mapping[str, Service]) -> list[str]:
    """Services that wait for each other, the first one again at the end; empty when every wait ends."""
    done: set[str] = set()

    def walk(path: list[str]) -> list[str]:
        if path[-1] in path[:-1]:
            return path[path.index(path[-1]) :]
        if path[-1] not in done:
            for other in services[path[-1]].depends_on:
                if found := walk([*path, other]):
                    return found
            done.add(path[-1])
        return []

    return next((found for name in services if (found := walk([name]))), [])


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
