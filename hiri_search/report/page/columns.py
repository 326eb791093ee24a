"""Columns of the page's main table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hiri_search.report.tables.curves import drawable
from hiri_search.report.tables.networks import front, network_table, paper_table
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import ZERO_COST_PREFIX
from hiri_search.system.units import GIB, GIGA, MEGA

DEFAULT_COST, SCORE = "gflops", "top1"  # of the front


@dataclass(frozen=True)
class Column:
    """A column, as it is shown."""

    key: str
    label: str
    about: str  # in a sentence
    digits: int | None = None  # behind the point; None: words
    shown: bool = True  # until somebody chooses otherwise
    best: str = ""  # max or min: which number is set off


TABLE_COLUMNS = (
    Column("name", "Network", "As the study calls it; of a search its spec."),
    Column("top1", "Top-1 %", "Mean over the seeds that have finished.", 2, best="max"),
    Column("spread", "± sd", "Standard deviation of top-1 over seeds, in points.", 2),
    Column("low", "95 % from", "Lower end of Student's 95 % interval of the mean.", 2, shown=False),
    Column("high", "95 % to", "Upper end of Student's 95 % interval of the mean.", 2, shown=False),
    Column("seeds", "Seeds", "Trials that have finished.", 0),
    Column("failed", "Failed", "Trials that have failed.", 0),
    Column("gflops", "GFLOPs", "Multiply-adds of one image, in 10⁹, counted on the modules.", 3),
    Column("paper_gflops", "paper's GFLOPs", "GFLOPs that the paper prints.", 1),
    Column("gflops_off", "GFLOPs off %", "Our GFLOPs over the paper's, less one.", 1),
    Column("params_m", "Params M", "Parameters in millions, counted on the modules.", 2),
    Column("paper_params_m", "paper's params", "Parameters that the paper prints, in millions.", 1),
    Column("params_off", "params off %", "Our parameters over the paper's, less one.", 1),
    Column("ms", "ms/image", "Measured inference of one image, in milliseconds.", 2),
    Column("rank", "Rank", "By mean top-1 of these trainings; 1 is best.", 0),
    Column("paper_rank", "paper's rank", "Rank by the Top-1 that the paper prints, among the same rows.", 0),
    Column("paper_top1", "paper's Top-1", "As printed: ImageNet-1K, 300 epochs. Compare orders, not values.", 1),
    Column("state", "State", "What became of its trials."),
    Column("epochs", "Epochs", "The most that one of its trials has told of.", 0, shown=False),
    Column(
        "so_far", "Top-1 so far", "At the last epoch there is, of trials that have not finished too.", 2, shown=False
    ),
    Column("ema_top1", "Top-1 EMA", "Of the averaged weights, mean over seeds.", 2, shown=False),
    Column("loss", "Loss", "Of the last epoch of training, mean over seeds.", 3, shown=False),
    Column("seconds", "Seconds", "Spent in training, all of its trials together.", 0, shown=False),
    Column("images_per_second", "Images/s", "Trained, mean over its trials.", 0, shown=False),
    Column("memory_gib", "Memory GiB", "Most that a training held on its card.", 2, shown=False),
    Column("side", "Side", "Pixels, at which it is counted and timed.", 0, shown=False),
    Column("trained_side", "Trained at", "Pixels, at which it is trained.", 0, shown=False),
    Column("curve", "Curve", "Points of one curve are joined.", shown=False),
    Column("paper_row", "Row of the paper", "What the paper's table calls it.", shown=False),
    Column("spec", "Spec", "In the language of networks.", shown=False),
    Column("trained_spec", "Trained spec", "The network that was trained for it.", shown=False),
    Column("key", "Key", "Short for its spec.", shown=False),
    Column("note", "Note", "Said in the study file."),
)
PAPER_VALUE_COLUMNS = ("paper_row", "paper_params_m", "paper_gflops", "paper_top1", "paper_rank", "rank")


def main_table(results: Results) -> pd.DataFrame:
    """A line for each network: what `network_table` has, what its trials say, and its row of the paper.

    `front` tells who is beaten by no other in both GFLOPs and top-1.
    """
    table = network_table(results).assign(curve=drawable(results)["curve"])
    table = table.set_index("name", drop=False).join(_by_network(results))
    if results.study.table:
        table = _beside_the_paper(table, results)
    table["ms"] = table["ms"].fillna(table.pop("ms_asked"))
    return table.assign(front=table.index.isin(front(table, DEFAULT_COST, SCORE).index)).reset_index(drop=True)


def scores_by_name(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Top-1 of the finished trials of each network."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["state"] == "finished" and row["top1"] is not None:
            found.setdefault(row["name"], []).append(row["top1"])
    return found


TRIAL_SUMMARY_COLUMNS = (
    *("name", "state", "epochs", "top1", "ema_top1", "loss", "seconds", "images_per_second", "peak_memory_bytes"),
    "ms_per_image",
)


def _by_network(results: Results) -> pd.DataFrame:
    """What the trials of each network come to together; proxies as they were scored."""
    proxies = sorted({name for row in results.first_trainings for name in row if name.startswith(ZERO_COST_PREFIX)})
    rows = pd.DataFrame(results.first_trainings, columns=[*TRIAL_SUMMARY_COLUMNS, *proxies])
    numbers = rows.drop(columns=["name", "state"]).astype(float)
    done = numbers.where(rows["state"] == "finished")
    columns = {
        "state": rows["state"].groupby(rows["name"]).agg(_states),
        "epochs": numbers["epochs"].groupby(rows["name"]).max(),
        "so_far": numbers["top1"].groupby(rows["name"]).mean(),
        "seconds": numbers["seconds"].groupby(rows["name"]).sum(),
        "memory_gib": numbers["peak_memory_bytes"].groupby(rows["name"]).max() / GIB,
        "ms_asked": numbers["ms_per_image"].groupby(rows["name"]).mean(),
        **{name: done[name].groupby(rows["name"]).mean() for name in ("ema_top1", "loss", "images_per_second")},
        **{name: numbers[name].groupby(rows["name"]).mean() for name in proxies},
    }
    return pd.DataFrame(columns)


def _states(states: pd.Series) -> str:
    """`finished`, or `1 finished, 2 failed`."""
    counts = Counter(states).most_common()
    return str(counts[0][0]) if len(counts) == 1 else ", ".join(f"{n} {state}" for state, n in counts)


def _beside_the_paper(table: pd.DataFrame, results: Results) -> pd.DataFrame:
    rows = paper_table(results).set_index("network")
    table = table.join(rows[list(PAPER_VALUE_COLUMNS)])
    for cost in ("gflops", "params"):
        ours, theirs = (f"{cost}_m", f"paper_{cost}_m") if cost == "params" else (cost, f"paper_{cost}")
        table[f"{cost}_off"] = 100 * (table[ours] / table[theirs] - 1)
    return table


def columns_of(table: pd.DataFrame) -> list[Column]:
    """The columns that say something here: in some line there is a number, or a word."""
    known = [column for column in TABLE_COLUMNS if column.key in table and _says_something(table[column.key], column)]
    return known + [
        Column(name, name.removeprefix(ZERO_COST_PREFIX), "A zero-cost proxy: a score without a training.", 2)
        for name in map(str, table)
        if name.startswith(ZERO_COST_PREFIX) and table[name].notna().any()
    ]


def _says_something(values: pd.Series, column: Column) -> bool:
    if column.key == "failed":
        return bool(values.any())
    if column.key == "state":
        return bool((values != "finished").any())
    return bool((values.notna() & (values != "")).any())


def parts_of(results: Results, names: Iterable[str]) -> list[dict[str, tuple[float, float]]]:
    """Params in millions and GFLOPs by part of each network; empty for those of older ledgers, which lack them."""
    known = {row["name"]: row.get("by_part") or {} for row in [*results.first_trainings, *results.counted]}
    return [
        {part: (params / MEGA, macs / GIGA) for part, (params, macs) in known.get(name, {}).items()} for name in names
    ]
