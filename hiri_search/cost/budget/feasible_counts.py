"""Dynamic programming: how many completions of a partial network stay within the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from operator import add
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hiri_search.cost.budget.constraints import UNBOUNDED
from hiri_search.cost.budget.decision_diagram import DecisionDiagram, Edge, Node

MAX_ENTRIES = 2**16  # of a table
MAX_PATHS = 2**15  # from the start to tables, for counts that are sums over all of these paths
_CACHE_SIZE = 2**16  # lookups in tables

IntArray: TypeAlias = NDArray[np.int64]
CostVector: TypeAlias = tuple[int, ...]  # one entry per metric
Bounds: TypeAlias = list[tuple[int, int]]  # one pair per metric, both ends included
Sizes: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CostTable:
    """Distinct cost vectors with their numbers of networks, sorted by the first metric."""

    cost_vectors: IntArray  # (M, K)
    networks: IntArray  # (K,)

    @cached_property
    def _cumulative(self) -> IntArray:
        """Number of networks before each entry."""
        return np.concatenate([np.zeros(1, np.int64), self.networks.cumsum()])

    def count(self, bounds: Bounds) -> int:
        """Number of networks within the bounds."""
        (low, high), *others = bounds
        start, stop = (int(end) for end in self.cost_vectors[0].searchsorted([low, high + 1]))
        if not others:
            return int(self._cumulative[stop] - self._cumulative[start])
        return int(self.networks[start:stop][_within(self.cost_vectors[1:, start:stop], others)].sum())


class FeasibleCounts:
    """Numbers of completions of each node whose total cost is within bounds.

    A node with few completions has a table of their costs. The count of a node above is the sum over all paths to such
    tables. Where there are too many paths, `exact` is False, and there are no counts.
    """

    def __init__(self, diagram: DecisionDiagram, edge_cost: Callable[[Edge], CostVector], bounds: Bounds) -> None:
        assert diagram.start is not None
        self.bounds, self.start, self.nodes = bounds, diagram.start, diagram.nodes
        edges = (edge for node in diagram.nodes for edge in node.edges if edge)
        self._costs = {id(edge): edge_cost(edge) for edge in (diagram.start, *edges)}
        self.cost_range = [(self._extreme_cost(m, min), self._extreme_cost(m, max)) for m in range(len(bounds))]
        self._tables, paths = self._tables_and_paths()
        self.exact = paths[self.start.target] <= MAX_PATHS
        self._sums = cache(self._successor_counts)  # at most MAX_PATHS entries
        self._lookups = lru_cache(_CACHE_SIZE)(self._successor_counts)

    @property
    def start_cost(self) -> CostVector:
        """Cost of the pieces that every network shares because no decision comes before them."""
        return self._costs[id(self.start)]

    @property
    def total(self) -> int:
        """Number of feasible networks."""
        return self._count(self.start.target, self.start_cost)

    def successor(self, node: int, index: int, cost: CostVector) -> tuple[int, CostVector]:
        """The next node for an option, and the cost so far there."""
        edge = self.nodes[node].edges[index]
        assert edge is not None
        return edge.target, tuple(map(add, cost, self._costs[id(edge)]))

    def sizes(self, node: int, cost: CostVector) -> Sizes:
        """The counts of the successors of a node that is reached at this cost, one per option."""
        return (self._sums if self._tables[node] is None else self._lookups)(node, cost)

    def nearest(self, metric: int) -> tuple[int | None, int | None]:
        """The nearest costs below and above the bounds of a metric, among networks within the bounds of the others."""
        low, high = self.bounds[metric]
        others = [*self.bounds]
        others[metric] = (0, UNBOUNDED)
        below, above = -1, UNBOUNDED
        for table, cost in self._first_tables():
            costs = table.cost_vectors + np.array(cost)[:, None]
            values = costs[metric, _within(costs, others)]
            below = max(below, int(values.max(initial=-1, where=values < low)))
            above = min(above, int(values.min(initial=UNBOUNDED, where=values > high)))
        return below if below >= 0 else None, above if above < UNBOUNDED else None

    def _count(self, node: int, cost: CostVector) -> int:
        table = self._tables[node]
        if table is None:
            return sum(self.sizes(node, cost))
        return table.count([(low - c, high - c) for (low, high), c in zip(self.bounds, cost, strict=True)])

    def _successor_counts(self, node: int, cost: CostVector) -> Sizes:
        edges = self.nodes[node].edges
        return tuple(self._count(*self.successor(node, at, cost)) if edge else 0 for at, edge in enumerate(edges))

    def _tables_and_paths(self) -> tuple[list[CostTable | None], list[int]]:
        """For each node, its table or None, and the number of paths from it to nodes with tables."""
        tables: list[CostTable | None] = [CostTable(np.zeros((len(self.bounds), 1), np.int64), np.ones(1, np.int64))]
        paths = [1]
        for node in self.nodes[1:]:
            table = self._table(node, tables)
            tables.append(table)
            paths.append(1 if table else sum(paths[edge.target] for edge in node.edges if edge))
        return tables, paths

    def _table(self, node: Node, tables: list[CostTable | None]) -> CostTable | None:
        parts: list[tuple[CostTable, CostVector]] = []
        for edge in node.edges:
            if edge:
                if (table := tables[edge.target]) is None:
                    return None
                parts.append((table, self._costs[id(edge)]))
        return _merged(parts) if sum(len(table.networks) for table, _ in parts) <= MAX_ENTRIES else None

    def _extreme_cost(self, metric: int, best: Callable[..., int]) -> int:
        """The lowest (`min`) or highest (`max`) cost of all networks of the diagram."""
        extremes = [0]
        for node in self.nodes[1:]:
            extremes.append(best(self._costs[id(e)][metric] + extremes[e.target] for e in node.edges if e))
        return self.start_cost[metric] + extremes[self.start.target]

    def _first_tables(self) -> Iterator[tuple[CostTable, CostVector]]:
        """The first table on each path from the start, with the cost so far."""
        stack = [(self.start.target, self.start_cost)]
        while stack:
            node, cost = stack.pop()
            if table := self._tables[node]:
                yield table, cost
            else:
                stack.extend(self.successor(node, at, cost) for at, edge in enumerate(self.nodes[node].edges) if edge)


def _within(costs: IntArray, bounds: Bounds) -> NDArray[np.bool_]:
    low, high = np.array(bounds).T[:, :, None]
    return np.asarray(((costs >= low) & (costs <= high)).all(axis=0))


def _merged(tables: Iterable[tuple[CostTable, CostVector]]) -> CostTable:
    """Return the union of several tables, each shifted by a cost; equal costs share an entry."""
    shifted, counts = zip(
        *((table.cost_vectors + np.array(cost)[:, None], table.networks) for table, cost in tables), strict=True
    )
    costs, networks = np.concatenate(shifted, axis=1), np.concatenate(counts)
    order = np.lexsort(costs[::-1])  # the first metric is the primary key
    costs = costs[:, order]
    starts = np.flatnonzero(np.append(True, (costs[:, 1:] != costs[:, :-1]).any(axis=0)))
    return CostTable(costs[:, starts], np.add.reduceat(networks[order], starts))
