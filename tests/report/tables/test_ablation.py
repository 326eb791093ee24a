"""What a study's rows are held against, and what is said of it."""

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
from tests.report.examples import example_results, example_study

TOP1 = {  # of three seeds each
    "1": [70.0, 71.0, 72.4],
    "2": [70.3, 70.9, 72.6],
    "3": [80.1, 81.0, 82.2],
}


def _trial(number: int, name: str, seed: int, top1: float, state: str = "finished") -> dict[str, Any]:
    facts = {"trial": number, "name": name, "key": name, "spec": name, "side": 448, "seed": seed, "state": state}
    costs = {"params": 30_000_000, "macs": 4_000_000_000, "trained_spec": name, "trained_side": 448}
    return {**facts, **costs, "top1": top1, "curve": [top1]}


# The settings that the caption leaves out are off.
RECIPE = {"epochs": 5, "lr": 1e-3, "batch": 16, "warmup_epochs": 0, "weight_decay": 0, "label_smoothing": 0, "crop": 1}


def study(top1: dict[str, list[float]], *, rows: dict[str, dict[str, Any]] | None = None, **keys: Any) -> Results:
    """Return the results of a ladder: top-1 by row and seed; `rows` and `keys` add to the study file."""
    trials = [_trial(0, name, seed, score) for name, scores in top1.items() for seed, score in enumerate(scores)]
    proxy = {"width": 1, "depth": 1, "side": 448}
    file = {"title": "Table 7: a ladder", "table": "7", "proxy": proxy, "recipe": RECIPE, "seeds": 3, **keys}
    return example_results(example_study({name: {} for name in top1} | (rows or {}), **file), trials)


def _pairs(results: Results) -> list[tuple[str, str, int]]:
    return [(one.row, one.against, one.family) for one in comparisons(results)]


def test_a_ladder_is_held_against_the_row_before():
    assert _pairs(study(TOP1, compare="steps")) == [("2", "1", 2), ("3", "2", 2)]


def test_steps_stay_on_their_curve():
    four = TOP1 | {"4": [60.0, 61.1, 62.0]}
    curves = {"1": "a", "2": "b", "3": "a", "4": "b"}
    results = study(four, compare="steps", rows={name: {"curve": curve} for name, curve in curves.items()})
    assert _pairs(results) == [("3", "1", 2), ("4", "2", 2)]


def test_without_a_word_rows_are_held_against_the_best():
    """All three pairs count."""
    assert _pairs(study(TOP1)) == [("1", "3", 3), ("2", "3", 3)]


def test_a_row_can_be_what_all_others_are_held_against():
    assert _pairs(study(TOP1, compare="2")) == [("1", "2", 2), ("3", "2", 2)]


def test_a_row_that_is_only_counted_has_no_comparison():
    results = study(TOP1, compare="steps", rows={"4": {"train": False}})
    counted = [{**results.trials[0], "name": "4"}]
    assert _pairs(replace(results, counted=counted)) == [("2", "1", 2), ("3", "2", 2)]


def test_trials_that_have_not_finished_have_no_part():
    results = study(TOP1, compare="steps")
    trials = [{**row, "state": "failed"} if row["name"] == "2" else row for row in results.trials]
    found = comparison_table(replace(results, trials=trials))
    assert list(found["words"]) == ["no seed in common, nothing to compare"] * 2


def test_the_table_tells_what_is_shown_and_what_more_seeds_would_show():
    table = comparison_table(study(TOP1, compare="steps")).set_index("network")
    assert list(table["shown"]) == [False, True]
    assert table.loc["3", "gain"] == pytest.approx(9.8333333)
    assert table.loc["3", "low_together"] < table.loc["3", "low"] < table.loc["3", "gain"] < table.loc["3", "high"]
    assert table.loc["3", "words"].startswith("better (3 seeds, p < 0.001 among 2")
    assert table.loc["2", "more_seeds"] > 0
    assert pd.isna(table.loc["3", "more_seeds"])
    assert "more seeds would show 0.5 points" in table.loc["2", "words"]
    assert (table["p_holm"] >= table["p"]).all()


def test_what_people_read_has_signs_and_intervals():
    cells = comparison_text(comparison_table(study(TOP1, compare="steps")))
    assert list(cells["gain (points)"]) == ["+0.13", "+9.83"]
    assert " to +" in cells["95% interval"][1]


def test_one_seed_has_no_interval_and_words_say_what_to_write():
    results = study({name: scores[:1] for name, scores in TOP1.items()}, compare="steps")
    assert network_table(results)[["low", "high"]].isna().all(axis=None)
    assert all("write seeds: 3" in words for words in comparison_table(results)["words"])
    assert "write seeds: 3" in caption(study({name: scores[:1] for name, scores in TOP1.items()}, seeds=1))


def test_the_best_row_is_known_where_it_beats_all_others():
    assert best_row(study(TOP1)) == "3"
    assert best_row(study({**TOP1, "4": [80.0, 81.2, 82.1]})) is None


def test_tables_hold_students_interval_over_seeds():
    """Of 70, 71 and 72.4: mean 71.133, standard deviation 1.2055, t of two degrees of freedom 4.3027."""
    for table in (network_table(study(TOP1)), paper_table(study(TOP1))):
        assert (table["low"][0], table["high"][0]) == pytest.approx((68.14, 74.13), abs=0.005)


def test_captions_tell_the_recipe_the_interval_and_the_order():
    text = caption(study(TOP1))
    for part in (
        "AdamW, learning rate 0.001, batch 16, EMA 0.99)",
        "interval over 3 seeds",
        "tau with the paper's order over 3",
    ):
        assert part in text


def test_captions_tell_rows_with_a_recipe_of_their_own():
    results = study(TOP1, rows={"3": {"recipe": RECIPE | {"distill_alpha": 0.5}}})
    assert "recipe of their own: 3 (distill_alpha 0.5)" in caption(results)


@pytest.mark.parametrize(
    ("compare", "words"),
    [
        (None, "against 3, which has the highest mean"),
        ("steps", "against the one before it"),
        ("1", "Each network against 1:"),
    ],
)
def test_the_caption_of_comparisons_says_against_what(compare: str | None, words: str):
    assert words in comparison_caption(study(TOP1, **({"compare": compare} if compare else {})))


def test_nothing_to_compare_is_an_empty_table():
    for results in (study({"1": []}), study({"1": [70.0, 71.0]})):
        assert comparison_table(results).empty
        assert comparison_caption(results)
