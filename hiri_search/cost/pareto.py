"""Pareto fronts: dominance, non-dominated sorting, crowding distance, hypervolume (all minimised)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Points: TypeAlias = npt.NDArray[np.float64]  # (points, objectives)
Box: TypeAlias = tuple[tuple[float, float], ...]  # from and to, by objective


def pareto_mask(points: Points) -> npt.NDArray[np.bool_]:
    """For each point whether no other is at least as small everywhere and smaller somewhere."""
    front = np.zeros(len(points), dtype=bool)
    left = np.lexsort(points.T[::-1])  # a point can be beaten by those before it alone
    while len(left):
        best, left = left[0], left[1:]
        front[best] = True
        left = left[~dominance(points[[best]], points[left])[0]]
    return front


def dominance(points: Points, others: Points | None = None) -> npt.NDArray[np.bool_]:
    """[i, j]: whether point i beats point j, of the same or of others."""
    mine, other = points[:, None], (points if others is None else others)[None]
    return np.asarray((mine <= other).all(axis=2) & (mine < other).any(axis=2))


def rank_then_crowding(points: Points) -> list[int]:
    """The points in order: by the front each is on, then by how alone it is there (Deb et al. 2002)."""
    ranks = fronts(points)
    alone = np.zeros(len(points))
    for rank in np.unique(ranks):
        alone[ranks == rank] = crowding_distance(points[ranks == rank])
    order: list[int] = np.lexsort((-alone, ranks)).tolist()
    return order


def fronts(points: Points) -> npt.NDArray[np.int64]:
    """0 for a point that no other beats, 1 for one that only such beat, and so on."""
    if points.shape[1] == 2:
        distinct, places = np.unique(points, axis=0, return_inverse=True)  # by the first objective, then by the other
        return np.array(_fronts_of_two(distinct[:, 1]), dtype=np.int64)[places.reshape(-1)]
    ranks = np.zeros(len(points), dtype=np.int64)
    left = np.arange(len(points))
    while len(left):
        left = left[~pareto_mask(points[left])]
        ranks[left] += 1
    return ranks


def _fronts_of_two(seconds: Iterable[float]) -> list[int]:
    """Of different points in the order of their first objective, then of the other (Jensen 2003).

    One beats another behind it where its second objective is as small: it is enough to look at the last of each front.
    """
    lasts: list[float] = []  # ascending
    ranks = []
    for second in seconds:
        ranks.append(rank := bisect_right(lasts, second))
        lasts[rank : rank + 1] = [second]
    return ranks


def crowding_distance(points: Points) -> Points:
    """The crowding distance: how far the neighbours on both sides lie apart, over the objectives."""
    total = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        spread = ordered[-1] - ordered[0] or 1.0
        total[order[1:-1]] += (ordered[2:] - ordered[:-2]) / spread
        total[order[[0, -1]]] = np.inf
    return total


def hypervolume(points: Points, reference: Sequence[float]) -> float:
    """The volume between the points and the reference that at least one of them dominates; exact.

    One slab after the other along the last objective, each with one objective less.
    """
    near = points[(points < np.asarray(reference)).all(axis=1)]
    if len(near) == 0:
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - near.min())
    levels = [*np.unique(near[:, -1]), reference[-1]]
    return sum(
        float(high - low) * hypervolume(near[near[:, -1] <= low, :-1], reference[:-1]) for low, high in pairwise(levels)
    )


def nondominated_boxes(points: Points, reference: Sequence[float]) -> Iterator[Box]:
    """Boxes that share nothing, and together are all below the reference that no point dominates."""
    if len(reference) == 1:
        yield ((-np.inf, min([*points[:, 0], reference[0]])),)
        return
    levels = [-np.inf, *(level for level in np.unique(points[:, -1]) if level < reference[-1]), reference[-1]]
    for low, high in pairwise(levels):
        for box in nondominated_boxes(points[points[:, -1] <= low, :-1], reference[:-1]):
            yield (*box, (low, high))
