"""Write every table, figure and the page of a results folder, each file by itself: one that fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import TypeAlias, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from hiri_search.report.figures import VECTOR, drawings, image
from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import page
from hiri_search.report.predictions import PICTURE, picture, predictions_of_page
from hiri_search.report.tables.ablation import comparison_caption, comparison_table, comparison_text, settings_table
from hiri_search.report.tables.captions import settings_sentence
from hiri_search.report.tables.confirmation import confirmed_table, order_table, rank_agreement
from hiri_search.report.tables.data_dictionary import dictionary, with_numeric_columns
from hiri_search.report.tables.formats import csv, markdown, markdown_text
from hiri_search.report.tables.latex import comparison_tex, confirmed_tex, network_tex, paper_tex
from hiri_search.report.tables.networks import caption, inference_table, network_table, paper_table, trial_table
from hiri_search.report.tables.order import short_order_table
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import zero_cost_table
from hiri_search.report.tables.splits import split_sentence, split_table
from hiri_search.system.files import DISK_FULL, atomic_write

PARQUET, PAGE = "trials.parquet", "index.html"

FileContent: TypeAlias = str | bytes | None  # of a file; None: this study has no such file
Make: TypeAlias = Callable[[Results], FileContent]
MakeTable: TypeAlias = Callable[[Results], pd.DataFrame]
_Source = TypeVar("_Source")


@dataclass
class Written:
    """The files that were written, and why others were not."""

    paths: list[Path] = field(default_factory=list)
    failures: dict[Path, Exception] = field(default_factory=dict)

    @contextmanager
    def file(self, path: Path) -> Iterator[None]:
        """The boundary of one file: whatever is wrong with it, the others are written."""
        try:
            yield
        except Exception as error:
            self.failures[path] = error

    @property
    def reasons(self) -> dict[str, list[Path]]:
        """The files that were not written, by reason."""
        by_reason: dict[str, list[Path]] = {}
        for path, error in self.failures.items():
            by_reason.setdefault(reason(error), []).append(path)
        return by_reason

    @property
    def disk_full(self) -> bool:
        return any(isinstance(error, OSError) and error.errno in DISK_FULL for error in self.failures.values())


def reason(error: Exception) -> str:
    """Return an error as the reason in a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def write_all(results: Results, folder: Path, *, figures: bool = True) -> Written:
    """Write tables, figures and the page into `folder`; the page needs no figures."""
    drawn = _figure_files(results) | {PICTURE: picture} if figures else {}
    return write_files(table_files(results) | drawn | {PAGE: partial(study_page, pictures=figures)}, results, folder)


def study_page(results: Results, *, pictures: bool = True) -> str:
    """Return the page of a study, with a picture of predictions where there is one."""
    return page(page_content(results) | (predictions_of_page(results) if pictures else {}))


def write_tables(results: Results, folder: Path) -> Written:
    """Write the tables into `folder`; the same ledger gives the same bytes."""
    return write_files(table_files(results), results, folder)


def write_files(files: Mapping[str, Callable[[_Source], FileContent]], source: _Source, folder: Path) -> Written:
    """Write what each function makes of `source` into the file of its name in `folder`."""
    written = Written()
    for name, make in files.items():
        with written.file(folder / name):
            content = make(source)
            if content is not None:
                with atomic_write(folder / name) as file:
                    file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
                written.paths.append(folder / name)
    return written


def study_tables(results: Results) -> dict[str, MakeTable]:
    """Return the functions that make the tables of a study, by name."""
    networks = paper_table if results.table_number else network_table
    made: dict[str, MakeTable] = {"trials": _trials, "dictionary": _dictionary, networks_name(results): networks}
    if results.timed:
        made["inference"] = inference_table
    if results.every_setting:
        made["settings"] = settings_table
    return made | (SEARCH_TABLES if results.is_search else {"comparisons": comparison_table})


