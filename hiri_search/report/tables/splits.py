"""Validation against test scores of the networks of a search: how far the choice flatters what it chose."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiri_search.cost.pareto import pareto_mask
from hiri_search.report.tables.results import Results, finished_rows
from hiri_search.system.units import GIGA


def split_table(results: Results) -> pd.DataFrame:
    """Return the networks on the front of GFLOPs and validation score, cheapest first, with validation and test score.

    Scores are those of the short trainings; `difference` is test minus validation. Empty without test images, and for
    an ablation.
    """
    table = _both_scores(results)
    if table.empty:
        return pd.DataFrame()
    digits = results.score.digits
    front = table[table["front"]].drop(columns="front").sort_values("gflops", kind="stable").reset_index()
    return front.round({"gflops": 3} | dict.fromkeys((*_names(results), "difference"), digits))


def split_sentence(results: Results) -> str:
    """Say the mean difference on the front and over all trained networks; empty where there is no table."""
    table = _both_scores(results)
    if table.empty:
        return ""
    score, front = results.score, table[table["front"]]
    on_front, of_all = front["difference"].mean(), table["difference"].mean()
    values = [
        f"{value:+.{score.digits}f} {score.difference_unit}".rstrip() for value in (on_front, of_all, on_front - of_all)
    ]
    return (
        f"Mean {results.study.headline.label} on the test images less that on the validation images:"
        f" {values[0]} for the {len(front)} networks on the front that validation chose, {values[1]} for all"
        f" {len(table)} trained networks; {values[2]} is what the choice flattered (the winner's curse)."
    )


def _names(results: Results) -> tuple[str, str]:
    """Return the names of the validation score and the test score."""
    return results.study.headline.name, results.score.name


def _both_scores(results: Results) -> pd.DataFrame:
    """Return GFLOPs, both scores, their difference and `front` of each network with a finished training, by name."""
    rows = pd.DataFrame(finished_rows(results.first_trainings) if results.is_search and results.has_test else [])
    if rows.empty:
        return rows
    val, test = _names(results)
    table = rows.groupby("name", sort=False).agg({"macs": "first", val: "mean", test: "mean"}).dropna()
    losses = np.column_stack([results.score.loss_sign * table[val], table["macs"]])
    return pd.DataFrame(
        {
            "gflops": table["macs"] / GIGA,
            val: table[val],
            test: table[test],
            "difference": table[test] - table[val],
            "front": pareto_mask(losses),
        }
    )
