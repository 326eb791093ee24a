"""Summary cards at the top of the page."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from hiri_search.report.tables.ablation import best_row
from hiri_search.report.tables.results import Results

Card = dict[str, str]  # label, value, detail
DASH = "-"
_HOUR, _MINUTE = 3600, 60


def summary_cards(results: Results, table: pd.DataFrame) -> list[Card]:
    """The cards on top of the page."""
    return [_best(results, table), _front(results, table), _trials(results), _time(results)]


def _card(label: str, value: str, detail: str) -> Card:
    return {"label": label, "value": value, "detail": detail}


def _best(results: Results, table: pd.DataFrame) -> Card:
    """Whether it is more than luck is said beside it."""
    known = table.dropna(subset=["top1"])
    if known.empty:
        return _card("Best top-1", DASH, "no trial has finished")
    best = known.sort_values("top1", ascending=False, kind="stable").iloc[0]
    return _card("Best top-1", f"{best['top1']:.2f} %", f"{best['name']}{_how_sure(results, known)}")


def _how_sure(results: Results, known: pd.DataFrame) -> str:
    """Nothing where it cannot be tested: one seed, or one network."""
    if len(known) < 2 or known["seeds"].max() < 2 or results.is_search:
        return ""
    return "; shown to be better than every other" if best_row(results) else "; not shown to be better than all others"


def _front(results: Results, table: pd.DataFrame) -> Card:
    """How many networks nothing beats, and from where to where they go."""
    members = table[table["front"]]
    if members.empty:
        return _card("On the front", DASH, "of top-1 against GFLOPs")
    low, high = members["gflops"].min(), members["gflops"].max()
    span = f"{low:.2f} GFLOPs" if len(members) == 1 else f"{low:.2f} to {high:.2f} GFLOPs"
    return _card("On the front", f"{len(members):,} of {table['top1'].notna().sum():,}", span)


def _trials(results: Results) -> Card:
    counts = Counter(str(row["state"]) for row in results.trials)
    others = ", ".join(f"{number:,} {state}" for state, number in counts.most_common() if state != "finished")
    seeds = len(results.study.seeds)
    alone = "one seed: no spread is known" if seeds == 1 else f"{seeds} seeds for each network"
    return _card("Trials finished", f"{counts['finished']:,} of {counts.total():,}", others or alone)


def _time(results: Results) -> Card:
    seconds = sum(float(row.get("seconds") or 0) for row in results.trials)
    epochs = sum(int(row.get("epochs") or 0) for row in results.trials)
    return _card("Spent in training", spent(seconds), f"{epochs:,} epochs, all trials together")


def spent(seconds: float) -> str:
    """`12 s`, `3 min`, `2.5 h`."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:,.1f} h"
