"""Bars as SVG, by hand: the time from a save to new code, on a logarithmic scale."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

Medians = Mapping[str, float]  # ms by peer

TITLE = "From a save to the first answer of the new code (median, logarithmic scale)"
LEFT, RIGHT, TOP, WIDTH = 185, 80, 64, 760
BAR, GAP = 11, 12
LEAST, MOST = 10, 10_000  # ms, the ends of the scale
TICKS = {10: "10 ms", 100: "100 ms", 1000: "1 s", 10_000: "10 s"}
# Of middle lightness: legible on white and on black, without a background of its own.
GREY, BLUE = "#848d97", "#388bfd"
PROGRAMS = {"light": ("light app", 1.0), "heavy": ("with pandas, SQLAlchemy and FastAPI", 0.55)}  # name, opacity


def write(file: Path, medians: Mapping[str, Medians]) -> None:
    """Of each program that was measured (light, heavy), one bar a peer; the fastest peer first."""
    file.write_text("\n".join(_lines(medians)) + "\n", encoding="utf-8")


def _lines(medians: Mapping[str, Medians]) -> Iterator[str]:
    fastest = {**medians.get("heavy", {}), **medians.get("light", {})}
    peers = sorted(fastest, key=lambda peer: fastest[peer])
    step = BAR * len(medians) + GAP
    height = TOP + step * len(peers) + 24
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{GREY}">'
    )
    yield f'<text x="10" y="20" font-size="14" font-weight="600">{TITLE}</text>'
    for number, program in enumerate(medians):
        title, opacity = PROGRAMS[program]
        yield f'<rect x="{10 + 100 * number}" y="33" width="11" height="11" fill-opacity="{opacity}"/>'
        yield f'<text x="{26 + 100 * number}" y="43">{title}</text>'
    for tick, label in TICKS.items():
        yield f'<path d="M{_x(tick):.1f} {TOP - 6}V{height - 20}" stroke="{GREY}" stroke-opacity="0.3"/>'
        yield f'<text x="{_x(tick):.1f}" y="{height - 6}" text-anchor="middle">{label}</text>'
    for number, peer in enumerate(peers):
        yield from _bars(peer, TOP + number * step, medians)
    yield "</svg>"


def _bars(peer: str, top: float, medians: Mapping[str, Medians]) -> Iterator[str]:
    colour = BLUE if peer.startswith("devsup") else GREY
    middle = top + BAR * len(medians) / 2 + 4
    yield f'<g fill="{colour}"><text x="{LEFT - 10}" y="{middle}" text-anchor="end">{escape(peer)}</text>'
    for number, (program, each) in enumerate(medians.items()):
        y = top + number * BAR
        if peer not in each:
            yield f'<text x="{LEFT + 6}" y="{y + 10}" font-size="11">not measured</text>'
            continue
        end = _x(each[peer])
        yield f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR - 1}" fill-opacity="{PROGRAMS[program][1]}"/>'
        yield f'<text x="{end + 6:.1f}" y="{y + 9.5}" font-size="11">{each[peer]:,.0f} ms</text>'
    yield "</g>"


def _x(milliseconds: float) -> float:
    share = math.log(max(milliseconds, LEAST) / LEAST) / math.log(MOST / LEAST)
    return LEFT + share * (WIDTH - LEFT - RIGHT)
