"""Columns of the page's main table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from hiri_search.paper.published import paper_column, paper_training
from hiri_search.report.tables.curves import network_points
from hiri_search.report.tables.networks import front, network_table, paper_table
from hiri_search.report.tables.results import Results
from hiri_search.study.ledger.trial import STANDARD_ERROR, ZERO_COST_PREFIX
from hiri_search.system.units import GIB, GIGA, MEGA
from hiri_search.training.score import Score

DEFAULT_COST = "gflops"  # of the Pareto front


@dataclass(frozen=True)
class Column:
    """A column of the main table."""

    key: str
    label: str
    description: str  # one sentence: the tooltip
    digits: int | None = None  # decimals; None: text
    visible: bool = True  # at first; the reader can choose other columns
    best: str = ""  # max or min: the largest or smallest number is bold


NAME_COLUMN = Column("name", "Network", "Name in the study file; in a search, the spec.")
COLUMNS_OF_COSTS = (
    Column("setting", "Setting", "Values of the choices in the recipe, chosen on the validation images."),
    Column("seeds", "Seeds", "Number of finished trials.", 0),
    Column("failed", "Failed", "Number of failed trials.", 0),
    Column("gflops", "GFLOPs", "Multiply-adds of one image, in 10⁹, counted on the modules.", 3),
    Column("paper_gflops", "paper's GFLOPs", "GFLOPs in the paper.", 1),
    Column("gflops_off", "GFLOPs off %", "Relative difference of our GFLOPs from the paper's.", 1),
    Column("params_m", "Params M", "Parameters in millions, counted on the modules.", 2),
    Column("paper_params_m", "paper's params", "Parameters in the paper, in millions.", 1),
    Column("params_off", "params off %", "Relative difference of our parameters from the paper's.", 1),
    Column("ms", "ms/image", "Measured inference time of one image, in milliseconds.", 2),
    Column("rank", "Rank", "Rank by the mean score of these trainings; 1 is best.", 0),
)
COLUMNS_OF_FACTS = (
    Column("state", "State", "States of the trials."),
    Column("epochs", "Epochs", "Largest number of finished epochs of a trial.", 0, visible=False),
    Column("loss", "Loss", "Training loss of the last epoch, mean over seeds.", 3, visible=False),
    Column("seconds", "Seconds", "Training time, sum over trials.", 0, visible=False),
    Column("images_per_second", "Images/s", "Training throughput, mean over trials.", 0, visible=False),
    Column("images_per_joule", "Images/J", "Training images for each joule of the GPU, mean.", 2, visible=False),
    Column("memory_gib", "Memory GiB", "Peak GPU memory of a training.", 2, visible=False),
    Column("side", "Side", "Side in pixels at which the network is counted and timed.", 0, visible=False),
    Column("trained_side", "Trained at", "Side in pixels at which the network is trained.", 0, visible=False),
    Column("curve", "Curve", "Figures join the points of one curve.", visible=False),
    Column("paper_row", "Row of the paper", "Name in the paper's table.", visible=False),
    Column("spec", "Spec", "The network in the language of networks.", visible=False),
    Column("trained_spec", "Trained spec", "The trained network: the network itself or its stand-in.", visible=False),
    Column("key", "Key", "Hash of the network.", visible=False),
    Column("note", "Note", "Note in the study file."),
)
PAPER_VALUE_COLUMNS = ("paper_row", "paper_params_m", "paper_gflops", "paper_rank", "rank")


def _score_columns(results: Results) -> tuple[Column, ...]:
    """Return the columns of the score by which trials are judged."""
    score, so_far, ema = results.score, results.curve_score, results.ema_score
    digits, unit = score.digits, f", in {score.difference_unit}" if score.difference_unit else ""
    seeds, last = f"on the {score.images}, mean over the finished seeds", "after the last epoch so far"
    return (
        Column(score.name, score.head, _sentence(score.description, seeds), digits, best="max" if score.up else "min"),
        Column("spread", "± sd", f"Standard deviation of {score.label} over seeds{unit}.", digits),
        Column(
            STANDARD_ERROR,
            "± se",
            f"Standard error of {score.label} over the {score.images}, by a bootstrap{unit}.",
            digits,
        ),
        Column("low", "95 % from", "Lower end of Student's 95 % interval of the mean.", digits, visible=False),
        Column("high", "95 % to", "Upper end of Student's 95 % interval of the mean.", digits, visible=False),
        Column(
            *("so_far", f"{so_far.head} so far", _sentence(so_far.title, f"{last}, also of unfinished trials"), digits),
            visible=False,
        ),
        Column(ema.name, ema.head, _sentence(ema.description, seeds), digits, visible=False),
        *(
            Column(
                other.name,
                other.head,
                _sentence(other.description, seeds),
                other.digits,
                best="max" if other.up else "min",
            )
            for other in results.other_scores
        ),
    )


def _published_columns(results: Results) -> tuple[Column, ...]:
    """Return the columns of what the paper prints of the scores."""
    training, scores = paper_training(results.table_number), results.published_scores
    trained = f"{training.data}, {training.length}. Compare orders, not values."
    return (
        Column("paper_rank", "paper's rank", f"Rank by the paper's {scores[0].label}, among the same rows.", 0),
        *(
            Column(paper_column(score.name), f"paper's {score.title}", f"Published {score.label}: {trained}", 1)
            for score in scores
        ),
    )


def _sentence(*words: str) -> str:
    text = " ".join(words)
    return f"{text[:1].upper()}{text[1:]}."


def main_table(results: Results) -> pd.DataFrame:
    """Return one row for each network: `network_table`, a summary of its trials, and its row of the paper.

    `front` is true for networks on the Pareto front of GFLOPs and the score.
    """
    table = network_table(results).assign(curve=network_points(results)["curve"])
    table = table.set_index("name", drop=False).join(_by_network(results))
    if results.table_number:
        table = _with_paper(table, results)
    table["ms"] = table["ms"].fillna(table.pop("search_ms"))
    return table.assign(front=table.index.isin(front(table, DEFAULT_COST, results.score).index)).reset_index(drop=True)


def scores_by_name(rows: Iterable[Mapping[str, Any]], score: Score) -> dict[str, list[float]]:
    """Return the scores of the finished trials of each network."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["state"] == "finished" and (value := row.get(score.name)) is not None:
            scores.setdefault(row["name"], []).append(value)
    return scores


