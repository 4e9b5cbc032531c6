"""What GitHub is told: commands as its runner reads them, and Markdown as a renderer shows it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from markdown_it import MarkdownIt

from devsup.events import Outcome, Place, Report
from devsup.show import github
from devsup.show.checks import readable
from reports import FOLDER, HOSTILE, MIXED, NO_IMPORT, hostile, latency, outcome, report

_COMMAND = re.compile(r"::error (?P<fields>.*?)::(?P<message>.*)")
_MIB = 1 << 20


def commands(whole: Report, root: str = FOLDER) -> list[dict[str, str]]:
    """The properties of each command and its message, decoded as GitHub's runner does: only CR and LF end a line."""
    text = github.annotations(whole, Path(root))
    assert text.endswith("\n") or not text
    found = []
    for line in re.split(r"[\r\n]", text)[:-1]:
        match = _COMMAND.fullmatch(line)
        assert match is not None, line
        fields = dict(each.split("=", 1) for each in match["fields"].split(","))
        found.append({name: decoded(value) for name, value in {**fields, "message": match["message"]}.items()})
    return found


def decoded(value: str) -> str:
    for code, char in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        value = value.replace(code, char)
    return value


def bad(file: str = f"{FOLDER}/app/main.py", name: str = "a") -> Outcome:
    return outcome(name, "failed", "wrong", place=Place(file=file, line=7))


# -- annotations ------------------------------------------------------------------------------------------------------


def test_an_annotation_to_the_letter() -> None:
    assert github.annotations(report(NO_IMPORT), Path("/work")) == (
        "::error file=shop/app/main.py,line=3,title=devsup check%3A start::ended with exit code 1%0A"
        "Module nonexistent is not installed in .venv/bin/python (app/main.py:3)%0A"
        ".venv/bin/python -m pip install nonexistent%0A"
        "run it alone: devsup check --only start -- uvicorn app.main:app\n"
    )


def test_one_for_each_bad_outcome() -> None:
    assert [each["title"] for each in commands(report(MIXED))] == [f"devsup check: {name}" for name in ("items", "search", "buy")]
    assert github.annotations(report([outcome(), outcome(verdict="skipped")]), Path(FOLDER)) == ""
    many = commands(report([bad(name=str(number)) for number in range(12)]))
    assert [each["title"] for each in many] == [f"devsup check: {number}" for number in range(10)]


def test_one_for_all_rounds() -> None:
    found = commands(report([bad()], [outcome("a")], [bad()]))
    assert [each["message"] for each in found] == ["wrong\nfailed in 2 of 3 rounds"]


def test_of_several_services() -> None:
    found = commands(report([bad(), outcome("a", "slow", service="api")]))
    assert [each["title"] for each in found] == ["devsup check: web.a", "devsup check: api.a"]


def test_places() -> None:
    assert commands(report([bad()]))[0]["file"] == "app/main.py"
    assert commands(report([bad("app/main.py")]))[0]["file"] == "app/main.py"
    assert commands(report([bad("/work/shop/../shop/..x/m.py")]))[0]["file"] == "..x/m.py"
    for outside in ("/work/shopping/m.py", "/work/m.py", "/work", "../m.py", ""):
        assert commands(report([bad(outside)]))[0].keys() == {"title", "message"}
    diagnosed = msgspec.structs.replace(MIXED[1], place=None)
    assert commands(report([diagnosed]))[0]["file"] == "app/items.py"
    assert commands(report([diagnosed]))[0]["line"] == "12"


def test_a_root_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for root, file in (("real", "link"), ("link", "real")):
        assert commands(report([bad(str(tmp_path / file / "m.py"))]), str(tmp_path / root))[0]["file"] == "m.py"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_annotations(text: str) -> None:
    (found,) = commands(report([hostile(text)]))
    assert found["title"] == f"devsup check: {readable(text)}"
    assert found["message"].startswith(readable(text))
    assert found.get("line", "3") == "3"
    assert all(char.isprintable() or char == "\n" for char in github.annotations(report([hostile(text)]), Path(FOLDER)))


def test_a_long_annotation() -> None:
    assert len(github.annotations(report([hostile("%" * 1_000_000)]), Path(FOLDER))) < 100_000


