"""What clients get while nothing serves: a page for browsers, problem+json (RFC 9457) for programs, text for terminals."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from devsup.show import editors
from devsup.show.frames import folded, summary
from devsup.show.text import SEQUENCE

if TYPE_CHECKING:
    from devsup.events import Diagnosis, Outage, Place

_STATIC = Path(__file__).with_name("static")
_TITLE = "The server is not running"
_LINES = 100  # of what it printed
_LONGEST = 2000  # characters of a line


class Links(NamedTuple):
    """How places are shown: a link into the editor, of this form, with the file as seen from the folder."""

    form: str
    folder: str

    def to(self, place: Place) -> str:
        """As HTML."""
        text = escape(f"{place.file.removeprefix(f'{self.folder}/')}:{place.line}")
        if not place.file.startswith("/"):
            return text
        return f'<a href="{escape(editors.link(self.form, place.file, place.line))}">{text}</a>'


class Page(NamedTuple):
    """The answer's type, further headers, and body."""

    kind: str
    headers: dict[str, str]
    body: bytes


def render(outage: Outage | None, *, version: str, accept: str, agent: str, method: str, editor: str | None, folder: str) -> Page:
    """Say why nothing serves; with None only that. By what the client accepts, and, where that is all, by who it is.

    `editor` is the user's setting; files in `folder` are named from there.
    """
    if outage is not None:
        tail = "\n".join(line[:_LONGEST] for line in outage.tail.splitlines()[-_LINES:])
        outage = msgspec.structs.replace(outage, tail=_clean(tail))
    if "text/html" in accept:
        form = editors.template(editor, os.environ.get("VISUAL") or os.environ.get("EDITOR", ""))
        return _html(outage, version, method, Links(form, folder))
    if accept.startswith("text/plain") or (accept in {"", "*/*"} and agent.lower().startswith(("curl/", "wget/"))):
        return Page("text/plain; charset=utf-8", {}, _text(outage).encode("utf-8", "replace"))
    return Page("application/problem+json", {}, _json(outage))


def escape(text: str) -> str:
    """Text as HTML."""
    return html.escape(_clean(text))


def _clean(text: str) -> str:
    """What a program has printed, without what only a terminal obeys."""
    plain = SEQUENCE.sub("", text).replace("\r", "")
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in plain)


def _text(outage: Outage | None) -> str:
    if outage is None:
        return f"{_TITLE}.\nIts terminal says why.\n"
    advice = outage.diagnosis.advice if outage.diagnosis is not None else ""
    return "\n\n".join(filter(None, (f"devsup: {_TITLE[0].lower()}{_TITLE[1:]}.", _how(outage), advice, outage.tail))) + "\n"


def _json(outage: Outage | None) -> bytes:
    problem: dict[str, object] = {"type": "about:blank", "title": _TITLE, "status": 503}
    if outage is not None:
        diagnosis = outage.diagnosis
        problem["detail"] = f"{_how(outage)} {diagnosis.text}" if diagnosis is not None else _how(outage)
        problem["generation"] = outage.generation
        problem["output"] = outage.tail.splitlines()
        if diagnosis is not None:
            problem["type"] = f"urn:devsup:{diagnosis.rule}"
            problem["diagnosis"] = msgspec.to_builtins(diagnosis)
    return json.dumps(problem).encode()


def _how(outage: Outage) -> str:
    if outage.starting is None:
        return outage.how
    doing = f", {outage.doing}" if outage.doing else ""
    return f"It has been starting for {time.monotonic() - outage.starting:.0f} s{doing}. Its terminal says more."


# -- the page ---------------------------------------------------------------------------------------------------------