THROUGHPUTS = ("images_per_second", "images_per_joule")
TRIAL_SUMMARY_COLUMNS = (
    *("name", "state", "epochs", "loss", "seconds", *THROUGHPUTS, "peak_memory_bytes"),
    "ms_per_image",
)


def _by_network(results: Results) -> pd.DataFrame:
    """Return a summary of the trials of each network, with its zero-cost scores."""
    zero_cost = sorted({name for row in results.first_trainings for name in row if name.startswith(ZERO_COST_PREFIX)})
    ema, so_far = results.ema_score.name, results.curve_score.name
    rows = pd.DataFrame(results.first_trainings, columns=[*TRIAL_SUMMARY_COLUMNS, so_far, ema, *zero_cost])
    numbers = rows.drop(columns=["name", "state"]).astype(float)
    finished = numbers.where(rows["state"] == "finished")
    columns = {
        "state": rows["state"].groupby(rows["name"]).agg(_states),
        "epochs": numbers["epochs"].groupby(rows["name"]).max(),
        "so_far": numbers[so_far].groupby(rows["name"]).mean(),
        "seconds": numbers["seconds"].groupby(rows["name"]).sum(),
        "memory_gib": numbers["peak_memory_bytes"].groupby(rows["name"]).max() / GIB,
        "search_ms": numbers["ms_per_image"].groupby(rows["name"]).mean(),
        **{name: finished[name].groupby(rows["name"]).mean() for name in (ema, "loss", *THROUGHPUTS)},
        **{name: numbers[name].groupby(rows["name"]).mean() for name in zero_cost},
    }
    return pd.DataFrame(columns)


def _states(states: pd.Series) -> str:
    """Return `finished`, or `1 finished, 2 failed`."""
    counts = Counter(states).most_common()
    return str(counts[0][0]) if len(counts) == 1 else ", ".join(f"{n} {state}" for state, n in counts)


def _with_paper(table: pd.DataFrame, results: Results) -> pd.DataFrame:
    rows = paper_table(results).set_index("network")
    published = [paper_column(score.name) for score in results.published_scores]
    table = table.join(rows[[*PAPER_VALUE_COLUMNS, *published]])
    for cost in ("gflops", "params"):
        ours, theirs = (f"{cost}_m", f"paper_{cost}_m") if cost == "params" else (cost, f"paper_{cost}")
        table[f"{cost}_off"] = 100 * (table[ours] / table[theirs] - 1)
    return table


def columns_of(table: pd.DataFrame, results: Results) -> list[Column]:
    """Return the columns that are informative for this study, with one for each zero-cost score."""
    scores, published = _score_columns(results), _published_columns(results)
    columns = (NAME_COLUMN, *scores, *COLUMNS_OF_COSTS, *published, *COLUMNS_OF_FACTS)
    informative = [column for column in columns if column.key in table and _is_informative(table, column.key)]
    if table["side"].map(lambda side: isinstance(side, str)).any():  # 1600x1200
        informative = [replace(column, digits=None) if column.key == "side" else column for column in informative]
    return informative + [
        Column(name, name.removeprefix(ZERO_COST_PREFIX), "Zero-cost score of the untrained network.", 2)
        for name in map(str, table)
        if name.startswith(ZERO_COST_PREFIX) and table[name].notna().any()
    ]


def _is_informative(table: pd.DataFrame, key: str) -> bool:
    values = table[key]
    if key == "failed":
        return bool(values.any())
    if key == "state":
        return bool((values.dropna() != "finished").any())
    return bool((values.notna() & (values != "")).any())


def parts_of(results: Results, names: Iterable[str]) -> list[dict[str, tuple[float, float]]]:
    """Return params in millions and GFLOPs of each part of each network."""
    costs = {row["name"]: row["by_part"] for row in [*results.first_trainings, *results.counted]}
    return [{part: (params / MEGA, macs / GIGA) for part, (params, macs) in costs[name].items()} for name in names]
