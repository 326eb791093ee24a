"""Pairwise comparisons of an ablation's rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import pandas as pd

from hiri_search.report.tables.results import Results
from hiri_search.stats.significance import LEVEL, Comparison, Scores, against_best, clear_best, compare_pairs, in_words

COMPARISON_COLUMNS = (
    *("network", "against", "seeds", "gain", "low", "high", "low_together", "high_together"),
    *("p", "p_holm", "shown", "more_seeds", "words"),
)
BEST = "best"


def seed_scores(results: Results) -> Scores:
    """Top-1 of the finished trials of the study's own recipe, by network and seed, in the study's order."""
    names = dict.fromkeys(row["name"] for row in (*results.counted, *results.first_trainings))
    rows = [name for name in results.rows if name in names]
    found: dict[str, dict[int, float]] = {name: {} for name in (*rows, *names)}
    for row in results.first_trainings:
        if row["state"] == "finished" and row["top1"] is not None:
            found[row["name"]][row["seed"]] = row["top1"]
    return found


def comparison_mode(results: Results) -> str:
    """What the study's rows are held against: `best`, `steps`, or a row's name."""
    return results.study.compare


@lru_cache(1)  # seven parts of a report ask
def comparisons(results: Results) -> list[Comparison]:
    """Each row of an ablation against what the study's `compare` says; rows that were never to be trained have none."""
    if results.is_search:  # one seed, and too many pairs of networks
        return []
    trained = {row["name"] for row in results.first_trainings}
    scores = {name: seeds for name, seeds in seed_scores(results).items() if name in trained}
    match comparison_mode(results):
        case "best":
            return against_best(scores)
        case "steps":
            return compare_pairs([(after, before) for before, after in _steps(results, list(scores))], scores)
        case reference:
            return compare_pairs([(name, reference) for name in scores if name != reference], scores)


def _steps(results: Results, names: list[str]) -> list[tuple[str, str]]:
    """Each row and the one behind it on its curve."""
    rows = results.rows
    curves: dict[str, list[str]] = {}
    for name in names:
        curves.setdefault(rows[name].curve if name in rows else "", []).append(name)
    return [pair for curve in curves.values() for pair in pairwise(curve)]


@lru_cache(1)
def best_row(results: Results) -> str | None:
    """The row that is shown to be better than every other one, whatever `compare` says; None where there is none."""
    return (
        None
        if results.is_search
        else clear_best({name: seeds for name, seeds in seed_scores(results).items() if seeds})
    )


def comparison_table(results: Results) -> pd.DataFrame:
    """One line for each comparison: gain in points of top-1, intervals, p, and the verdict in words.

    `low` and `high` are for this comparison alone, `low_together` and `high_together` for all at once; `p_holm` is what
    `shown` goes by.
    """
    return pd.DataFrame([_line(one) for one in comparisons(results)], columns=list(COMPARISON_COLUMNS)).astype(
        {"more_seeds": "Int64"}
    )


def _line(one: Comparison) -> dict[str, object]:
    alone, together = one.interval, one.simultaneous_interval
    return {
        "network": one.row,
        "against": one.against,
        "seeds": one.seeds,
        "gain": one.gain,
        "low": alone and alone.low,
        "high": alone and alone.high,
        "low_together": together and together.low,
        "high_together": together and together.high,
        "p": one.p,
        "p_holm": one.p_holm,
        "shown": one.significant,
        "more_seeds": None if one.significant else one.more_seeds,
        "words": in_words(one),
    }


def comparison_caption(results: Results) -> str:
    """What was held against what, and how."""
    found = comparisons(results)
    held = f"Each network against {_against(results, found)}: top-1 in points, paired by seed"
    if all(one.p is None for one in found):
        return f"{held}. None could be tested, for too few seeds or no spread: no difference is shown."
    family = max(one.family for one in found)
    chosen = comparison_mode(results) == BEST and family > 1
    counted = " (all pairs, as the best is chosen by the same numbers)" if chosen else ""
    return (
        f"{held}, with Student's {LEVEL:.0%} interval of each difference taken alone. p by the paired t-test, with"
        f" Holm's correction for {family} comparison{'s' * (family > 1)}{counted}; a difference is shown where p is at"
        f" most {1 - LEVEL:.2f}. Intervals and p tell of other seeds, not of other images."
    )


def _against(results: Results, found: Sequence[Comparison]) -> str:
    match comparison_mode(results):
        case "best":
            return f"{found[0].against}, which has the highest mean" if found else "the one with the highest mean"
        case "steps":
            return "the one before it in the study, of the same curve"
        case reference:
            return reference


def comparison_text(table: pd.DataFrame) -> pd.DataFrame:
    """The columns and digits of `comparison_table` that people read."""
    signed = "{:+.2f}".format
    interval = [
        "-" if pd.isna(low) else f"{signed(low)} to {signed(high)}"
        for low, high in zip(table["low"], table["high"], strict=True)
    ]
    return pd.DataFrame(
        {
            "network": table["network"],
            "against": table["against"],
            "gain (points)": table["gain"].map(signed, na_action="ignore"),
            f"{LEVEL:.0%} interval": interval,
            "what is shown": table["words"],
        }
    )
