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

from hiri_search.system.text import printable

PAGE_FOLDER = files("hiri_search.report") / "page"
SCRIPTS = (  # in this order
    *("text", "data", "table", "figure", "cost", "learning", "parts", "static", "section", "search", "dialog"),
    *("page", "start"),
)
COMPRESSION_LEVEL = 6  # level 9 makes the data of 10,000 trials 4 % smaller and takes seven times as long
MAX_UNCOMPRESSED = 1_500_000  # characters; more data than this is compressed

Content = dict[str, Any]


def page(content: Content | None, *, live: bool = False, trouble: str = "") -> str:
    """Return the page as HTML.

    A `live` page asks its server for newer content, at `data`. Its `content` may be None; `trouble` is then the reason.
    """
    kind, data = _block({"live": live, "trouble": trouble, "content": content})
    title = content["title"] if content else "hiri_search"
    parts = {
        "policy": policy(live=live),
        "title": html.escape(printable(title)),
        "style": _text("page.css"),
        "script": script(),
        "library": _compressed_library(),
        "kind": kind,
        "data": data,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _text("page.html"))


def content_of_page(text: str) -> Content:
    """Return the content of a page that `page` has made. ValueError if the text has no block of data."""
    match = re.search(r'id="data" data-kind="(\w+)">(.*?)</script>', text, re.DOTALL)
    if not match:
        raise ValueError("the page has no block of data")
    block = match[2] if match[1] == "json" else gzip.decompress(b64decode(match[2])).decode()
    return json.loads(block)["content"] or {}


def policy(*, live: bool) -> str:
    """Return the content security policy of the page.

    It allows `unsafe-eval` for these two scripts only: Plotly's WebGL code (parallel coordinates, many points) compiles
    itself.
    """
    scripts = " ".join(f"'sha256-{_hash(text)}'" for text in (script(), get_plotlyjs()))
    network = "'self'" if live else "'none'"
    sources = f"script-src 'unsafe-eval' {scripts}; style-src 'unsafe-inline'; img-src data: blob:"
    return f"default-src 'none'; {sources}; connect-src {network}; base-uri 'none'; form-action 'none'"


@cache
def script() -> str:
    """Return our scripts as one script."""
    body = "\n".join(_text(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{body}\n}})();\n'


def as_json(value: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _block(value: Any) -> tuple[str, str]:
    """Return the kind of the block and its text: readable JSON, or compressed JSON if it is large."""
    text = as_json(value)
    return ("json", text) if len(text) < MAX_UNCOMPRESSED else ("gzip", _compressed(text))


@cache
def _compressed_library() -> str:
    return _compressed(get_plotlyjs())


def _compressed(text: str) -> str:
    """Compress without a time stamp, so that equal content gives an equal page."""
    return b64encode(gzip.compress(text.encode(), COMPRESSION_LEVEL, mtime=0)).decode()


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


@cache
def _text(name: str) -> str:
    return (PAGE_FOLDER / name).read_text(encoding="utf-8")
