"""Reports of smoke checks, built by hand: what the tests of devsup/show render."""

from __future__ import annotations

from typing import Any

from devsup.events import Diagnosis, Latency, Outcome, Place, Report, Round

FOLDER = "/work/shop"
ALONE = "devsup check --only {} -- uvicorn app.main:app"
HOSTILE = [
    "[bold]x[/bold] [/red] [link=x]y[/link] [0] \\[dim]",
    "ends in \\",
    "ends in \\\\",
    "ends in \\\\\\",
    "\x1b[31mred\x1b[0m \x1b]8;;file:///x\x1b\\link\x1b]8;;\x1b\\ \x07\x00\x08\x9b",
    "no UTF-8: \udc80\udcff \ud83d",
    "two\r\nlines\x0b\x0c\x85\u2028and\u2029more",
    "::error file=x::said",
    "##[error]said",
    "a | b `c` <script>alert('1')</script> &amp; ]]> \"q\" --> </pre></details> | @you #1 ~~no~~ **no** [no](no) <!--",
    "```\n</code>\n\n# head\n| - | - |\n",
    "\ufffe\uffff \U0001f600 % %0A 100%, a:b,c=d",
    "",
    "   ",
    "\t\n",
]


def outcome(name: str = "items", verdict: str = "passed", text: str = "fine", **more: Any) -> Outcome:
    return Outcome(name=name, service=more.pop("service", "web"), verdict=verdict, text=text, **more)  # type: ignore[arg-type]


def report(*rounds: list[Outcome], seconds: float = 4.12, phases: dict[str, float] | None = None) -> Report:
    took = {"prepare": 0.1, "start": 0.4, "hold": 3.0} if phases is None else phases
    return Report(
        command="devsup check -- uvicorn app.main:app",
        began=1_700_000_000.7,
        seconds=seconds,
        rounds=[Round(outcomes=outcomes, phases=took) for outcomes in rounds],
        code=1,
    )


def latency(**more: Any) -> Latency:
    times = {"min": 0.0004, "max": 0.0312, "mean": 0.0051, "median": 0.0043, "p95": 0.0223, "deviation": 0.0042}
    return Latency(**{"runs": 50, "errors": 0, **times, **more})


def hostile(text: str) -> Outcome:
    """A failure of which every text is this one."""
    place = Place(file=f"/work/shop/{text}", line=3, function=text, source=text)
    library = Place(file=f"/lib/{text}", line=4, function=text, own=False)
    diagnosis = Diagnosis(
        rule="rule", cause=text, remedy=text, place=place, frames=[library, place], code=[(3, text)], evidence=[text]
    )
    return Outcome(
        name=text,
        service=text,
        verdict="failed",
        text=text,
        request=text,
        lines=[text] * 30,
        alone=text,
        place=place,
        diagnosis=diagnosis,
        latency=latency(budgets={text: 1.0}),
    )


_LOADED = Place(file="/x/lib/python3.12/site-packages/uvicorn/config.py", line=40, function="load", own=False)
_IMPORT = Place(file=f"{FOLDER}/app/main.py", line=3, function="<module>", source="import nonexistent")
_TOTAL = Place(file=f"{FOLDER}/app/items.py", line=12, function="total", source='return row["price"]')

# An app whose module is not installed.
NO_IMPORT = [
    outcome(
        "start",
        "failed",
        "ended with exit code 1",
        seconds=0.31,
        code=3,
        alone=ALONE.format("start"),
        lines=["Traceback (most recent call last):"],
        place=_IMPORT,
        diagnosis=Diagnosis(
            rule="import",
            cause="Module nonexistent is not installed in .venv/bin/python (app/main.py:3)",
            remedy=".venv/bin/python -m pip install nonexistent",
            place=_IMPORT,
            frames=[_LOADED, _IMPORT],
            code=[(2, ""), (3, "import nonexistent"), (4, "from fastapi import FastAPI")],
        ),
    ),
    outcome("items", "skipped", "the service did not start"),
]
# A request that fails, and scenarios of which one is slow.
MIXED = [
    outcome("start", text="ready, 3 routes", seconds=0.41),
    outcome(
        "items",
        "failed",
        "answered 500 instead of 200",
        seconds=0.02,
        request="GET /items?page=1",
        alone=ALONE.format("items"),
        lines=['INFO:     "GET /items" 500', "\x1b[31mERROR\x1b[0m:    Exception in ASGI application"],
        place=_TOTAL,
        diagnosis=Diagnosis(
            rule="unhandled",
            cause="KeyError: 'price'",
            remedy="",
            place=_TOTAL,
            frames=[_LOADED, _TOTAL],
            code=[(11, "def total(row):"), (12, '    return row["price"]')],
        ),
    ),
    outcome("search", "slow", "p95 was 22.3 ms, 20 ms are allowed", seconds=0.6, latency=latency(budgets={"p95": 0.02})),
    outcome(
        "buy",
        "failed",
        "2 of 50 runs went wrong",
        seconds=0.6,
        latency=latency(errors=2, max=1.312, min=0.01041, budgets={"mean": 0.2, "p95": 0.5}),
    ),
    outcome("list", text="50 times", seconds=0.6, latency=latency()),
]
