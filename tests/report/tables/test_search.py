"""Tables of a search: hypervolume, zero-cost scores; its files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hiri_search.cost.pareto import hypervolume
from hiri_search.report.tables import search
from hiri_search.report.tables.search import volume_table, zero_cost_table
from hiri_search.report.write import write_all
from tests.report.examples import example_results, example_study, search_trial

STUDY = example_study(
    title="A search",
    space="hr(32 e=4)*1..3",
    search={"networks": 3, "sampler": "random", "objectives": ["top1", "gmacs"]},
    recipe={"epochs": 2},
)


SHORT = [
    search_trial(0, "a", 10, 1.0, zero_cost_zen=3.0),
    search_trial(1, "b", 20, 2.0, zero_cost_zen=2.0),
    search_trial(2, "c", 15, 3.0, zero_cost_zen=1.0),
    search_trial(3, "d", 30, 3.0, zero_cost_zen=None),
    search_trial(4, "e", 50, 4.0, state="stopped"),
]
LONG = [
    search_trial(number, name, top1, gmacs, epochs=8, confirms=first, seed=number % 2)
    for number, (name, first, top1, gmacs) in enumerate(
        [
            ("a", 0, 21, 1.0),
            ("a", 0, 23, 1.0),
            ("b", 1, 40, 2.0),
            ("b", 1, 44, 2.0),
            ("d", 3, 30, 3.0),
            ("d", 3, 34, 3.0),
        ],
        5,
    )
]
LOSSES = [(-trial["top1"], trial["macs"] / 1e9) for trial in SHORT if trial["state"] == "finished"]
RESULTS = example_results(STUDY, [*SHORT, *LONG], losses=LOSSES)


def test_the_hypervolume_grows_only_with_the_front():
    """Computed by hand: the reference is 8 % and 3.2 G; a, b and d add their boxes, c adds nothing."""
    areas = [2 * 2.2, 2 * 2.2 + 10 * 1.2, 2 * 2.2 + 10 * 1.2, 2 * 2.2 + 10 * 1.2 + 10 * 0.2]
    assert list(volume_table(RESULTS)["share"]) == pytest.approx([area / areas[-1] for area in areas])


def test_the_hypervolume_has_no_stopped_trials():
    assert len(volume_table(RESULTS)) == 4


def test_zero_cost_scores_are_compared_with_top1():
    table = zero_cost_table(RESULTS).set_index("score")
    assert table.loc["zen", "networks"] == 3
    assert table.loc["zen", "tau"] == pytest.approx(-1 / 3)
    assert table.loc["macs", "networks"] == 4


def test_seeds_of_a_network_are_no_networks_of_their_own():
    again = [{**trial, "trial": number, "seed": 1} for number, trial in enumerate(SHORT, 20)]
    twice = zero_cost_table(example_results(STUDY, [*SHORT, *again])).set_index("score")
    once = zero_cost_table(RESULTS).set_index("score")
    pd.testing.assert_frame_equal(twice, once)


def test_all_files_of_a_search_are_written(tmp_path: Path):
    names = {path.name for path in write_all(RESULTS, tmp_path).paths}
    assert {
        "confirmed.csv",
        "confirmed.md",
        "confirmed.tex",
        "orders.csv",
        "zero_cost.csv",
        "hypervolume.png",
        "pareto.png",
        "trials.csv",
    } <= names


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_incremental_hypervolume_is_exact(objectives: int):
    points = np.random.default_rng(0).integers(0, 9, (60, objectives)).astype(float)  # with ties
    table = volume_table(example_results(STUDY, [], losses=list(map(tuple, points))))
    reference = points.max(axis=0) + search.REFERENCE_MARGIN * (points.max(axis=0) - points.min(axis=0))
    expected = np.array([hypervolume(points[:count], list(reference)) for count in range(1, 61)])
    assert table["share"].to_numpy() == pytest.approx(expected / expected[-1])


def test_dominated_trials_need_no_hypervolume_computation(monkeypatch: pytest.MonkeyPatch):
    """Otherwise a study of 10,000 trials would take hours."""
    sizes: list[int] = []

    def counted(points: np.ndarray, reference: list[float]) -> float:
        sizes.append(len(points))
        return hypervolume(points, reference)

    monkeypatch.setattr(search, "hypervolume", counted)
    best, dominated = [(-50.0, 1.0), (-60.0, 2.0), (-70.0, 3.0)], [(-40.0, 3.0 + n) for n in range(500)]
    assert len(volume_table(example_results(STUDY, [], losses=[*best, *dominated]))) == 503
    assert len(sizes) == len(best)
    assert max(sizes) <= 2
