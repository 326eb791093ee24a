"""Comparison of two results folders."""

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


def test_networks_are_matched_by_key_and_compared_over_shared_seeds():
    a = _results(*(_trial("one", "k", seed, 40.0 + seed) for seed in range(3)), _trial("mine", "m", 0, 1.0))
    b = _results(*(_trial("uno", "k", seed, 42.0 + 2 * seed) for seed in (1, 2, 3)), _trial("theirs", "t", 0, 1.0))
    compared = side_by_side(a, b)
    (row,) = compared.table.to_dict("records")
    assert (row["network"], row["seeds"], row["top1_a"], row["top1_b"]) == ("one", 2, 41.5, 45.0)
    assert row["difference"] == pytest.approx(3.5)
    assert row["low"] < 3.5 < row["high"]
    assert (compared.only_a, compared.only_b) == (("mine",), ("theirs",))


def test_only_finished_trials_count_and_without_a_shared_seed_there_is_no_comparison():
    compared = side_by_side(
        _results(_trial("one", "k", 0, 40.0)), _results(_trial("one", "k", 0, 41.0, state="failed"))
    )
    (row,) = compared.table.to_dict("records")
    assert row["seeds"] == 0
    assert row["difference"] != row["difference"] or row["difference"] is None
    assert "nothing to compare" in row["verdict"]


def test_rows_of_the_same_network_are_matched_by_name():
    """Two recipes may share a network; a confirmation is compared with a confirmation."""
    rows = [_trial("plain", "k", 0, 40.0), _trial("distilled", "k", 0, 44.0), _trial("lone", "l", 0, 1.0)]
    longer = _trial("lone", "l", 0, 3.0, confirm_epochs=8)
    compared = side_by_side(_results(*rows, longer), _results(*reversed(rows), longer))
    assert list(compared.table["network"]) == ["plain", "distilled", "lone", "lone (8 epochs)"]
    assert list(compared.table["difference"]) == [0.0] * 4


def test_different_costs_of_the_same_network_are_shown():
    compared = side_by_side(_results(_trial("one", "k", 0, 4.0)), _results({**_trial("one", "k", 0, 4.0), "macs": 5}))
    assert not compared.table["same_costs"][0]
    assert "same_costs" in as_text(compared, ("a", "b"), [])


def test_the_text_lists_the_changes():
    compared = side_by_side(_results(_trial("one", "k", 0, 4.0)), _results(_trial("one", "k", 0, 5.0)))
    shown = as_text(compared, ("a", "b"), [("study", "recipe.lr: 1 -> 2")])
    assert "- study: recipe.lr: 1 -> 2" in shown
    assert "| one" in shown
    assert "nothing that the ledgers record" in as_text(compared, ("a", "b"), [])


def test_folders_without_a_common_network_have_no_table():
    compared = side_by_side(_results(_trial("one", "k", 0, 4.0)), _results(_trial("two", "l", 0, 5.0)))
    assert "No network is in both." in as_text(compared, ("a", "b"), [])
