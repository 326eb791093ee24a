"""Two folders side by side, from made-up rows of their ledgers."""

from typing import Any

import pytest

from hiri_search.report.compare_runs import as_text, side_by_side
from hiri_search.report.tables.results import Results
from tests.report.examples import example_results, example_study

STUDY = example_study(["one"])


def _trial(name: str, key: str, seed: int, top1: float, state: str = "finished", **more: Any) -> dict[str, Any]:
    costs = {"params": 10**6, "macs": 10**9}
    return {"name": name, "key": key, "side": 64, "seed": seed, "state": state, "top1": top1, **costs, **more}


def _results(*trials: dict[str, Any]) -> Results:
    return example_results(STUDY, trials)


def test_networks_meet_by_key_and_differ_over_the_seeds_that_both_have():
    a = _results(*(_trial("one", "k", seed, 40.0 + seed) for seed in range(3)), _trial("mine", "m", 0, 1.0))
    b = _results(*(_trial("uno", "k", seed, 42.0 + 2 * seed) for seed in (1, 2, 3)), _trial("theirs", "t", 0, 1.0))
    found = side_by_side(a, b)
    (row,) = found.table.to_dict("records")
    assert (row["network"], row["seeds"], row["top1_a"], row["top1_b"]) == ("one", 2, 41.5, 45.0)
    assert row["difference"] == pytest.approx(3.5)
    assert row["low"] < 3.5 < row["high"]
    assert (found.only_a, found.only_b) == (("mine",), ("theirs",))


def test_only_finished_trials_count_and_without_a_shared_seed_nothing_is_said():
    found = side_by_side(_results(_trial("one", "k", 0, 40.0)), _results(_trial("one", "k", 0, 41.0, state="failed")))
    (row,) = found.table.to_dict("records")
    assert row["seeds"] == 0
    assert row["difference"] != row["difference"] or row["difference"] is None
    assert "nothing to compare" in row["says"]


def test_rows_of_one_network_meet_by_name():
    """Such as those of two recipes; and a second look meets a second look."""
    rows = [_trial("plain", "k", 0, 40.0), _trial("distilled", "k", 0, 44.0), _trial("lone", "l", 0, 1.0)]
    longer = _trial("lone", "l", 0, 3.0, confirm_epochs=8)
    found = side_by_side(_results(*rows, longer), _results(*reversed(rows), longer))
    assert list(found.table["network"]) == ["plain", "distilled", "lone", "lone (8 epochs)"]
    assert list(found.table["difference"]) == [0.0] * 4


def test_costs_that_were_counted_otherwise_are_shown():
    found = side_by_side(_results(_trial("one", "k", 0, 4.0)), _results({**_trial("one", "k", 0, 4.0), "macs": 5}))
    assert not found.table["same_costs"][0]
    assert "same_costs" in as_text(found, ("a", "b"), [])


def test_as_text_it_says_what_changed():
    found = side_by_side(_results(_trial("one", "k", 0, 4.0)), _results(_trial("one", "k", 0, 5.0)))
    shown = as_text(found, ("a", "b"), [("study", "recipe.lr: 1 -> 2")])
    assert "- study: recipe.lr: 1 -> 2" in shown
    assert "| one" in shown
    assert "nothing that the ledgers tell of" in as_text(found, ("a", "b"), [])


def test_folders_with_nothing_in_common_are_said_to_have_nothing():
    found = side_by_side(_results(_trial("one", "k", 0, 4.0)), _results(_trial("two", "l", 0, 5.0)))
    assert "No network is in both." in as_text(found, ("a", "b"), [])
