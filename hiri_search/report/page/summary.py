"""Summary cards at the top of the page."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from hiri_search.report.tables.ablation import best_row
from hiri_search.report.tables.results import Results
from hiri_search.study.plan.plan import duration
from hiri_search.training.score import TEST, Score

Card = dict[str, str]  # label, value, detail
DASH = "-"


def summary_cards(results: Results, table: pd.DataFrame) -> list[Card]:
    """Return the cards at the top of the page; `table` is `main_table`."""
    return [_best_card(results, table), _front_card(table, results.score), _trials_card(results), _time_card(results)]


def _card(label: str, value: str, detail: str) -> Card:
    return {"label": label, "value": value, "detail": detail}


def _best_card(results: Results, table: pd.DataFrame) -> Card:
    score = results.score
    scored, label = table.dropna(subset=[score.name]), f"Best {score.label}"
    if scored.empty:
        return _card(label, DASH, "no trial has finished")
    if score.split == "test":
        return _test_card(results, scored.set_index("name"))
    best = scored.sort_values(score.name, ascending=not score.up, kind="stable").iloc[0]
    return _card(label, score.text(best[score.name]), f"{best['name']}{_significance(results, scored)}")


def _test_card(results: Results, scored: pd.DataFrame) -> Card:
    """Show the test score of the network that validation chooses: the best of many test scores would be too good."""
    score, validated = results.score, results.score.name.removeprefix(TEST)
    rows = [row for row in results.first_trainings if row["name"] in scored.index and row["state"] == "finished"]
    means = pd.DataFrame(rows).groupby("name", sort=False)[validated].mean()
    name = str(means.idxmax() if score.up else means.idxmin())
    text = score.text(float(scored[score.name][name]))
    return _card(f"Best network: {score.label}", text, f"{name}, chosen by validation")


def _significance(results: Results, scored: pd.DataFrame) -> str:
    """Say whether the best network is significantly better; empty if this cannot be tested."""
    if len(scored) < 2 or scored["seeds"].max() < 2 or results.is_search:
        return ""
    is_clear = best_row(results) is not None
    return "; significantly better than every other" if is_clear else "; not significantly better than all others"


def _front_card(table: pd.DataFrame, score: Score) -> Card:
    """Count the networks on the Pareto front, with their range of GFLOPs."""
    members = table[table["front"]]
    if members.empty:
        return _card("On the Pareto front", DASH, f"of {score.label} and GFLOPs")
    low, high = members["gflops"].min(), members["gflops"].max()
    span = f"{low:.3g} GFLOPs" if len(members) == 1 else f"{low:.3g} to {high:.3g} GFLOPs"
    return _card("On the Pareto front", f"{len(members):,} of {table[score.name].notna().sum():,}", span)


def _trials_card(results: Results) -> Card:
    counts = Counter(str(row["state"]) for row in results.all_trials)
    others = ", ".join(f"{number:,} {state}" for state, number in counts.most_common() if state != "finished")
    is_one = results.seeds_text == "1 seed"
    detail = "one seed: the spread is unknown" if is_one else f"{results.seeds_text} for each network"
    return _card("Trials finished", f"{counts['finished']:,} of {counts.total():,}", others or detail)


def _time_card(results: Results) -> Card:
    seconds = sum(float(row.get("seconds") or 0) for row in results.all_trials)
    epochs = sum(int(row.get("epochs") or 0) for row in results.all_trials)
    return _card("Training time", duration(seconds), f"{epochs:,} epochs in all trials")
