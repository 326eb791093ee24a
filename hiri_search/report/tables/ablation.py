"""Pairwise comparisons of an ablation's rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import pandas as pd

from hiri_search.report.tables.results import Results
from hiri_search.stats.significance import (
    LEVEL,
    Comparison,
    Scale,
    Scores,
    against_best,
    clear_best,
    compare_pairs,
    in_words,
)
from hiri_search.training.score import Score

COMPARISON_COLUMNS = (
    *("network", "against", "seeds", "gain", "low", "high", "low_together", "high_together"),
    *("p", "p_holm", "shown", "more_seeds", "verdict"),
)
BEST = "best"


def seed_scores(results: Results) -> Scores:
    """Return the score of the finished trials without confirmations, by network and seed, in the study's order."""
    names = dict.fromkeys(row["name"] for row in (*results.counted, *results.first_trainings))
    rows = [name for name in results.rows if name in names]
    scores: dict[str, dict[int, float]] = {name: {} for name in (*rows, *names)}
    for row in results.first_trainings:
        if row["state"] == "finished" and (score := row.get(results.score.name)) is not None:
            scores[row["name"]][row["seed"]] = score
    return scores


def scale_of(score: Score) -> Scale:
    """Return what differences of a score mean."""
    return Scale(score.up, score.worthwhile, score.difference_unit)


def comparison_mode(results: Results) -> str:
    """Return the reference of the study's comparisons: `best`, `steps`, or the name of a row."""
    return results.study.compare


@lru_cache(1)  # seven parts of a report need the comparisons
def comparisons(results: Results) -> list[Comparison]:
    """Compare each trained row of an ablation with the reference that the study's `compare` names."""
    if results.is_search:  # one seed, and too many pairs of networks
        return []
    trained = {row["name"] for row in results.first_trainings}
    scores = {name: by_seed for name, by_seed in seed_scores(results).items() if name in trained}
    scale = scale_of(results.score)
    match comparison_mode(results):
        case "best":
            return against_best(scores, scale)
        case "steps":
            return compare_pairs([(row, previous) for previous, row in _steps(results, list(scores))], scores, scale)
        case reference:
            return compare_pairs([(name, reference) for name in scores if name != reference], scores, scale)


def _steps(results: Results, names: list[str]) -> list[tuple[str, str]]:
    """Return pairs of rows: each row and the next row of the same curve."""
    rows = results.rows
    curves: dict[str, list[str]] = {}
    for name in names:
        curves.setdefault(rows[name].curve if name in rows else "", []).append(name)
    return [pair for curve in curves.values() for pair in pairwise(curve)]


@lru_cache(1)
def best_row(results: Results) -> str | None:
    """Return the row that is significantly better than every other row, or None; independent of `compare`."""
    if results.is_search:
        return None
    scores = {name: by_seed for name, by_seed in seed_scores(results).items() if by_seed}
    return clear_best(scores, scale_of(results.score))


def comparison_table(results: Results) -> pd.DataFrame:
    """Return one row for each comparison: gain, intervals, p, and the verdict in words.

    `low` and `high` are the confidence interval of this comparison alone, `low_together` and `high_together` the joint
    interval of all comparisons. `shown` depends on `p_holm` only.
    """
    lines = [_line(comparison) for comparison in comparisons(results)]
    return pd.DataFrame(lines, columns=list(COMPARISON_COLUMNS)).astype({"more_seeds": "Int64"})


def _line(comparison: Comparison) -> dict[str, object]:
    alone, together = comparison.interval, comparison.simultaneous_interval
    return {
        "network": comparison.row,
        "against": comparison.against,
        "seeds": comparison.seeds,
        "gain": comparison.gain,
        "low": alone and alone.low,
        "high": alone and alone.high,
        "low_together": together and together.low,
        "high_together": together and together.high,
        "p": comparison.p,
        "p_holm": comparison.p_holm,
        "shown": comparison.significant,
        "more_seeds": None if comparison.significant else comparison.more_seeds,
        "verdict": in_words(comparison),
    }


def comparison_caption(results: Results) -> str:
    """Return the caption: the reference, the test and its correction."""
    compared = comparisons(results)
    reference, gain = _reference(results, compared), f"gain of {results.score.label}{_in_unit(results.score)}"
    subject = f"Each network compared with {reference}: {gain}, paired by seed"
    if all(comparison.p is None for comparison in compared):
        return f"{subject}. Too few seeds or no spread: nothing could be tested, and no difference is shown."
    family = max(comparison.family for comparison in compared)
    all_pairs = comparison_mode(results) == BEST and family > 1
    reason = " (all pairs, because the same numbers decide which network is best)" if all_pairs else ""
    return (
        f"{subject}, with Student's {LEVEL:.0%} interval of each gain alone. p from the paired t-test, with"
        f" Holm's correction for {family} comparison{'s' * (family > 1)}{reason}; a difference is shown if p is at"
        f" most {1 - LEVEL:.2f}. Intervals and p describe other seeds, not other images."
    )


def _in_unit(score: Score) -> str:
    return (f" in {score.difference_unit}" if score.difference_unit else "") + ("" if score.up else " (less is better)")


def gain_head(score: Score) -> str:
    """Return the head of a column of gains: `gain (points)`."""
    return f"gain ({score.difference_unit})" if score.difference_unit else "gain"


def _reference(results: Results, compared: Sequence[Comparison]) -> str:
    match comparison_mode(results):
        case "best":
            extreme = "highest" if results.score.up else "lowest"
            return f"{compared[0].against}, which has the {extreme} mean" if compared else f"the {extreme} mean"
        case "steps":
            return "the previous network of the same curve"
        case reference:
            return reference


def comparison_text(table: pd.DataFrame, score: Score) -> pd.DataFrame:
    """Return the columns of `comparison_table` for people, rounded."""
    signed = f"{{:+.{score.digits}f}}".format
    interval = [
        "-" if pd.isna(low) else f"{signed(low)} to {signed(high)}"
        for low, high in zip(table["low"], table["high"], strict=True)
    ]
    return pd.DataFrame(
        {
            "network": table["network"],
            "against": table["against"],
            gain_head(score): table["gain"].map(signed, na_action="ignore"),
            f"{LEVEL:.0%} interval": interval,
            "what is shown": table["verdict"],
        }
    )
