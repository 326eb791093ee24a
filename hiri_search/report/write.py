"""Everything a results folder shows, made from its ledger alone; can be deleted and made again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hiri_search.report.figures import figure6, pareto, save
from hiri_search.report.tables import Results, caption, network_table, paper_table, trial_table


def write(results: Results, folder: Path) -> list[Path]:
    """Write tables and figures into `folder`; what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_csv(trial_table(results), folder / "trials.csv"), *_table(results, folder)]
    for name, draw in (("pareto.png", pareto), ("figure6.png", figure6)):
        save(draw(results), folder / name)
        paths.append(folder / name)
    return paths


def _table(results: Results, folder: Path) -> list[Path]:
    """The table of the paper that the study is about, or else that of its networks."""
    number = results.about["table"]
    table = paper_table(results) if number else network_table(results)
    name = f"table{number}" if number else "networks"
    title = results.about["title"] or name
    markdown = f"# {title}\n\n{caption(results)}\n\n{_markdown(table)}\n"
    return [_csv(table, folder / f"{name}.csv"), _text(markdown, folder / f"{name}.md")]


def _markdown(table: pd.DataFrame) -> str:
    shown = table.astype(object).where(table.notna(), "-")
    return str(shown.to_markdown(index=False, disable_numparse=True))


def _csv(table: pd.DataFrame, path: Path) -> Path:
    return _text(table.to_csv(index=False), path)


def _text(text: str, path: Path) -> Path:
    """Written beside, then renamed."""
    unfinished = path.with_suffix(path.suffix + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return path
