"""Order of networks: how well one score orders them as another does, and short trainings as confirmations do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.report.tables.results import Results, finished_rows, rung_curve
from hiri_search.stats.rank_correlation import kendall_tau, tau_beyond_cost
from hiri_search.system.units import GIGA

ORDER_COLUMNS = (
    *("networks", "tau", "low", "high", "tau_beyond_cost", "beyond_low", "beyond_high", "pairs", "of_like_cost"),
    "verdict",
)
SHORT_ORDER_COLUMNS = ("epochs", "after_epoch", "share", *ORDER_COLUMNS[:-1])


def order_columns(first: pd.Series, second: pd.Series, gflops: pd.Series) -> dict[str, Any]:
    """Return ORDER_COLUMNS of two scores of the same networks; those that are not defined are left out.

    `tau` is Kendall's over all networks, `tau_beyond_cost` over the `pairs` of like GFLOPs.
    """
    columns: dict[str, Any] = {"networks": len(first)}
    if tau := kendall_tau(first, second) if len(first) else None:
        columns |= {"tau": tau.value, "low": tau.low, "high": tau.high}
    if beyond := tau_beyond_cost(first, second, gflops[first.index]) if len(first) else None:
        columns |= {"tau_beyond_cost": beyond.value, "beyond_low": beyond.low, "beyond_high": beyond.high}
        columns |= {"pairs": beyond.pairs, "of_like_cost": beyond.items, "verdict": str(beyond.verdict)}
    return columns


def short_and_long(results: Results) -> pd.DataFrame:
    """Return GFLOPs, short and long score of each confirmed network, for each length of confirmation (`epochs`).

    The short score is the one on the validation images.
    """
    columns = ["name", "epochs", "macs", results.score.name]
    long = pd.DataFrame(finished_rows(results.confirmations), columns=columns).groupby(["epochs", "name"])
    short = pd.DataFrame(finished_rows(results.first_trainings), columns=["name", results.curve_score.name])
    means = short.groupby("name")[results.curve_score.name].mean()
    table = long.agg(gflops=("macs", "first"), long=(results.score.name, "mean")).reset_index()
    return table.assign(gflops=table["gflops"] / GIGA, short=table["name"].map(means))


def short_order_table(results: Results) -> pd.DataFrame:
    """Return one line for each epoch of the short trainings: how well it orders the networks as each confirmation does.

    `share` is the share of a short training's epochs. The scores are those that rungs compare: `rung_curve`.
    """
    return pd.DataFrame(list(_short_orders(results)), columns=list(SHORT_ORDER_COLUMNS)).round(3)


def _short_orders(results: Results) -> Iterator[dict[str, Any]]:
    epochs, sign = results.study.recipe.epochs, -results.score.loss_sign
    curves: dict[str, list[list[float]]] = {}
    for row in finished_rows(results.first_trainings):
        curves.setdefault(row["name"], []).append(list(rung_curve(row))[:epochs])
    for length, rows in short_and_long(results).groupby("epochs"):
        long, gflops = (rows.set_index("name")[column] for column in ("long", "gflops"))
        for epoch in range(1, epochs + 1):
            after = {name: float(np.mean([curve[epoch - 1] for curve in curves[name]])) for name in long.index}
            start = {"epochs": length, "after_epoch": epoch, "share": epoch / epochs}
            yield start | order_columns(sign * pd.Series(after), sign * long, gflops)