def _html(outage: Outage | None, version: str, method: str, links: Links) -> Page:
    css, js = _static("page.css"), _static("page.js")
    diagnosis = outage.diagnosis if outage is not None and outage.starting is None else None
    title = diagnosis.text if diagnosis is not None else _TITLE
    body = (
        f'<!doctype html><html lang="en" data-version="{escape(version)}" data-method="{escape(method)}"><head>'
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head><body>{_main(outage, diagnosis, links)}"
        f"<script>{js}</script></body></html>"
    )
    rules = f"style-src {_hash(css)}; script-src {_hash(js)}; connect-src 'self'; base-uri 'none'; form-action 'none'"
    headers = {
        "Content-Security-Policy": f"default-src 'none'; frame-ancestors 'none'; {rules}",
        "Referrer-Policy": "no-referrer",
        "X-Devsup-Version": version,
    }
    return Page("text/html; charset=utf-8", headers, body.encode("utf-8", "replace"))


def _main(outage: Outage | None, diagnosis: Diagnosis | None, links: Links) -> str:
    if outage is None:
        return f"<main><h1>{_TITLE}</h1><p>Its terminal says why.</p>{_status(starting=False)}</main>"
    parts = [f'<p class="how">{escape(_how(outage))}</p>']
    if diagnosis is None:
        parts = [f"<h1>{_TITLE if outage.starting is None else 'The server is starting'}</h1>", *parts]
    else:
        parts += [f"<h1>{escape(diagnosis.text)}</h1>", *_remedy(diagnosis), *_code(diagnosis, links)]
        parts += [*_frames(diagnosis.frames, links), *_evidence(diagnosis)]
    if outage.tail.strip():
        pre = f'<pre class="output" tabindex="0">{escape(outage.tail)}</pre>'
        parts.append(f'<details id="output"><summary>What it printed</summary>{pre}</details>')
    return f"<main>{''.join(parts)}{_status(starting=outage.starting is not None)}</main>"


def _status(*, starting: bool) -> str:
    waits = "Starting" if starting else "Waiting for a save"
    return f'<p role="status">{waits}: this page reloads itself when the new code serves.</p>'


def _remedy(diagnosis: Diagnosis) -> list[str]:
    if not diagnosis.remedy:
        return []
    copy = f'<button type="button" data-copy="{escape(diagnosis.remedy)}">Copy</button>'
    return [f'<h2>What to do</h2><pre tabindex="0">{escape(diagnosis.remedy)}</pre>{copy}']


def _code(diagnosis: Diagnosis, links: Links) -> list[str]:
    place = diagnosis.place
    if place is None:
        return []
    width = len(str(diagnosis.code[-1][0])) if diagnosis.code else 0
    lines = []
    for number, text in diagnosis.code:
        line = f'<span class="no">{number:>{width}}</span>  {escape(text)}'
        lines.append(f'<span class="at">{line}</span>' if number == place.line else f"{line}\n")
    pre = f'<pre tabindex="0">{"".join(lines)}</pre>' if lines else ""
    return [f"<h2>{links.to(place)}</h2>{pre}"]


def _frames(frames: list[Place], links: Links) -> list[str]:
    if len(frames) < 2:
        return []
    items = []
    for number, (own, group) in enumerate(folded(frames)):
        if own:
            items.append(f"<li>{_frame(group[0], links)}</li>")
        else:
            inner = "".join(f"<li>{_frame(each, links)}</li>" for each in group)
            folds = f"<summary>{escape(summary(group))}</summary><ul>{inner}</ul>"
            items.append(f'<li><details id="frames-{number}">{folds}</details></li>')
    return [f"<h2>How it came there</h2><ol>{''.join(items)}</ol>"]


def _frame(place: Place, links: Links) -> str:
    function = f" in {escape(place.function)}" if place.function else ""
    source = f'<code tabindex="0">{escape(place.source)}</code>' if place.source else ""
    return f"{links.to(place)}{function}{source}"


def _evidence(diagnosis: Diagnosis) -> list[str]:
    items = "".join(f"<li>{escape(each)}</li>" for each in diagnosis.evidence)
    return [f'<details id="evidence"><summary>What this stands on</summary><ul>{items}</ul></details>'] if items else []


@functools.cache
def _static(name: str) -> str:
    return (_STATIC / name).read_text()


@functools.cache
def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
