"""Pareto fronts: dominance, non-dominated sorting, crowding distance, hypervolume (all minimised)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Points: TypeAlias = npt.NDArray[np.float64]  # (points, objectives)
Box: TypeAlias = tuple[tuple[float, float], ...]  # lower and upper end, by objective


def pareto_mask(points: Points) -> npt.NDArray[np.bool_]:
    """True for each non-dominated point: no other point is at most as large everywhere and smaller somewhere."""
    front = np.zeros(len(points), dtype=bool)
    left = np.lexsort(points.T[::-1])  # in this order only earlier points can dominate a point
    while len(left):
        best, left = left[0], left[1:]
        front[best] = True
        left = left[~dominance(points[[best]], points[left])[0]]
    return front


def dominance(points: Points, others: Points | None = None) -> npt.NDArray[np.bool_]:
    """Entry [i, j] is True if point i dominates point j of `others` (default: of `points`)."""
    rows, columns = points[:, None], (points if others is None else others)[None]
    return np.asarray((rows <= columns).all(axis=2) & (rows < columns).any(axis=2))


def rank_then_crowding(points: Points) -> list[int]:
    """Indices of the points, sorted by front and then by descending crowding distance (Deb et al. 2002)."""
    ranks = fronts(points)
    distances = np.zeros(len(points))
    for rank in np.unique(ranks):
        distances[ranks == rank] = crowding_distance(points[ranks == rank])
    order: list[int] = np.lexsort((-distances, ranks)).tolist()
    return order


def fronts(points: Points) -> npt.NDArray[np.int64]:
    """Non-dominated sorting: 0 for the points of the Pareto front, 1 for the front without them, and so on."""
    if points.shape[1] == 2:
        distinct, indices = np.unique(points, axis=0, return_inverse=True)  # sorted by the first objective
        return np.array(_two_objective_fronts(distinct[:, 1]), dtype=np.int64)[indices.reshape(-1)]
    ranks = np.zeros(len(points), dtype=np.int64)
    left = np.arange(len(points))
    while len(left):
        left = left[~pareto_mask(points[left])]
        ranks[left] += 1
    return ranks


def _two_objective_fronts(second_objective: Iterable[float]) -> list[int]:
    """Ranks of distinct points sorted by the first objective and then by the second (Jensen 2003).

    A point dominates a later one if its second objective is at most as large. So a point is compared only with the last
    point of each front.
    """
    last_of_fronts: list[float] = []  # ascending
    ranks = []
    for value in second_objective:
        ranks.append(rank := bisect_right(last_of_fronts, value))
        last_of_fronts[rank : rank + 1] = [value]
    return ranks


def crowding_distance(points: Points) -> Points:
    """Crowding distance: the distance between both neighbours along an objective, summed over the objectives."""
    total = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        spread = ordered[-1] - ordered[0] or 1.0
        total[order[1:-1]] += (ordered[2:] - ordered[:-2]) / spread
        total[order[[0, -1]]] = np.inf
    return total


def hypervolume(points: Points, reference: Sequence[float]) -> float:
    """Exact volume of the region that the points dominate, up to the reference point.

    Computed as slabs along the last objective, each a hypervolume with one objective less.
    """
    inner = points[(points < np.asarray(reference)).all(axis=1)]
    if len(inner) == 0:
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - inner.min())
    levels = [*np.unique(inner[:, -1]), reference[-1]]
    slabs = ((low, high, inner[inner[:, -1] <= low, :-1]) for low, high in pairwise(levels))
    return sum(float(high - low) * hypervolume(slab, reference[:-1]) for low, high, slab in slabs)


def nondominated_boxes(points: Points, reference: Sequence[float]) -> Iterator[Box]:
    """Disjoint boxes whose union is the non-dominated region below the reference point."""
    if len(reference) == 1:
        yield ((-np.inf, min([*points[:, 0], reference[0]])),)
        return
    levels = [-np.inf, *(level for level in np.unique(points[:, -1]) if level < reference[-1]), reference[-1]]
    for low, high in pairwise(levels):
        for box in nondominated_boxes(points[points[:, -1] <= low, :-1], reference[:-1]):
            yield (*box, (low, high))
