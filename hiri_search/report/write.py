"""Write every table, figure and the page of a results folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hiri_search.report.figures import VECTOR, comparison, hypervolume_over_trials, pareto, save
from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import page
from hiri_search.report.tables.ablation import comparison_caption, comparison_table, comparison_text
from hiri_search.report.tables.curves import published_points
from hiri_search.report.tables.data_dictionary import dictionary, typed
from hiri_search.report.tables.formats import csv, markdown
from hiri_search.report.tables.latex import comparison_tex, confirmed_tex, network_tex, paper_tex
from hiri_search.report.tables.networks import caption, inference_table, network_table, paper_table, trial_table
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import confirmed_table, rank_agreement, zero_cost_table

PARQUET, PAGE = "trials.parquet", "index.html"


def write_all(results: Results, folder: Path) -> list[Path]:
    """Write tables and figures into `folder`; what was written."""
    paths = write_tables(results, folder)
    images = {"pareto": pareto, published_points(results.study.table).stem: comparison}
    if results.is_search:
        images |= {"hypervolume": hypervolume_over_trials}
    for stem, draw in images.items():
        files = [folder / f"{stem}.png", folder / f"{stem}{VECTOR}"]
        save(draw(results), *files)
        paths += files
    return [*paths, _text(page(page_content(results)), folder / PAGE)]


def write_tables(results: Results, folder: Path) -> list[Path]:
    """As `write`, without the figures: of the same ledger the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [*_trials(results, folder), *_table(results, folder), *_comparisons(results, folder)]
    if results.timed:
        paths.append(_csv(inference_table(results), folder / "inference.csv"))
    return paths + (_search(results, folder) if results.is_search else [])


def _trials(results: Results, folder: Path) -> list[Path]:
    """Every trial, for people and for programs, and what its columns are."""
    table = typed(trial_table(results))
    known = dictionary(table)
    written = [
        _csv(table, folder / "trials.csv"),
        _csv(known, folder / "dictionary.csv"),
        _text(f"# Columns of trials.csv and trials.parquet\n\n{markdown(known)}", folder / "dictionary.md"),
    ]
    path = folder / PARQUET
    unfinished = path.with_suffix(".parquet.tmp")
    table.to_parquet(unfinished, index=False)
    return [*written, unfinished.replace(path)]


def _comparisons(results: Results, folder: Path) -> list[Path]:
    """Of an ablation with two rows or more: which differences are shown."""
    if results.is_search:
        return []  # of thousands of networks there would be millions of pairs
    table = comparison_table(results)
    if table.empty:
        return []
    title = results.study.title or "Comparisons"
    text = f"# {title}\n\n{comparison_caption(results)}\n\n{markdown(comparison_text(table))}"
    return [
        _csv(table, folder / "comparisons.csv"),
        _text(text, folder / "comparisons.md"),
        _text(comparison_tex(results), folder / "comparisons.tex"),
    ]


def _search(results: Results, folder: Path) -> list[Path]:
    """What only a search has: its networks looked at again, and what proxies would have said."""
    confirmed, proxies = confirmed_table(results), zero_cost_table(results)
    paths = []
    if len(confirmed):
        text = f"# {results.study.title or 'Confirmed'}\n\n{rank_agreement(confirmed)}\n\n{markdown(confirmed)}"
        paths += [_csv(confirmed, folder / "confirmed.csv"), _text(text, folder / "confirmed.md")]
        paths.append(_text(confirmed_tex(results), folder / "confirmed.tex"))
    if len(proxies):
        paths.append(_csv(proxies, folder / "zero_cost.csv"))
    return paths


def _table(results: Results, folder: Path) -> list[Path]:
    """The table of the paper that the study is about, or else that of its networks."""
    number = results.study.table
    table = paper_table(results) if number else network_table(results)
    name = f"table{number}" if number else "networks"
    title = results.study.title or name
    text = f"# {title}\n\n{caption(results)}\n\n{markdown(table)}"
    tex = paper_tex(results) if number else network_tex(results)
    return [_csv(table, folder / f"{name}.csv"), _text(text, folder / f"{name}.md"), _text(tex, folder / f"{name}.tex")]


def _csv(table: pd.DataFrame, path: Path) -> Path:
    return _text(csv(table), path)


def _text(text: str, path: Path) -> Path:
    """Written beside, then renamed."""
    unfinished = path.with_suffix(path.suffix + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return path
