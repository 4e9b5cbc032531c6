"""The other end of the control API, for the commands that ask a devsup which runs."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from devsup.errors import DevsupError, UsageError
from devsup.system import owner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devsup.system.owner import Record

_LIMIT = 30.0  # seconds for an answer
_TRIES = 4  # to connect, in 3.5 s: a devsup of many services says who it is before it can be asked


def find(service: str | None = None, *, anywhere: bool = False) -> Record:
    """The devsup that is meant: it runs in this folder, or above it; `anywhere`: or is the only one of this machine.

    Raises DevsupError where none runs, or several could be meant.
    """
    here = Path.cwd().resolve()
    found = [each for each in owner.running() if each.control and service in {None, each.service}]
    near = [each for each in found if here.is_relative_to(each.project)] or (found if anywhere else [])
    closest = max((len(Path(each.project).parts) for each in near if here.is_relative_to(each.project)), default=0)
    near = [each for each in near if len(Path(each.project).parts) >= closest] if closest else near
    if len({each.control for each in near}) == 1:
        return near[0]
    what = f"service {service}" if service else "service"
    if not near:
        others = "; ".join(f"{each.service} in {each.project}" for each in found)
        elsewhere = f"Elsewhere: {others}." if found else 'Start one: "devsup run COMMAND", or "devsup start".'
        raise DevsupError(f"No {what} runs under devsup here.", elsewhere)
    names = ", ".join(f"{each.service} in {each.project}" for each in near)
    raise DevsupError(f"{len(near)} services run: {names}.", "Name one, or go to its folder.")


def is_there(service: str | None) -> bool:
    """Whether `find` would find one."""
    with suppress(DevsupError):
        return bool(find(service))
    return False


def path_of(service: str, verb: str = "") -> str:
    """Where a service is asked about, or told something."""
    return f"/v1/services/{quote(service, safe='')}/{verb}".rstrip("/")


class Client:
    """Asks one devsup. Raises DevsupError, in its own words, where it says no or does not answer."""

    def __init__(self, control: str, pid: int) -> None:
        self._pid = pid
        transport = httpx.HTTPTransport(uds=control, retries=_TRIES)
        self._http = httpx.Client(transport=transport, base_url="http://devsup", timeout=_LIMIT, trust_env=False)

    def get(self, path: str, *, limit: float = _LIMIT, **query: Any) -> Any:
        """The answer, from JSON."""
        return self._ask("GET", path, limit, params=query)

    def post(self, path: str, content: bytes = b"") -> Any:
        """The answer, from JSON."""
        return self._ask("POST", path, _LIMIT, content=content)

    def _ask(self, method: str, path: str, limit: float, **rest: Any) -> Any:
        try:
            response = self._http.request(method, path, timeout=limit, **rest)
        except httpx.HTTPError as exc:
            raise self._silent() from exc
        if response.is_error:
            raise (UsageError if response.status_code in {400, 404} else DevsupError)(_detail(response))
        return response.json()

    @contextmanager
    def output(self, service: str) -> Iterator[Iterator[bytes]]:
        """What a service prints, as it comes, from its last lines on."""
        with self._stream(path_of(service, "output")) as response:
            yield response.iter_raw()

    @contextmanager
    def events(self, **query: Any) -> Iterator[Iterator[str]]:
        """The events as they come, one JSON object each."""
        with self._stream("/v1/events", params=query) as response:
            yield (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))

    @contextmanager
    def _stream(self, path: str, **rest: Any) -> Iterator[httpx.Response]:
        try:
            with self._http.stream("GET", path, timeout=None, **rest) as response:
                yield response
        except httpx.HTTPError as exc:
            raise self._silent() from exc

    def _silent(self) -> DevsupError:
        return DevsupError(f"devsup (pid {self._pid}) does not answer.", f"See it: ps -fp {self._pid}")

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def _detail(response: httpx.Response) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(response.json()["detail"])
    return f"devsup answered {response.status_code}: {response.text[:200]}"


@contextmanager
def client(service: str | None = None, *, anywhere: bool = False) -> Iterator[Client]:
    """A client of the devsup that is meant, as of `find`."""
    record = find(service, anywhere=anywhere)
    with closing(Client(record.control, record.pid)) as asking:
        yield asking