def table_files(results: Results) -> dict[str, Make]:
    """Return the functions that make the files of these tables, by file name: CSV, and for readers other formats."""
    kept = ("trials", "dictionary", networks_name(results))  # also without a row
    files: dict[str, Make] = {
        f"{name}.csv": partial(_csv, make, name in kept) for name, make in study_tables(results).items()
    }
    documents = SEARCH_DOCUMENTS if results.is_search else ABLATION_DOCUMENTS
    return files | {"dictionary.md": _dictionary_text, PARQUET: _parquet} | _network_documents(results) | documents


def _csv(make: MakeTable, keep_empty: bool, results: Results) -> FileContent:
    table = make(results)
    return None if table.empty and not keep_empty else csv(table)


@lru_cache(1)  # of four files
def _trials(results: Results) -> pd.DataFrame:
    return with_numeric_columns(trial_table(results), results)


def _parquet(results: Results) -> bytes:
    file = BytesIO()
    _trials(results).to_parquet(file, index=False)
    return file.getvalue()


def _dictionary(results: Results) -> pd.DataFrame:
    return dictionary(_trials(results), results)


def _dictionary_text(results: Results) -> FileContent:
    return _document("Columns of trials.csv and trials.parquet", _dictionary(results))


def networks_name(results: Results) -> str:
    """Return the name of the table of networks: next to the rows of the paper's table, or alone."""
    return f"table{results.table_number}" if results.table_number else "networks"


def _network_documents(results: Results) -> dict[str, Make]:
    name = networks_name(results)
    table, tex = (paper_table, paper_tex) if results.table_number else (network_table, network_tex)
    return {
        f"{name}.md": lambda results: _document(results.study.title or name, table(results), caption(results)),
        f"{name}.tex": tex,
    }


def _comparison_text(results: Results) -> FileContent:
    table = comparison_table(results)
    title = results.study.title or "Comparisons"
    return None if table.empty else _document(title, comparison_text(table, results.score), comparison_caption(results))


def _settings_text(results: Results) -> FileContent:
    table = settings_table(results)
    title = f"{results.study.title or 'Networks'}: settings"
    return None if table.empty else _document(title, table, settings_sentence(results).strip())


def _confirmed_text(results: Results) -> FileContent:
    table = confirmed_table(results)
    if table.empty:
        return None
    title = results.study.title or "Confirmed"
    return f"{_document(title, table, rank_agreement(results))}\n\n{markdown(order_table(results))}"


def _split_text(results: Results) -> FileContent:
    table = split_table(results)
    title = results.study.title or "Validation and test"
    return None if table.empty else _document(title, table, split_sentence(results))


ABLATION_DOCUMENTS: dict[str, Make] = {  # a search has too many pairs of networks
    "comparisons.md": _comparison_text,
    "settings.md": _settings_text,
    "comparisons.tex": lambda results: None if comparison_table(results).empty else comparison_tex(results),
}
SEARCH_DOCUMENTS: dict[str, Make] = {
    "confirmed.md": _confirmed_text,
    "confirmed.tex": lambda results: None if confirmed_table(results).empty else confirmed_tex(results),
    "val_test.md": _split_text,
}
SEARCH_TABLES: dict[str, MakeTable] = {
    "confirmed": confirmed_table,
    "short_orders": short_order_table,
    "orders": order_table,
    "val_test": split_table,
    "zero_cost": zero_cost_table,
}


def _document(title: str, table: pd.DataFrame, text: str = "") -> str:
    """Return a table as Markdown, below its title and its caption."""
    parts = [f"# {markdown_text(title)}", *([markdown_text(text)] if text else []), markdown(table)]
    return "\n\n".join(parts)


def _figure_files(results: Results) -> dict[str, Make]:
    """Return the functions that make the figures of a study, by file name."""
    return {
        f"{stem}{suffix}": partial(_drawn, draw, suffix)
        for stem, draw in drawings(results).items()
        for suffix in (".png", VECTOR)
    }


def _drawn(draw: Callable[[Results], Figure], suffix: str, results: Results) -> bytes:
    return image(_figure_of(draw, results), suffix)


@lru_cache(1)  # in two formats
def _figure_of(draw: Callable[[Results], Figure], results: Results) -> Figure:
    return draw(results)
