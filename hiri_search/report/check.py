"""Compare a written report with what the ledger gives now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import as_json, content_of_page
from hiri_search.report.predictions import PREDICTIONS
from hiri_search.report.tables.results import Results
from hiri_search.report.write import PAGE, PARQUET, reason, write_tables

TEXTS = (".csv", ".md", ".tex", ".json")
MAX_LINE_SHOWN = 90  # characters of a line in a message


def texts(folder: Path) -> list[Path]:
    """Return the tables of a report that are text files."""
    return sorted(path for path in folder.glob("*") if path.suffix in TEXTS)


def report_faults(results: Results, folder: Path) -> Iterator[str]:
    """Yield one message for each file of a report that differs from the same file made from the ledger now.

    Text files must be equal byte by byte; the message has the first line that differs.
    """
    if not folder.is_dir():
        yield f"there is none; `hiri-search report {folder.parent}` makes it"
        return
    with TemporaryDirectory() as temporary:
        for path, error in write_tables(results, Path(temporary)).failures.items():
            yield f"{path.name} cannot be made: {reason(error)}"
        expected = {path.name: path for path in texts(Path(temporary))}
        for name in sorted({*expected, *(path.name for path in texts(folder))}):
            yield from _text_faults(folder / name, expected.get(name))
        yield from _parquet_faults(folder / PARQUET, Path(temporary) / PARQUET)
    yield from _page_faults(folder / PAGE, results)


def _text_faults(path: Path, expected: Path | None) -> Iterator[str]:
    if expected is None:
        yield f"{path.name} is not a table of this study"
    elif not path.is_file():
        yield f"{path.name} is missing"
    elif path.read_bytes() != expected.read_bytes():
        lines = zip_longest(
            *(file.read_text(encoding="utf-8", errors="replace").splitlines() for file in (path, expected))
        )
        number, (old, new) = next(((n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1]), (0, ("", "")))
        yield f"{path.name}, line {number}, is {_excerpt(old, new)!r}, and by the ledger {_excerpt(new, old)!r}"


def _parquet_faults(path: Path, expected: Path) -> Iterator[str]:
    """Compare the values only: the bytes differ between versions of the library that writes the file."""
    try:
        old, new = (pd.read_parquet(BytesIO(file.read_bytes())) for file in (path, expected))
    except (OSError, ValueError) as error:
        yield f"{path.name} cannot be read: {error}"
        return
    if list(old) != list(new) or len(old) != len(new):
        yield f"{path.name} has {len(old)} lines of {len(old.columns)} columns, not {len(new)} of {len(new.columns)}"
    elif differing := [name for name in new if not old[name].equals(new[name])]:
        yield f"{path.name} holds another {', '.join(map(str, differing))} than the ledger gives"


def _page_faults(path: Path, results: Results) -> Iterator[str]:
    try:
        old = content_of_page(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"{path.name} cannot be read: {error}"
        return
    try:
        new = json.loads(as_json(page_content(results)))
    except Exception as error:  # as where the report is written: whatever is wrong with it, the other files are checked
        yield f"{path.name} cannot be made: {reason(error)}"
        return
    of_ledger = [name for name in {**new, **old} if name != PREDICTIONS]
    if differing := [name for name in of_ledger if old.get(name) != new.get(name)]:
        yield f"{path.name} shows other {', '.join(differing)} than the ledger gives"


def _excerpt(line: str | None, other: str | None) -> str:
    """Return the part of a long line where it begins to differ from the other line."""
    if line is None:
        return "nothing"
    same = next((n for n, pair in enumerate(zip(line, other or "", strict=False)) if pair[0] != pair[1]), 0)
    begin = max(0, same - MAX_LINE_SHOWN // 2)
    return ("..." if begin else "") + line[begin : begin + MAX_LINE_SHOWN]
