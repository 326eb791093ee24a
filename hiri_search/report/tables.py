"""What came out, as tables: every trial, and every network beside its row in the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.report.paper import published

PAPER_COLUMNS = ("params_m", "gflops", "top1")
MEGA, GIGA = 1e6, 1e9


@dataclass(frozen=True)
class Results:
    """What a ledger holds, as the report needs it."""

    about: Mapping[str, Any]  # the last "study" event
    trials: Sequence[Mapping[str, Any]]  # one flat row for each trial
    timed: Mapping[str, Mapping[str, Any]]  # by network key: ms, spread, batch, side, device


def trial_table(results: Results) -> pd.DataFrame:
    """One line for each trial; the curve is top-1 by epoch, separated by spaces."""
    table = pd.DataFrame(list(results.trials))
    if table.empty:
        return pd.DataFrame(columns=["trial", "name", "state"])
    return table.assign(curve=[" ".join(f"{top1:.2f}" for top1 in curve) for curve in table["curve"]])


def network_table(results: Results) -> pd.DataFrame:
    """One line for each network, in the study's order: cost, and the mean and spread of top-1 over seeds.

    Only finished trials count; `seeds` says how many there are, `failed` how many ended otherwise.
    """
    trials = pd.DataFrame(list(results.trials))
    if trials.empty:
        return pd.DataFrame(columns=["name", "key", "params_m", "gflops", "top1", "spread", "seeds", "failed", "ms"])
    done = trials[trials["state"] == "finished"].astype({"top1": float})
    first = trials.groupby("key", sort=False).first()
    scores = done.groupby("key")["top1"].agg(["mean", "std", "count"]).reindex(first.index)
    ms = [results.timed.get(key, {}).get("ms", np.nan) for key in first.index]
    table = pd.DataFrame(
        {
            "name": first["name"],
            "spec": first["spec"],
            "params_m": first["params"] / MEGA,
            "gflops": first["macs"] / GIGA,
            "top1": scores["mean"],
            "spread": scores["std"],
            "seeds": scores["count"].fillna(0).astype(int),
            "failed": trials[trials["state"] == "failed"].groupby("key").size().reindex(first.index, fill_value=0),
            "ms": ms,
        }
    )
    return table.reset_index()


def paper_table(results: Results) -> pd.DataFrame:
    """The networks of an ablation beside the paper's rows: both costs, both accuracies, both ranks.

    `rank` is by mean top-1 of the short trainings, `paper_rank` by the published Top-1 among the same rows; 1 is
    best and equals share the better rank. Nothing of ours is fitted to the paper; differences are shown as they are.
    """
    rows = results.about["rows"]
    ours = network_table(results).set_index("name").reindex(list(rows))
    theirs = published(results.about["table"])
    theirs = theirs.set_index(theirs.columns[0])
    labels = [row.get("paper") or name for name, row in rows.items()]
    beside = theirs.reindex(labels)[list(PAPER_COLUMNS)].set_axis(ours.index)
    table = pd.DataFrame(
        {
            "paper_row": labels,
            "params_m": ours["params_m"].round(3),
            "paper_params_m": beside["params_m"],
            "gflops": ours["gflops"].round(3),
            "paper_gflops": beside["gflops"],
            "top1": ours["top1"].round(2),
            "spread": ours["spread"].round(2),
            "seeds": ours["seeds"].fillna(0).astype(int),
            "rank": _rank(ours["top1"]),
            "paper_top1": beside["top1"],
            "paper_rank": _rank(beside["top1"]),
            "note": [row.get("note", "") for row in rows.values()],
            "spec": ours["spec"],
        }
    )
    table.index.name = theirs.index.name
    return table.reset_index()


def _rank(scores: pd.Series) -> pd.Series:
    return scores.rank(ascending=False, method="min").astype("Int64")


def front(table: pd.DataFrame, cost: str, gain: str) -> pd.DataFrame:
    """The rows no other row beats on both counts, cheapest first."""
    ordered = table.dropna(subset=[cost, gain]).sort_values([cost, gain], ascending=[True, False])
    return ordered[ordered[gain] > ordered[gain].cummax().shift(fill_value=-np.inf)]


def caption(results: Results) -> str:
    """What was counted, and what was really trained on what."""
    about = results.about
    file, pictures = about["file"], about["pictures"]
    counted, proxy, recipe = file["counted"], file["proxy"], file["recipe"]
    shrunk = [
        f"{name} divided by {proxy[key]}" for name, key in (("widths", "width"), ("depths", "depth")) if proxy[key] > 1
    ]
    stand_in = f"stand-ins ({', '.join(shrunk)})" if shrunk else "the networks themselves"
    chance = 100 / pictures["classes"]
    error = 100 * np.sqrt(0.25 / pictures["val"])
    text = (
        f"Params and GFLOPs (multiply-adds) are those of the networks at {counted['side']} pixels with"
        f" {counted['classes']} classes, counted on the modules. Top-1 is that of {stand_in} at {proxy['side']} pixels,"
        f" trained {recipe['epochs']} epochs on {pictures['train']} pictures of {file['data']['source']}"
        f" ({pictures['classes']} classes, chance {chance:.1f} %), on all {pictures['val']} validation pictures:"
        f" mean and standard deviation over {len(file['seeds'])} seed(s). One standard error from the number of"
        f" validation pictures alone is up to {error:.1f} points."
        f" Device: {about['device']}; profile {about['profile']}."
    )
    if skipped := pictures["skipped"]:
        text += f" {len(skipped)} unreadable pictures were left out."
    if results.about["table"]:
        text += (
            " The paper's Top-1 is that of ImageNet-1K after 300 epochs: compare orders, not values."
            " Params and GFLOPs differ from the paper's where they differ; nothing is fitted."
        )
    return text
