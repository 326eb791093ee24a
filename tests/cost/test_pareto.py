"""Fronts and hypervolumes compared with hand-computed values and with counts of grid cells."""

from itertools import product

import numpy as np
import pytest

from hiri_search.cost.pareto import dominance, fronts, hypervolume, nondominated_boxes, pareto_mask

CASES = {
    "none": ([], 0.0),
    "one": ([(1, 1)], 9.0),
    "two steps": ([(1, 3), (3, 1)], 3 + 3 - 1.0),
    "dominated points add nothing": ([(1, 1), (2, 2), (1, 3)], 9.0),
    "duplicates count once": ([(1, 1), (1, 1)], 9.0),
    "beyond the reference": ([(5, 0), (0, 4), (2, 2)], 4.0),
}


@pytest.mark.parametrize(("points", "volume"), CASES.values(), ids=CASES)
def test_hypervolume_of_two_objectives(points: list[tuple[int, int]], volume: float):
    assert hypervolume(np.array(points, dtype=float).reshape(-1, 2), (4.0, 4.0)) == volume


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_is_the_number_of_dominated_grid_cells(objectives: int):
    points = np.random.default_rng(objectives).integers(0, 5, (6, objectives)).astype(float)
    cells = np.array(list(product(range(5), repeat=objectives)))
    dominated = (points[:, None] <= cells).all(axis=2).any(axis=0)
    assert hypervolume(points, (5.0,) * objectives) == dominated.sum()


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_nondominated_boxes_and_the_dominated_region_fill_the_space_below_the_reference(objectives: int):
    points = np.random.default_rng(objectives).integers(0, 5, (6, objectives)).astype(float)
    boxes = [
        [(max(low, 0.0), max(high, 0.0)) for low, high in box]
        for box in nondominated_boxes(points, (5.0,) * objectives)
    ]
    nondominated = sum(np.prod([high - low for low, high in box]) for box in boxes)
    assert nondominated + hypervolume(points, (5.0,) * objectives) == 5**objectives


def test_the_pareto_mask_marks_all_points_without_a_dominating_point_and_keeps_duplicates():
    points = np.random.default_rng(0).integers(0, 6, (60, 3)).astype(float)
    assert (pareto_mask(points) == ~dominance(points).any(axis=0)).all()
    assert pareto_mask(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])).tolist() == [True, True, True, False]


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_fronts_are_the_pareto_fronts_removed_one_after_another(objectives: int, seed: int):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, rng.integers(1, 9), (rng.integers(0, 50), objectives)).astype(float)
    ranks, left = np.zeros(len(points), dtype=int), np.arange(len(points))
    while len(left):
        left = left[dominance(points[left]).any(axis=0)]
        ranks[left] += 1
    assert fronts(points).tolist() == ranks.tolist()
