"""Write every table, figure and the page of a results folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hiri_search.report.figures import VECTOR, comparison, hypervolume_over_trials, pareto, save
from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import page
from hiri_search.report.tables.ablation import comparison_caption, comparison_table, comparison_text
from hiri_search.report.tables.curves import published_points
from hiri_search.report.tables.data_dictionary import dictionary, with_numeric_columns
from hiri_search.report.tables.formats import csv, markdown
from hiri_search.report.tables.latex import comparison_tex, confirmed_tex, network_tex, paper_tex
from hiri_search.report.tables.networks import caption, inference_table, network_table, paper_table, trial_table
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import confirmed_table, rank_agreement, zero_cost_table

PARQUET, PAGE = "trials.parquet", "index.html"


def write_all(results: Results, folder: Path) -> list[Path]:
    """Write tables, figures and the page into `folder`, and return their paths."""
    paths = write_tables(results, folder)
    figures = {"pareto": pareto, published_points(results.study.table).stem: comparison}
    if results.is_search:
        figures |= {"hypervolume": hypervolume_over_trials}
    for stem, draw in figures.items():
        files = [folder / f"{stem}.png", folder / f"{stem}{VECTOR}"]
        save(draw(results), *files)
        paths += files
    return [*paths, _text(page(page_content(results)), folder / PAGE)]


def write_tables(results: Results, folder: Path) -> list[Path]:
    """Write the tables into `folder`, and return their paths; the same ledger gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [*_trials(results, folder), *_table(results, folder), *_comparisons(results, folder)]
    if results.timed:
        paths.append(_csv(inference_table(results), folder / "inference.csv"))
    return paths + (_search(results, folder) if results.is_search else [])


def _trials(results: Results, folder: Path) -> list[Path]:
    """Write every trial as CSV and Parquet, and the meaning of each column."""
    table = with_numeric_columns(trial_table(results))
    columns = dictionary(table)
    written = [
        _csv(table, folder / "trials.csv"),
        _csv(columns, folder / "dictionary.csv"),
        _text(f"# Columns of trials.csv and trials.parquet\n\n{markdown(columns)}", folder / "dictionary.md"),
    ]
    path = folder / PARQUET
    unfinished = path.with_suffix(".parquet.tmp")
    table.to_parquet(unfinished, index=False)
    return [*written, unfinished.replace(path)]


def _comparisons(results: Results, folder: Path) -> list[Path]:
    """Write the comparisons of an ablation; a search has too many pairs of networks."""
    if results.is_search:
        return []
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
    """Write the tables that only a search has: confirmed networks, and the quality of zero-cost scores."""
    confirmed, zero_cost = confirmed_table(results), zero_cost_table(results)
    paths = []
    if len(confirmed):
        text = f"# {results.study.title or 'Confirmed'}\n\n{rank_agreement(confirmed)}\n\n{markdown(confirmed)}"
        paths += [_csv(confirmed, folder / "confirmed.csv"), _text(text, folder / "confirmed.md")]
        paths.append(_text(confirmed_tex(results), folder / "confirmed.tex"))
    if len(zero_cost):
        paths.append(_csv(zero_cost, folder / "zero_cost.csv"))
    return paths


def _table(results: Results, folder: Path) -> list[Path]:
    """Write the networks next to the rows of the paper's table, or alone if the study names no table."""
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
    """Write a text file atomically."""
    unfinished = path.with_suffix(path.suffix + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return path
