"""Everything a results folder shows, made from its ledger alone; can be deleted and made again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hiri_search.report.content import content
from hiri_search.report.figures import beside, comparison, hypervolume_over_trials, pareto, save
from hiri_search.report.formats import csv, markdown
from hiri_search.report.page import page
from hiri_search.report.search import believed, confirmed_table, proxy_table
from hiri_search.report.tables import Results, caption, inference_table, network_table, paper_table, trial_table


def write(results: Results, folder: Path) -> list[Path]:
    """Write tables and figures into `folder`; what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_csv(trial_table(results), folder / "trials.csv"), *_table(results, folder)]
    if results.timed:
        paths.append(_csv(inference_table(results), folder / "inference.csv"))
    pictures = {"pareto": pareto, beside(results.about["table"]).stem: comparison}
    if results.about["file"].get("space"):
        paths += _search(results, folder)
        pictures |= {"hypervolume": hypervolume_over_trials}
    for stem, draw in pictures.items():
        paths.append(folder / f"{stem}.png")
        save(draw(results), paths[-1])
    return [*paths, _text(page(content(results)), folder / "index.html")]


def _search(results: Results, folder: Path) -> list[Path]:
    """What only a search has: its networks looked at again, and what proxies would have said."""
    confirmed, proxies = confirmed_table(results), proxy_table(results)
    paths = []
    if len(confirmed):
        text = f"# {results.about['title'] or 'Confirmed'}\n\n{believed(confirmed)}\n\n{markdown(confirmed)}"
        paths += [_csv(confirmed, folder / "confirmed.csv"), _text(text, folder / "confirmed.md")]
    if len(proxies):
        paths.append(_csv(proxies, folder / "proxies.csv"))
    return paths


def _table(results: Results, folder: Path) -> list[Path]:
    """The table of the paper that the study is about, or else that of its networks."""
    number = results.about["table"]
    table = paper_table(results) if number else network_table(results)
    name = f"table{number}" if number else "networks"
    title = results.about["title"] or name
    text = f"# {title}\n\n{caption(results)}\n\n{markdown(table)}"
    return [_csv(table, folder / f"{name}.csv"), _text(text, folder / f"{name}.md")]


def _csv(table: pd.DataFrame, path: Path) -> Path:
    return _text(csv(table), path)


def _text(text: str, path: Path) -> Path:
    """Written beside, then renamed."""
    unfinished = path.with_suffix(path.suffix + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return path
