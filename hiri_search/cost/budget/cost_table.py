"""Cost distributions (how many networks cost what), exact or binned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]
CostVector: TypeAlias = tuple[int, ...]  # by metric
Bounds: TypeAlias = Sequence[tuple[int, int]]  # by metric, both ends inside


@dataclass(frozen=True)
class Binning:
    """How near costs are that a table puts together, by metric; all above the `top` are as one."""

    step: IntArray  # (M, 1)
    top: IntArray  # (M, 1), in steps; the product of all of them with one more is below 2^16

    def boxes(self, costs: IntArray) -> NDArray[np.uint16]:
        """The number of the box that each of (M, K) costs falls into: (1, K), so short that NumPy sorts by radix."""
        steps = np.minimum(costs // self.step, self.top)
        numbers: NDArray[np.uint16] = np.ravel_multi_index(tuple(steps), tuple(self.top[:, 0] + 1)).astype(np.uint16)
        return numbers[None]


@dataclass(frozen=True, eq=False)
class CostTable:
    """Boxes of costs, each with how many networks it holds, in the order of the lowest cost by the first metric.

    In an exact table every box is one cost. Else a network is known to lie in its box, and each side of the box
    touches one of its networks.
    """

    low: IntArray  # (M, K)
    high: IntArray  # (M, K)
    networks: IntArray  # (K,)
    exact: bool

    @staticmethod
    def nothing_left(metrics: int) -> CostTable:
        """One network, and all its pieces counted already."""
        zero = np.zeros((metrics, 1), np.int64)
        return CostTable(zero, zero, np.ones(1, np.int64), True)

    @cached_property
    def _widest(self) -> int:
        return int((self.high[0] - self.low[0]).max(initial=0))

    @cached_property
    def _before(self) -> IntArray:
        """How many networks stand before each box."""
        return np.concatenate([np.zeros(1, np.int64), self.networks.cumsum()])

    def possible(self, bounds: Bounds) -> int:
        """The networks of boxes that reach into the bounds: those inside, and some more where not exact."""
        (low, high), *others = bounds
        start = int(self.low[0].searchsorted(low - self._widest))
        stop = int(self.low[0].searchsorted(high, "right"))
        if start >= stop:
            return 0
        if self.exact and not others:
            return int(self._before[stop] - self._before[start])
        here = slice(start, stop)
        kept = self.high[0, here] >= low
        for metric, (least, most) in enumerate(others, 1):
            kept &= (self.low[metric, here] <= most) & (self.high[metric, here] >= least)
        return int(self.networks[here][kept].sum())

    def sure(self, bounds: Bounds) -> int:
        """The networks of boxes that lie in the bounds as a whole."""
        kept = np.ones(len(self.networks), bool)
        for metric, (low, high) in enumerate(bounds):
            kept &= (self.low[metric] >= low) & (self.high[metric] <= high)
        return int(self.networks[kept].sum())


def merge_tables(tables: Iterable[tuple[CostTable, CostVector]], *, grain: Binning | None = None) -> CostTable:
    """The networks of several tables, each of them dearer by a cost; equal ones, or those of one grain, in one box."""
    parts = [(table, np.array(cost, np.int64)[:, None]) for table, cost in tables]
    low = np.concatenate([table.low + cost for table, cost in parts], axis=1)
    high = np.concatenate([table.high + cost for table, cost in parts], axis=1)
    networks = np.concatenate([table.networks for table, _ in parts])
    keys = low if grain is None else grain.boxes(low)
    order = np.lexsort(keys[::-1])  # by the first metric before the others
    firsts = _firsts(keys[:, order])
    low = np.minimum.reduceat(low[:, order], firsts, axis=1)
    high = np.maximum.reduceat(high[:, order], firsts, axis=1) if grain else low
    networks = np.add.reduceat(networks[order], firsts)
    order = np.argsort(low[0], kind="stable")
    return CostTable(low[:, order], high[:, order], networks[order], grain is None)


def _firsts(keys: NDArray[np.integer[Any]]) -> IntArray:
    """Where in sorted keys each begins."""
    new = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(new) + 1])
