"""index.html: one self-contained page from a study's data."""

from __future__ import annotations

import gzip
import html
import json
import re
from base64 import b64decode, b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

PAGE_FOLDER = files("hiri_search.report") / "page"
SCRIPTS = (  # in this order
    *("words", "data", "table", "draw", "plots", "learning", "parts", "lists", "section", "searched", "trial"),
    *("sections", "start"),
)
PACKING = 6  # of 9: there the data of 10,000 trials are smaller by 4 %, in seven times the time
LARGE = 1_500_000  # letters of data, from which on it is packed too

Content = dict[str, Any]


def page(content: Content | None, *, live: bool = False, trouble: str = "") -> str:
    """The page as text.

    `live`: it asks where it came from for newer content, at `data`. `content` may be None there, where `trouble` says
    why there is none yet.
    """
    kind, data = _block({"live": live, "trouble": trouble, "content": content})
    title = content["title"] if content else "hiri_search"
    parts = {
        "policy": policy(live=live),
        "title": html.escape(title),
        "style": _text("page.css"),
        "script": script(),
        "library": _packed_library(),
        "kind": kind,
        "data": data,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _text("page.html"))


def shown_by(text: str) -> Content:
    """The content of a page that `page` has made. ValueError where there is none in it."""
    found = re.search(r'id="data" data-kind="(\w+)">(.*?)</script>', text, re.DOTALL)
    if not found:
        raise ValueError("there is no block of data in it")
    block = found[2] if found[1] == "json" else gzip.decompress(b64decode(found[2])).decode()
    return json.loads(block)["content"] or {}


def policy(*, live: bool) -> str:
    """What the browser is to let the page do.

    `unsafe-eval`, for these scripts alone: Plotly's WebGL (parallel coordinates, many points) compiles its own drawing.
    """
    scripts = " ".join(f"'sha256-{_hash(text)}'" for text in (script(), get_plotlyjs()))
    network = "'self'" if live else "'none'"
    allowed = (
        f"script-src 'unsafe-eval' {scripts}; style-src 'unsafe-inline'; img-src data: blob:; connect-src {network}"
    )
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


@cache
def script() -> str:
    """Ours, in one."""
    inside = "\n".join(_text(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{inside}\n}})();\n'


def as_json(value: Any) -> str:
    """Such that nothing in it can end the block that it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _block(value: Any) -> tuple[str, str]:
    """A kind and the text: JSON that people can read, or packed where it is large."""
    text = as_json(value)
    return ("json", text) if len(text) < LARGE else ("packed", _packed(text))


@cache
def _packed_library() -> str:
    return _packed(get_plotlyjs())


def _packed(text: str) -> str:
    return b64encode(gzip.compress(text.encode(), PACKING, mtime=0)).decode()  # no clock: the same page twice


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


@cache
def _text(name: str) -> str:
    return (PAGE_FOLDER / name).read_text(encoding="utf-8")
