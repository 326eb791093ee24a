"""Dynamic programming: how many completions of a partial network stay within the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from math import ceil
from operator import add

import numpy as np

from hiri_search.cost.budget.constraints import UNBOUNDED
from hiri_search.cost.budget.cost_table import Binning, Bounds, CostTable, CostVector, merge_tables
from hiri_search.cost.budget.decision_diagram import DecisionDiagram, Edge, Node

MAX_EXACT_BOXES = 2**16  # of an exact table
MAX_PATHS = 2**15  # from the start to exact tables, for counts that are sums over all of these paths
MAX_NETWORKS = 2**62  # that fit into NumPy's integers
MAX_BINS = 2**13  # of a binned table
MAX_LOOKUPS = 2**14  # nodes visited in the search for one feasible network
_CACHE_SIZE = 2**16  # lookups in tables
_BINS_IN_BOUNDS = 32  # bins between the bounds of a metric; more bins do not make the counts better

Sizes = tuple[int, ...]


class FeasibleCounts:
    """Numbers of completions of each node whose total cost is within bounds: exact, or upper bounds.

    A node with few completions has an exact table of their costs. The count of a node above is the sum over all paths
    to such tables, as long as there are few paths. Otherwise (`exact` is False) the nodes above have binned tables, and
    a count is the number of networks in boxes that overlap the bounds: never too low, and never lower than the sum of
    the counts of its successors.
    """

    def __init__(self, diagram: DecisionDiagram, edge_cost: Callable[[Edge], CostVector], bounds: Bounds) -> None:
        assert diagram.start is not None
        self.bounds, self.start, self.nodes = bounds, diagram.start, diagram.nodes
        self._costs = {id(edge): edge_cost(edge) for edge in _edges(diagram)}
        self.tables, paths = self._exact_tables()
        self.cost_range = [(self._extreme_cost(m, min), self._extreme_cost(m, max)) for m in range(len(bounds))]
        self.exact = paths[self.start.target] <= MAX_PATHS
        if not self.exact:
            self._add_binned_tables()
        self._sums = cache(self._successor_counts)  # at most MAX_PATHS entries
        self._lookups = lru_cache(_CACHE_SIZE)(self._successor_counts)
        self._search_results: dict[tuple[int, CostVector], bool] = {}
        self._lookups_left = 0

    @property
    def start_cost(self) -> CostVector:
        """Cost of the pieces that every network shares because no decision comes before them."""
        return self._costs[id(self.start)]

    def successor(self, node: int, index: int, cost: CostVector) -> tuple[int, CostVector]:
        """The next node for an option, and the cost so far there."""
        edge = self.nodes[node].edges[index]
        assert edge is not None
        return edge.target, tuple(map(add, cost, self._costs[id(edge)]))

    def sizes(self, node: int, cost: CostVector) -> Sizes:
        """The counts of the successors of a node that is reached at this cost, one per option."""
        return (self._sums if self.tables[node] is None else self._lookups)(node, cost)

    def count(self, node: int, cost: CostVector) -> int:
        """Number of feasible completions of a node that is reached at this cost; an upper bound unless `exact`."""
        table = self.tables[node]
        return sum(self.sizes(node, cost)) if table is None else table.upper_count(self._remaining(cost))

    def certified_sizes(self, node: int, cost: CostVector) -> Sizes:
        """As `sizes`, with 0 for every option behind which no feasible network is found."""
        sizes = self.sizes(node, cost)
        table = self.tables[node]
        if table is None or table.exact:
            return sizes
        return tuple(
            size if size and self.has_feasible(*self.successor(node, index, cost)) else 0
            for index, size in enumerate(sizes)
        )

    def has_feasible(self, node: int, cost: CostVector) -> bool:
        """True if a feasible completion is found by a limited search; if `exact`, if and only if there is one."""
        self._lookups_left = MAX_LOOKUPS
        return self._search(node, cost)

    def lower_bound(self) -> int:
        """Number of networks that are certainly feasible."""
        if self.exact:
            return self.count(self.start.target, self.start_cost)
        table = self.tables[self.start.target]
        assert table is not None
        return table.lower_count(self._remaining(self.start_cost))

    def _search(self, node: int, cost: CostVector) -> bool:
        upper_bound = self.count(node, cost)
        table = self.tables[node]
        if table is None or table.exact or not upper_bound:
            return upper_bound > 0
        if table.lower_count(self._remaining(cost)):
            return True
        if (node, cost) not in self._search_results:
            success = self._search_successors(node, cost)
            if not success and self._lookups_left <= 0:
                return False  # the search was cut off: not a result to remember
            self._search_results[node, cost] = success
        return self._search_results[node, cost]

    def _search_successors(self, node: int, cost: CostVector) -> bool:
        """Search the successors with the highest counts first, because they most likely have a feasible network."""
        sizes = self.sizes(node, cost)
        for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
            self._lookups_left -= 1
            if sizes[index] and self._lookups_left > 0 and self._search(*self.successor(node, index, cost)):
                return True
        return False

    def _successor_counts(self, node: int, cost: CostVector) -> Sizes:
        edges = self.nodes[node].edges
        return tuple(self.count(*self.successor(node, at, cost)) if edge else 0 for at, edge in enumerate(edges))

    def _remaining(self, cost: CostVector) -> Bounds:
        """The bounds, reduced by the cost so far."""
        return [(low - c, high - c) for (low, high), c in zip(self.bounds, cost, strict=True)]

    def _exact_tables(self) -> tuple[list[CostTable | None], list[int]]:
        """For each node, its exact table or None, and the number of paths from it to nodes with exact tables."""
        tables: list[CostTable | None] = [CostTable.terminal(len(self.bounds))]
        paths = [1]
        for node in self.nodes[1:]:
            successors = [tables[edge.target] for edge in node.edges if edge]
            boxes = sum(MAX_EXACT_BOXES + 1 if table is None else len(table.networks) for table in successors)
            few = boxes <= MAX_EXACT_BOXES
            tables.append(self._merged_table(node, tables) if few else None)
            paths.append(1 if few else sum(paths[edge.target] for edge in node.edges if edge))
        return tables, paths

    def _add_binned_tables(self) -> None:
        binning = self._binning()
        for number, node in enumerate(self.nodes):
            if self.tables[number] is None:
                self.tables[number] = self._merged_table(node, self.tables, binning)

    def _merged_table(
        self, node: Node, tables: Sequence[CostTable | None], binning: Binning | None = None
    ) -> CostTable:
        parts = [(table, self._costs[id(e)]) for e in node.edges if e and (table := tables[e.target]) is not None]
        return merge_tables(parts, binning=binning)

    def _binning(self) -> Binning:
        """Bins that are fine within the bounds, and few enough for small tables."""
        tops = [min(high, highest) for (_, high), (_, highest) in zip(self.bounds, self.cost_range, strict=True)]
        spans = [max(1, top - low) for (low, _), top in zip(self.bounds, tops, strict=True)]
        wanted = [max(1.0, _BINS_IN_BOUNDS * top / span) for top, span in zip(tops, spans, strict=True)]
        widths = [max(1, ceil(top / bins)) for top, bins in zip(tops, _bins_per_metric(wanted), strict=True)]
        width = np.array(widths, np.int64)[:, None]
        return Binning(width, np.array(tops, np.int64)[:, None] // width + 1)

    def _extreme_cost(self, metric: int, best: Callable[..., int]) -> int:
        """The lowest (`min`) or highest (`max`) cost of all networks of the diagram."""
        extremes = [0]
        for node in self.nodes[1:]:
            extremes.append(best(self._costs[id(e)][metric] + extremes[e.target] for e in node.edges if e))
        return self._costs[id(self.start)][metric] + extremes[self.start.target]

    def nearest(self, metric: int) -> tuple[int | None, int | None]:
        """The nearest costs below and above the bounds of a metric, among networks within the bounds of the others.

        Unless `exact`, the costs are still costs of networks, but may not be the nearest ones, and the networks may
        slightly exceed the bounds of the other metrics.
        """
        low, high = self.bounds[metric]
        below, above = -1, UNBOUNDED
        for table, cost in self._first_tables():
            overlap = np.ones(len(table.networks), bool)
            for number, (lowest, highest) in enumerate(self._remaining(cost)):
                overlap &= (number == metric) | ((table.low[number] <= highest) & (table.high[number] >= lowest))
            costs = np.concatenate([table.low[metric, overlap], table.high[metric, overlap]]) + cost[metric]
            below = max(below, int(costs.max(initial=-1, where=costs < low)))
            above = min(above, int(costs.min(initial=UNBOUNDED, where=costs > high)))
        return below if below >= 0 else None, above if above < UNBOUNDED else None

    def _first_tables(self) -> Iterator[tuple[CostTable, CostVector]]:
        """The first table on each path from the start, with the cost so far."""
        stack = [(self.start.target, self.start_cost)]
        while stack:
            node, cost = stack.pop()
            table = self.tables[node]
            if table is not None:
                yield table, cost
                continue
            indices = [index for index, edge in enumerate(self.nodes[node].edges) if edge]
            stack.extend(self.successor(node, index, cost) for index in indices)


def _edges(diagram: DecisionDiagram) -> Iterator[Edge]:
    assert diagram.start is not None
    yield diagram.start
    yield from (edge for node in diagram.nodes for edge in node.edges if edge)


def _bins_per_metric(wanted: Sequence[float]) -> list[float]:
    """Number of bins of each metric: as wanted, reduced until their product is at most MAX_BINS."""
    bins, left = list(wanted), float(MAX_BINS)
    for done, metric in enumerate(sorted(range(len(bins)), key=lambda metric: wanted[metric])):
        bins[metric] = min(wanted[metric], left ** (1 / (len(bins) - done)))
        left /= bins[metric]
    return bins
