"""Validation against test scores of a search: the front that validation chose looks better on its own images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hiri_search.report.page.page_data import page_content
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.splits import split_sentence, split_table
from hiri_search.report.write import write_tables
from tests.report.examples import example_results, search_trial
from tests.report.tables.test_search import RESULTS, STUDY

# name: validation and test top-1, GFLOPs
NETWORKS = {"a": (40, 31, 1.0), "b": (30, 34, 2.0), "c": (50, 44, 3.0), "d": (45, 46, 4.0)}


def searched(networks: dict[str, tuple[float, float, float]]) -> Results:
    """Return a search with 40 test images whose networks have these scores; one training has failed."""
    rows = [search_trial(n, name, val, g, test_top1=test) for n, (name, (val, test, g)) in enumerate(networks.items())]
    rows.append({**rows[0], "trial": len(rows), "name": "failed", "state": "failed", "top1": None, "test_top1": None})
    results = example_results(STUDY, rows)
    return replace(results, started=replace(results.started, images=replace(results.started.images, test=40)))


def test_the_front_is_that_of_validation_scores():
    table = split_table(searched(NETWORKS))
    assert table.values.tolist() == [["a", 1.0, 40, 31, -9], ["c", 3.0, 50, 44, -6]]
    assert list(table) == ["name", "gflops", "top1", "test_top1", "difference"]


def test_the_sentence_compares_the_front_with_all_networks():
    text = split_sentence(searched(NETWORKS))
    assert "-7.50 points for the 2 networks on the front" in text
    assert "-2.50 points for all 4 trained networks" in text
    assert "-5.00 points is what the choice flattered" in text


def test_scores_of_chance_alone_show_the_winners_curse():
    """All networks are equally good: on other images, the front of 200 networks loses what it won by chance."""
    val, test = 50 + np.random.default_rng(0).normal(0, 3, size=(2, 200))
    table = split_table(searched({f"network {n}": (val[n], test[n], 1 + n % 50) for n in range(200)}))
    assert table["difference"].mean() < -3
    assert table["test_top1"].mean() == pytest.approx(50, abs=2)


def test_both_are_written_and_on_the_page(tmp_path: Path):
    results = searched(NETWORKS)
    write_tables(results, tmp_path)
    assert split_sentence(results) in (tmp_path / "val_test.md").read_text()
    assert (tmp_path / "val_test.csv").exists()
    assert page_content(results)["split_sentence"] == split_sentence(results)


def test_without_test_images_there_is_no_table(tmp_path: Path):
    write_tables(RESULTS, tmp_path)
    assert not (tmp_path / "val_test.csv").exists()
    assert split_sentence(RESULTS) == ""