# -- the summary ------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a reader sees of Markdown: the tags that there are, and texts of headings, cells, summaries and <pre>."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: dict[str, list[str]] = {name: [] for name in ("h2", "h3", "code", "td", "th", "summary", "pre", "p")}
        self._open: list[str] = []
        self.feed(MarkdownIt("commonmark").enable(["table"]).render(markdown))
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs
        self.tags.add(tag)
        self._open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            if tag in self.texts:
                self.texts[tag][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


_TAGS = {"h2", "h3", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre"}


def shown(whole: Report) -> Page:
    page = Page(github.summary(whole, Path(FOLDER)))
    assert page.tags <= _TAGS
    return page


def test_a_summary() -> None:
    page = shown(report(MIXED))
    assert page.texts["h2"] == ["devsup check: 2 passed, 2 failed, 1 slow"]
    assert page.texts["code"] == ["devsup check -- uvicorn app.main:app"]
    assert page.texts["th"][:4] == ["", "check", "found", "seconds"]
    assert page.texts["td"][:20] == [
        *("✅ passed", "start", "ready, 3 routes", "0.41"),
        *("❌ failed", "items", "answered 500 instead of 200", "0.02"),
        *("⚠️ slow", "search", "p95 was 22.3 ms, 20 ms are allowed", "0.60"),
        *("❌ failed", "buy", "2 of 50 runs went wrong", "0.60"),
        *("✅ passed", "list", "50 times", "0.60"),
    ]
    assert page.texts["summary"] == ["items: answered 500 instead of 200"]  # of the others nothing more is known
    assert page.texts["h3"] == ["Latency in milliseconds"]
    assert page.texts["td"][20:31] == "search|50||0.40|31.2|5.10|4.30|22.3|4.20|p95 20.0|SLOW".split("|")
    assert page.texts["p"][-1] == "4.1 s: prepare 0.1 s, start 0.4 s, hold 3.0 s"


def test_a_summary_tells_why() -> None:
    (text,) = shown(report(NO_IMPORT)).texts["pre"]
    assert text.splitlines()[1:] == [
        "    Module nonexistent is not installed in .venv/bin/python (app/main.py:3)",
        "        2",
        "      > 3  import nonexistent",
        "        4  from fastapi import FastAPI",
        "      · 1 frame in uvicorn",
        "      · app/main.py:3 <module>",
        "    .venv/bin/python -m pip install nonexistent",
        "    it printed:",
        "    | Traceback (most recent call last):",
        "    run it alone: devsup check --only start -- uvicorn app.main:app",
    ]


def test_a_summary_of_rounds() -> None:
    page = shown(report([bad(), outcome("b", latency=latency())], [outcome("a"), outcome("b", latency=latency())]))
    assert page.texts["th"][:5] == ["", "check", "found", "seconds", "rounds"]
    assert page.texts["td"][:10] == [
        *("❌ failed", "a", "wrong", "0.00", "failed in 1 of 2 rounds"),
        *("✅ passed", "b", "fine", "0.00", ""),
    ]
    assert page.texts["td"][10:12] + page.texts["td"][20:22] == ["b", "1", "b", "2"]
    assert page.texts["p"][-1] == "4.1 s: prepare 0.2 s, start 0.8 s, hold 6.0 s"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_summaries(text: str) -> None:
    whole = report([hostile(text), outcome("last")], phases={text: 1.0})
    page = shown(msgspec.structs.replace(whole, command=text))
    said = " ".join(readable(text).split())
    assert [" ".join(cell.split()) for cell in page.texts["td"][1:3]] == [
        " ".join(readable(f"{text}.{text}").split()),
        said,
    ]
    assert " ".join(page.texts["code"][0].split()) == said
    assert page.texts["td"][4:6] == ["✅ passed", "web.last"]
    (details,) = page.texts["pre"]
    assert details.count("\n    |") == 21
    assert page.texts["h3"] == ["Latency in milliseconds"]
    assert page.texts["p"][-1].startswith("4.1 s: ")


def test_a_long_text_is_told_once_in_full() -> None:
    page = shown(report([outcome("a", "failed", "x" * 1000)]))
    assert page.texts["td"][2] == "x" * 300 + "…"
    assert "x" * 1000 in page.texts["pre"][0]


@pytest.mark.parametrize("text", ["x" * 1_000_000, "<" * 1_000_000, "😀" * 1_000_000])
def test_github_takes_every_summary(text: str) -> None:
    checks = [msgspec.structs.replace(hostile(text), name=f"{number}") for number in range(40)]
    written = github.summary(report(checks), Path(FOLDER))
    assert len(written.encode()) < _MIB
    page = shown(report(checks))
    assert len(page.texts["summary"]) > 5
    assert ("The rest is too long for a summary." in written) is (len(page.texts["summary"]) < 40)


def test_many_checks() -> None:
    written = github.summary(report([outcome(f"check-{number}", text="😀" * 300) for number in range(3000)]), Path(FOLDER))
    assert len(written.encode()) < _MIB
    page = Page(written)
    assert len(page.texts["td"]) > 2000
    assert page.texts["p"][-1] == "The rest is too long for a summary."
