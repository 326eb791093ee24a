"""Comparisons of an ablation: the reference of each row, tables and captions."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from hiri_search.report.tables.ablation import (
    best_row,
    comparison_caption,
    comparison_table,
    comparison_text,
    comparisons,
)
from hiri_search.report.tables.networks import caption, network_table, paper_table
from hiri_search.report.tables.results import Results
from hiri_search.training.score import CLASSIFICATION
from tests.report.examples import example_results, example_study

TOP1 = {  # of three seeds each
    "1": [70.0, 71.0, 72.4],
    "2": [70.3, 70.9, 72.6],
    "3": [80.1, 81.0, 82.2],
}


def _trial(number: int, name: str, seed: int, top1: float, state: str = "finished") -> dict[str, Any]:
    facts = {"trial": number, "name": name, "key": name, "spec": name, "side": 448, "seed": seed, "state": state}
    costs = {"params": 30_000_000, "macs": 4_000_000_000, "by_part": {}, "trained_spec": name, "trained_side": 448}
    return {**facts, **costs, "top1": top1, "curve": [top1], "ema_curve": []}


# The settings that the caption leaves out are off.
RECIPE = {"epochs": 5, "lr": 1e-3, "batch": 16, "warmup_epochs": 0, "weight_decay": 0, "label_smoothing": 0, "crop": 1}


def study(top1: dict[str, list[float]], *, rows: dict[str, dict[str, Any]] | None = None, **keys: Any) -> Results:
    """Return the results of a ladder: top-1 by row and seed; `rows` and `keys` add to the study file."""
    trials = [_trial(0, name, seed, score) for name, scores in top1.items() for seed, score in enumerate(scores)]
    proxy = {"width": 1, "depth": 1, "side": 448}
    file = {"title": "Table 7: a ladder", "table": "7", "proxy": proxy, "recipe": RECIPE, "seeds": 3, **keys}
    return example_results(example_study({name: {} for name in top1} | (rows or {}), **file), trials)


def _pairs(results: Results) -> list[tuple[str, str, int]]:
    return [(comparison.row, comparison.against, comparison.family) for comparison in comparisons(results)]


def test_steps_compare_each_row_with_the_previous_row():
    assert _pairs(study(TOP1, compare="steps")) == [("2", "1", 2), ("3", "2", 2)]


def test_steps_compare_rows_of_the_same_curve():
    four = TOP1 | {"4": [60.0, 61.1, 62.0]}
    curves = {"1": "a", "2": "b", "3": "a", "4": "b"}
    results = study(four, compare="steps", rows={name: {"curve": curve} for name, curve in curves.items()})
    assert _pairs(results) == [("3", "1", 2), ("4", "2", 2)]


def test_the_default_compares_rows_with_the_best_row():
    """The correction is for all three pairs."""
    assert _pairs(study(TOP1)) == [("1", "3", 3), ("2", "3", 3)]


def test_rows_can_be_compared_with_a_named_row():
    assert _pairs(study(TOP1, compare="2")) == [("1", "2", 2), ("3", "2", 2)]


def test_a_row_that_is_only_counted_has_no_comparison():
    results = study(TOP1, compare="steps", rows={"4": {"train": False}})
    counted = [{**results.trials[0], "name": "4"}]
    assert _pairs(replace(results, counted=counted)) == [("2", "1", 2), ("3", "2", 2)]


def test_unfinished_trials_are_not_compared():
    results = study(TOP1, compare="steps")
    trials = [{**row, "state": "failed"} if row["name"] == "2" else row for row in results.trials]
    table = comparison_table(replace(results, trials=trials))
    assert list(table["verdict"]) == ["no seed in common, nothing to compare"] * 2


def test_the_table_has_verdicts_and_the_seeds_to_add():
    table = comparison_table(study(TOP1, compare="steps", table="")).set_index("network")
    assert list(table["shown"]) == [False, True]
    assert table.loc["3", "gain"] == pytest.approx(9.8333333)
    assert table.loc["3", "low_together"] < table.loc["3", "low"] < table.loc["3", "gain"] < table.loc["3", "high"]
    assert table.loc["3", "verdict"].startswith("better (3 seeds, p < 0.001 among 2")
    assert table.loc["2", "more_seeds"] > 0
    assert pd.isna(table.loc["3", "more_seeds"])
    assert "more seeds would show 0.5 points" in table.loc["2", "verdict"]
    assert (table["p_holm"] >= table["p"]).all()


def test_rows_are_one_sided_where_the_paper_states_a_direction():
    """Table 7 has 82.7, 82.9 and 82.9: the second row is better than the first, and the third ties with the second."""
    one, two = (comparison_table(study(TOP1, compare="steps", table=table)).set_index("network") for table in ("7", ""))
    assert list(one["alternative"]) == ["greater", "two-sided"]
    assert one.loc["2", "p"] == pytest.approx(two.loc["2", "p"] / 2)
    assert list(one["p_two_sided"]) == list(two["p"]) == list(two["p_two_sided"])
    assert one.loc["2", "verdict"].startswith("no difference shown at this budget (3 seeds, p = 0.191 among 2 ")
    assert ", one-sided)" in one.loc["2", "verdict"]
    assert ", one-sided)" not in one.loc["3", "verdict"]


def test_a_difference_in_the_other_direction_is_not_shown_but_said_with_its_two_sided_p():
    results = study({"1": [80.1, 81.0, 82.2], "2": [70.3, 70.9, 72.6], "3": [80.0, 81.0, 82.3]}, compare="1")
    table = comparison_table(results).set_index("network")
    assert not table.loc["2", "shown"]
    assert table.loc["2", "p"] > 0.99
    assert "in the other direction than stated (3 seeds, p = 1.000" in table.loc["2", "verdict"]
    assert table.loc["2", "verdict"].endswith("one-sided; two-sided p < 0.001 for this comparison alone)")
    assert "more seeds" not in table.loc["2", "verdict"]
    text = comparison_caption(results)
    assert "(one-sided: the direction of the paper's scores, stated before the training; 1 lies in the other" in text


def test_a_named_base_is_corrected_for_its_own_comparisons_and_bold_for_all_pairs():
    rows = TOP1 | {"4": [60.0, 61.1, 62.0]}
    results = study(rows, compare="3", table="")
    assert [comparison.family for comparison in comparisons(results)] == [3, 3, 3]
    assert "Holm's correction for 3 comparisons;" in comparison_caption(results)
    assert best_row(results) == best_row(study(rows, table="")) == "3"


def test_the_table_for_people_has_signs_and_intervals():
    cells = comparison_text(comparison_table(study(TOP1, compare="steps")), CLASSIFICATION.scores[0])
    assert list(cells["gain (points)"]) == ["+0.13", "+9.83"]
    assert " to +" in cells["95% interval"][1]


def test_one_seed_has_no_interval_and_the_texts_advise_three_seeds():
    results = study({name: scores[:1] for name, scores in TOP1.items()}, compare="steps")
    assert network_table(results)[["low", "high"]].isna().all(axis=None)
    assert all("write seeds: 3" in words for words in comparison_table(results)["verdict"])
    assert "write seeds: 3" in caption(study({name: scores[:1] for name, scores in TOP1.items()}, seeds=1))


def test_the_best_row_must_be_significantly_better_than_all_others():
    assert best_row(study(TOP1)) == "3"
    assert best_row(study({**TOP1, "4": [80.0, 81.2, 82.1]})) is None


def test_tables_have_students_interval_over_seeds():
    """70, 71 and 72.4 have mean 71.133 and standard deviation 1.2055; t with two degrees of freedom is 4.3027."""
    for table in (network_table(study(TOP1)), paper_table(study(TOP1))):
        assert (table["low"][0], table["high"][0]) == pytest.approx((68.14, 74.13), abs=0.005)


def test_the_caption_has_the_recipe_the_interval_and_the_rank_correlation():
    text = caption(study(TOP1))
    for part in (
        "AdamW, learning rate 0.001, batch 16, EMA 0.99)",
        "interval over 3 seeds",
        "tau with the paper's order over 3",
    ):
        assert part in text


def test_the_caption_has_the_learning_rate_of_each_width():
    """A network of timm has no stand-in, whose learning rate would be larger."""
    results = study(TOP1)
    trials = [{**row, "trained_width_divisor": 1 if row["name"] == "3" else 4} for row in results.trials]
    assert "AdamW, learning rate 0.001 or 0.002, batch 16" in caption(replace(results, trials=trials))


def test_the_caption_lists_rows_with_their_own_recipe():
    results = study(TOP1, rows={"3": {"recipe": RECIPE | {"distill_alpha": 0.5}}})
    assert "with their own recipe: 3 (distill_alpha 0.5)" in caption(results)


@pytest.mark.parametrize(
    ("compare", "text"),
    [
        (None, "compared with 3, which has the highest mean"),
        ("steps", "compared with the previous network of the same curve"),
        ("1", "Each network compared with 1:"),
    ],
)
def test_the_caption_of_comparisons_names_the_reference(compare: str | None, text: str):
    assert text in comparison_caption(study(TOP1, **({"compare": compare} if compare else {})))


def test_without_pairs_the_table_is_empty():
    for results in (study({"1": []}), study({"1": [70.0, 71.0]})):
        assert comparison_table(results).empty
        assert comparison_caption(results)
