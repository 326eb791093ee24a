"""Pairwise comparisons of an ablation's rows, and the settings that these were trained at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import pandas as pd

from hiri_search.report.tables.results import Results
from hiri_search.stats.significance import LEVEL, Comparison, Scale, Scores, clear_best
from hiri_search.stats.verdicts import in_words
from hiri_search.study.search.comparison_design import BEST
from hiri_search.training.score import Score

COMPARISON_COLUMNS = (
    *("network", "against", "seeds", "gain", "low", "high", "low_together", "high_together"),
    *("alternative", "p", "p_two_sided", "p_holm", "shown", "more_seeds", "verdict"),
)
ALTERNATIVES = {1: "greater", -1: "less", 0: "two-sided"}  # by the sign that was stated; the words of scipy


def seed_scores(results: Results) -> Scores:
    """Return the score of the finished trials without confirmations, by network and seed, in the study's order.

    Seeds are in the order in which they were added.
    """
    names = dict.fromkeys(row["name"] for row in (*results.counted, *results.first_trainings))
    rows = [name for name in results.rows if name in names]
    scores: dict[str, dict[int, float]] = {name: {} for name in (*rows, *names)}
    for row in sorted(results.first_trainings, key=lambda row: _order(results).get(row["seed"], -1)):
        if row["state"] == "finished" and (score := row.get(results.score.name)) is not None:
            scores[row["name"]][row["seed"]] = score
    return scores


def _order(results: Results) -> dict[int, int]:
    """Return the place of each seed where a rule adds them; empty where their order means nothing."""
    rule = results.study.auto_seeds
    return {seed: place for place, seed in enumerate(rule.all_seeds)} if rule else {}


def scale_of(score: Score) -> Scale:
    """Return what differences of a score mean."""
    return Scale(score.up, score.worthwhile, score.difference_unit)


@lru_cache(1)  # seven parts of a report need the comparisons
def comparisons(results: Results) -> list[Comparison]:
    """Compare each trained row of an ablation with the reference that the study's `compare` names."""
    if results.is_search:  # one seed, and too many pairs of networks
        return []
    trained = {row["name"] for row in results.first_trainings}
    scores = {name: by_seed for name, by_seed in seed_scores(results).items() if name in trained}
    return results.design.compare(scores, scale_of(results.score))


@lru_cache(1)
def best_row(results: Results) -> str | None:
    """Return the row that is significantly better than every other row, or None; independent of `compare`."""
    if results.is_search:
        return None
    scores = {name: by_seed for name, by_seed in seed_scores(results).items() if by_seed}
    return clear_best(scores, scale_of(results.score), test=results.design.test_of(scores))


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
        "alternative": ALTERNATIVES[comparison.stated],
        "p": comparison.p,
        "p_two_sided": comparison.two_sided_p,
        "p_holm": comparison.p_holm,
        "shown": comparison.significant,
        "more_seeds": None if comparison.significant else comparison.more_seeds,
        "verdict": in_words(comparison),
    }


def comparison_caption(results: Results) -> str:
    """Return the caption: the reference, the test and its correction."""
    compared, design = comparisons(results), results.design
    reference, gain = _reference(results, compared), f"gain of {results.score.label}{_in_unit(results.score)}"
    subject = f"Each network compared with {reference}: {gain}, paired by seed"
    if all(comparison.p is None for comparison in compared):
        return f"{subject}. Too few seeds or no spread: nothing could be tested, and no difference is shown."
    family = max(comparison.family for comparison in compared)
    kind = "the" if design.test else "Student's"
    return (
        f"{subject}, with {kind} {LEVEL:.0%} interval of each gain alone."
        f" p from the paired t-test{_sides(compared)}, with"
        f" Holm's correction for {family} comparison{'s' * (family > 1)}{_reason(results, family)}; a difference is"
        f" shown if p is at most {1 - LEVEL:.2f}.{_added(results)} Intervals and p describe other seeds, not other"
        f" images.{_chosen(results)}"
    )


def settings_table(results: Results) -> pd.DataFrame:
    """Return one line for each setting of each row with choices in its recipe; `chosen` marks those that are reported.

    Scores are means over the finished seeds: first on the validation images, which choose. Empty without choices.
    """
    if (every := results.every_setting) is None:
        return pd.DataFrame()
    scores = [results.study.headline.name, results.score.name]
    trials = pd.DataFrame(every.first_trainings, columns=["name", "state", *scores]).astype(
        dict.fromkeys(scores, float)
    )
    lines = []
    for name, row in every.rows.items():
        if setting := row.setting:
            own = trials[trials["name"] == name]
            states, finished = Counter(own["state"]), own[own["state"] == "finished"]
            lines.append(
                {"network": setting.row, "setting": str(setting), **setting.values}
                | {score: finished[score].mean() for score in scores}
                | {f"{score}_spread": finished[score].std() for score in scores}
                | {state: states[state] for state in ("finished", "failed")}
                | {"chosen": results.rows[setting.row] == row}
            )
    return pd.DataFrame(lines)


def _reason(results: Results, family: int) -> str:
    """Say why the correction is for all pairs of rows."""
    if results.design.post_hoc:
        return " (all pairs, because `compare` was written when the rows had been trained)"
    is_best = results.study.compare == BEST and family > 1
    return " (all pairs, because the same numbers decide which network is best)" if is_best else ""


def _sides(compared: Sequence[Comparison]) -> str:
    """Say which comparisons are one-sided, and how many networks lie in the other direction."""
    stated = [comparison for comparison in compared if comparison.stated]
    if not stated:
        return ""
    which = "" if len(stated) == len(compared) else f" for {len(stated)} of {len(compared)}"
    opposite = sum(comparison.is_opposite for comparison in stated)
    other = f"; {opposite} lie{'s' * (opposite == 1)} in the other direction, with a two-sided p" if opposite else ""
    return f" (one-sided{which}: the direction of the paper's scores, stated before the training{other})"


def _added(results: Results) -> str:
    """Say how seeds were added, and that the tests are corrected for it."""
    rule = results.study.auto_seeds
    if rule is None:
        return ""
    limit = f" within {rule.minutes:g} minutes" if rule.minutes else ""
    return (
        f" Seeds were added{limit} to pairs that they might decide, from {len(rule.first)} to at most {rule.most},"
        " until each was shown or unlikely to be: intervals and p are corrected for a look after each seed."
    )


def _chosen(results: Results) -> str:
    """Say that the settings of the rows were chosen before the comparison."""
    if not results.recipe_options:
        return ""
    return (
        " Each network is at its best setting, which was chosen first, by the same trainings on other images:"
        " intervals and p leave this choice out."
    )


def _in_unit(score: Score) -> str:
    return (f" in {score.difference_unit}" if score.difference_unit else "") + ("" if score.up else " (less is better)")


def gain_head(score: Score) -> str:
    """Return the head of a column of gains: `gain (points)`."""
    return f"gain ({score.difference_unit})" if score.difference_unit else "gain"


def _reference(results: Results, compared: Sequence[Comparison]) -> str:
    match results.study.compare:
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
