"""Compare a written report with what the ledger gives now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import as_json, shown_by
from hiri_search.report.tables.results import Results
from hiri_search.report.write import PAGE, PARQUET, write_tables

TEXTS = (".csv", ".md", ".tex", ".json")
MAX_LINE_SHOWN = 90  # letters of a line that are shown


def texts(folder: Path) -> list[Path]:
    """The tables of a report."""
    return sorted(path for path in folder.glob("*") if path.suffix in TEXTS)


def report_faults(results: Results, folder: Path) -> Iterator[str]:
    """Tables that are not, to the byte, what is made from the ledger now; each with the first line that differs."""
    if not folder.is_dir():
        yield f"there is none; `hiri-search report {folder.parent}` makes it"
        return
    with TemporaryDirectory() as anew:
        write_tables(results, Path(anew))
        made = {path.name: path for path in texts(Path(anew))}
        for name in sorted({*made, *(path.name for path in texts(folder))}):
            yield from _unlike(folder / name, made.get(name))
        yield from _unlike_values(folder / PARQUET, Path(anew) / PARQUET)
    yield from _unlike_page(folder / PAGE, results)


def _unlike(there: Path, made: Path | None) -> Iterator[str]:
    if made is None:
        yield f"{there.name} is none of its tables"
    elif not there.is_file():
        yield f"{there.name} is missing"
    elif there.read_bytes() != made.read_bytes():
        pairs = zip_longest(
            *(path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (there, made))
        )
        line, (old, new) = next(((n, pair) for n, pair in enumerate(pairs, 1) if pair[0] != pair[1]), (0, ("", "")))
        yield f"{there.name}, line {line}, is {_about(old, new)!r}, and by the ledger {_about(new, old)!r}"


def _unlike_values(there: Path, made: Path) -> Iterator[str]:
    """Its bytes are another matter: they differ between versions of the library that writes them."""
    try:
        old, new = (pd.read_parquet(path) for path in (there, made))
    except (OSError, ValueError) as error:
        yield f"{there.name} cannot be read: {error}"
        return
    if list(old) != list(new) or len(old) != len(new):
        yield f"{there.name} has {len(old)} lines of {len(old.columns)} columns, not {len(new)} of {len(new.columns)}"
    elif differ := [name for name in new if not old[name].equals(new[name])]:
        yield f"{there.name} holds another {', '.join(map(str, differ))} than the ledger gives"


def _unlike_page(there: Path, results: Results) -> Iterator[str]:
    try:
        old = shown_by(there.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"{there.name} cannot be read: {error}"
        return
    new = json.loads(as_json(page_content(results)))
    if differ := [name for name in {**new, **old} if old.get(name) != new.get(name)]:
        yield f"{there.name} shows other {', '.join(differ)} than the ledger gives"


def _about(line: str | None, other: str | None) -> str:
    """The part of a long line in which it differs from another."""
    if line is None:
        return "nothing"
    same = next((n for n, pair in enumerate(zip(line, other or "", strict=False)) if pair[0] != pair[1]), 0)
    begin = max(0, same - MAX_LINE_SHOWN // 2)
    return ("..." if begin else "") + line[begin : begin + MAX_LINE_SHOWN]
