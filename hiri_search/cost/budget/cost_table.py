"""Cost distributions (how many networks cost what), exact or binned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]
CostVector: TypeAlias = tuple[int, ...]  # one entry per metric
Bounds: TypeAlias = Sequence[tuple[int, int]]  # one pair per metric, both ends included


@dataclass(frozen=True)
class Binning:
    """Bin width and number of the last bin, by metric; the last bin has no upper end."""

    width: IntArray  # (M, 1)
    last: IntArray  # (M, 1); the product of `last + 1` over the metrics is below 2^16

    def bins(self, costs: IntArray) -> NDArray[np.uint16]:
        """The flat bin number of each of (M, K) costs, as (1, K) of 16 bits, which NumPy sorts by radix sort."""
        indices = np.minimum(costs // self.width, self.last)
        numbers: NDArray[np.uint16] = np.ravel_multi_index(tuple(indices), tuple(self.last[:, 0] + 1)).astype(np.uint16)
        return numbers[None]


@dataclass(frozen=True, eq=False)
class CostTable:
    """Boxes of costs with their numbers of networks, sorted by the lowest cost of the first metric.

    In an exact table every box is a single cost vector. Otherwise each network lies somewhere in its box, and the box
    is tight: each of its sides is the cost of a network in it.
    """

    low: IntArray  # (M, K)
    high: IntArray  # (M, K)
    networks: IntArray  # (K,)
    exact: bool

    @staticmethod
    def terminal(metrics: int) -> CostTable:
        """The table of the terminal node: one completion, at cost 0."""
        zero = np.zeros((metrics, 1), np.int64)
        return CostTable(zero, zero, np.ones(1, np.int64), True)

    @cached_property
    def _widest(self) -> int:
        return int((self.high[0] - self.low[0]).max(initial=0))

    @cached_property
    def _cumulative(self) -> IntArray:
        """Number of networks before each box."""
        return np.concatenate([np.zeros(1, np.int64), self.networks.cumsum()])

    def upper_count(self, bounds: Bounds) -> int:
        """Number of networks in boxes that overlap the bounds: an upper bound, exact for an exact table."""
        (low, high), *others = bounds
        start = int(self.low[0].searchsorted(low - self._widest))
        stop = int(self.low[0].searchsorted(high, "right"))
        if start >= stop:
            return 0
        if self.exact and not others:
            return int(self._cumulative[stop] - self._cumulative[start])
        boxes = slice(start, stop)
        overlap = self.high[0, boxes] >= low
        for metric, (low, high) in enumerate(others, 1):
            overlap &= (self.low[metric, boxes] <= high) & (self.high[metric, boxes] >= low)
        return int(self.networks[boxes][overlap].sum())

    def lower_count(self, bounds: Bounds) -> int:
        """Number of networks in boxes that lie completely within the bounds: a lower bound."""
        within = np.ones(len(self.networks), bool)
        for metric, (low, high) in enumerate(bounds):
            within &= (self.low[metric] >= low) & (self.high[metric] <= high)
        return int(self.networks[within].sum())


def merge_tables(tables: Iterable[tuple[CostTable, CostVector]], *, binning: Binning | None = None) -> CostTable:
    """Return the union of several tables, each shifted by a cost; equal costs, or costs of one bin, share a box."""
    parts = [(table, np.array(cost, np.int64)[:, None]) for table, cost in tables]
    low = np.concatenate([table.low + cost for table, cost in parts], axis=1)
    high = np.concatenate([table.high + cost for table, cost in parts], axis=1)
    networks = np.concatenate([table.networks for table, _ in parts])
    keys = low if binning is None else binning.bins(low)
    order = np.lexsort(keys[::-1])  # the first metric is the primary key
    starts = _group_starts(keys[:, order])
    low = np.minimum.reduceat(low[:, order], starts, axis=1)
    high = np.maximum.reduceat(high[:, order], starts, axis=1) if binning else low
    networks = np.add.reduceat(networks[order], starts)
    order = np.argsort(low[0], kind="stable")
    return CostTable(low[:, order], high[:, order], networks[order], binning is None)


def _group_starts(keys: NDArray[np.integer[Any]]) -> IntArray:
    """Indices at which a new key begins in sorted keys."""
    new = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(new) + 1])
