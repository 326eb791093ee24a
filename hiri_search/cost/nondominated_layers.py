"""Incremental non-dominated sorting: fronts kept up to date as points come and go."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hiri_search.cost.pareto import Points, dominance, fronts

Front: TypeAlias = tuple[npt.NDArray[np.int64], Points]  # numbers, and their points

MANY = 0.25  # share of points that are new, from which all are sorted anew


class Layers:
    """Numbered points by front: who comes or goes moves few others (Li et al. 2017)."""

    def __init__(self) -> None:
        self._layers: list[Front] = []
        self._size = 0
        self._new: dict[int, tuple[float, ...]] = {}  # not among the layers yet

    def add(self, number: int, point: tuple[float, ...]) -> None:
        """One more point."""
        self._new[number] = point

    def remove(self, number: int) -> None:
        """One that was added is not to count any more."""
        if self._new.pop(number, None):
            return
        self._size -= 1
        level = next(level for level, (numbers, _) in enumerate(self._layers) if number in numbers)
        leaving = np.isin(self._layers[level][0], [number])
        while leaving.any():
            gone = self._part(level, ~leaving)
            if level + 1 == len(self._layers):
                break
            points = self._layers[level + 1][1]
            # Who was beaten on this front by those alone that left it takes their place.
            leaving = _beaten(points, gone[1]) & ~_beaten(points, self._layers[level][1])
            rising = self._layers[level + 1][0][leaving], points[leaving]
            self._layers[level] = _ordered(*_joined([self._layers[level], rising]))
            level += 1
        self._layers = [front for front in self._layers if len(front[0])]

    def fronts(self) -> Iterator[Front]:
        """The points that no other beats, then those that only such beat, and so on; each front by number."""
        if self._new:
            self._settle()
        return iter(self._layers)

    def _settle(self) -> None:
        new: Front = np.array(list(self._new), dtype=np.int64), np.array(list(self._new.values()))
        self._size += len(self._new)
        self._new = {}
        if len(new[0]) > MANY * self._size:
            self._layers = _sorted(*_joined([*self._layers, new]))
            return
        for index in range(len(new[0])):
            self._enter((new[0][[index]], new[1][[index]]))

    def _part(self, level: int, staying: npt.NDArray[np.bool_]) -> Front:
        """Those of a front that do not stay."""
        numbers, points = self._layers[level]
        self._layers[level] = numbers[staying], points[staying]
        return numbers[~staying], points[~staying]

    def _enter(self, coming: Front) -> None:
        """One point: on the first front where none beats it; those that it beats there go one front on, and so on."""
        level = bisect_left(self._layers, True, key=lambda front: not _beaten(coming[1], front[1]).any())
        while level < len(self._layers):
            beaten = _beaten(self._layers[level][1], coming[1])
            leaving = self._part(level, ~beaten)
            self._layers[level] = _ordered(*_joined([self._layers[level], coming]))
            if not beaten.any():
                return
            coming, level = leaving, level + 1
        self._layers.append(coming)


def _beaten(points: Points, others: Points) -> npt.NDArray[np.bool_]:
    return np.asarray(dominance(others, points).any(axis=0))


def _joined(several: list[Front]) -> Front:
    return np.concatenate([numbers for numbers, _ in several]), np.concatenate([points for _, points in several])


def _ordered(numbers: npt.NDArray[np.int64], points: Points) -> Front:
    order = np.argsort(numbers)
    return numbers[order], points[order]


def _sorted(numbers: npt.NDArray[np.int64], points: Points) -> list[Front]:
    if not len(numbers):
        return []
    ranks = fronts(points)
    return [_ordered(numbers[ranks == rank], points[ranks == rank]) for rank in range(ranks.max() + 1)]
