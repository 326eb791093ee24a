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

MAX_EXACT = 2**16  # boxes of an exact table
MAX_LEADS = 2**15  # ways from the start to exact tables, over which all can be added up
MAX_NETWORKS = 2**62  # that NumPy can count
MAX_BINS = 2**13  # of a table that is not exact, were they all filled
MAX_LOOKUPS = 2**14  # at forks, for one network inside
_CACHE_SIZE = 2**16  # answers from tables
_STEPS = 32  # into which the bounds of one metric are cut: finer ones say no more

Sizes = tuple[int, ...]


class FeasibleCounts:
    """The networks of a chart within bounds. `exact`: every number is; else some are somewhat too high.

    Behind a fork with few networks stands an exact table of their costs. Further up, as long as the ways down to such
    tables are few, numbers are sums over them. Where they are many, tables hold boxes of costs, and a number is that
    of the boxes which reach into the bounds: never too low, and never lower than those of its branches together.
    """

    def __init__(self, found: DecisionDiagram, cost: Callable[[Edge], CostVector], bounds: Bounds) -> None:
        assert found.start is not None
        self.bounds, self.start, self.forks = bounds, found.start, found.nodes
        self._costs = {id(branch): cost(branch) for branch in _branches(found)}
        self.tables, leads = self._exact_tables()
        self.reach = self._reach()
        self.exact = leads[self.start.to] <= MAX_LEADS
        if not self.exact:
            self._fill()
        self._summed = cache(self._counted)  # over few ways: see MOST_LEADS
        self._looked_up = lru_cache(_CACHE_SIZE)(self._counted)
        self._found: dict[tuple[int, CostVector], bool] = {}
        self._looks = 0

    @property
    def spent(self) -> CostVector:
        """What every network costs at least: its pieces before the first decision."""
        return self._costs[id(self.start)]

    def after(self, fork: int, index: int, spent: CostVector) -> tuple[int, CostVector]:
        """The next fork, and what is spent by then."""
        branch = self.forks[fork].edges[index]
        assert branch is not None
        return branch.to, tuple(map(add, spent, self._costs[id(branch)]))

    def sizes(self, fork: int, spent: CostVector) -> Sizes:
        """The counts by branch."""
        return (self._summed if self.tables[fork] is None else self._looked_up)(fork, spent)

    def count(self, fork: int, spent: CostVector) -> int:
        """The networks inside behind a fork; an upper bound where `exact` is not."""
        table = self.tables[fork]
        return sum(self.sizes(fork, spent)) if table is None else table.possible(self._left(spent))

    def certified_sizes(self, fork: int, spent: CostVector) -> Sizes:
        """The counts by branch, where one without a network inside is sure to have 0."""
        sizes = self.sizes(fork, spent)
        table = self.tables[fork]
        if table is None or table.exact:
            return sizes
        return tuple(
            size if size and self.has_feasible(*self.after(fork, index, spent)) else 0
            for index, size in enumerate(sizes)
        )

    def has_feasible(self, fork: int, spent: CostVector) -> bool:
        """Whether a network inside was found behind a fork; if `exact`, whether there is one."""
        self._looks = MAX_LOOKUPS
        return self._holds_one(fork, spent)

    def lower_bound(self) -> int:
        """The networks that are sure to lie inside."""
        if self.exact:
            return self.count(self.start.to, self.spent)
        table = self.tables[self.start.to]
        assert table is not None
        return table.sure(self._left(self.spent))

    def _holds_one(self, fork: int, spent: CostVector) -> bool:
        possible = self.count(fork, spent)
        table = self.tables[fork]
        if table is None or table.exact or not possible:
            return possible > 0
        if table.sure(self._left(spent)):
            return True
        if (fork, spent) not in self._found:
            found = self._any(fork, spent)
            if not found and self._looks <= 0:
                return False  # which is not known: nothing to remember
            self._found[fork, spent] = found
        return self._found[fork, spent]

    def _any(self, fork: int, spent: CostVector) -> bool:
        """The branches with most networks first, for there one is found soonest."""
        sizes = self.sizes(fork, spent)
        for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
            self._looks -= 1
            if sizes[index] and self._looks > 0 and self._holds_one(*self.after(fork, index, spent)):
                return True
        return False

    def _counted(self, fork: int, spent: CostVector) -> Sizes:
        return tuple(
            0 if branch is None else self.count(branch.to, tuple(map(add, spent, self._costs[id(branch)])))
            for branch in self.forks[fork].edges
        )

    def _left(self, spent: CostVector) -> Bounds:
        return [(low - s, high - s) for (low, high), s in zip(self.bounds, spent, strict=True)]

    def _exact_tables(self) -> tuple[list[CostTable | None], list[int]]:
        """A table for each fork that has few networks, and how many ways lead from each down to such tables."""
        tables: list[CostTable | None] = [CostTable.nothing_left(len(self.bounds))]
        leads = [1]
        for fork in self.forks[1:]:
            behind = [tables[branch.to] for branch in fork.edges if branch]
            few = sum(MAX_EXACT + 1 if table is None else len(table.networks) for table in behind) <= MAX_EXACT
            tables.append(self._union(fork, tables) if few else None)
            leads.append(1 if few else sum(leads[branch.to] for branch in fork.edges if branch))
        return tables, leads

    def _fill(self) -> None:
        """Tables for the forks that have none."""
        grain = self._grain()
        for at, fork in enumerate(self.forks):
            if self.tables[at] is None:
                self.tables[at] = self._union(fork, self.tables, grain)

    def _union(self, fork: Node, tables: Sequence[CostTable | None], grain: Binning | None = None) -> CostTable:
        parts = [(table, self._costs[id(b)]) for b in fork.edges if b and (table := tables[b.to]) is not None]
        return merge_tables(parts, grain=grain)

    def _grain(self) -> Binning:
        """Steps that cut the bounds finely, but so coarse that a table stays small."""
        tops = [min(high, reached) for (_, high), (_, reached) in zip(self.bounds, self.reach, strict=True)]
        widths = [max(1, top - low) for (low, _), top in zip(self.bounds, tops, strict=True)]
        cells = _cells([max(1.0, _STEPS * top / width) for top, width in zip(tops, widths, strict=True)])
        steps = [max(1, ceil(top / number)) for top, number in zip(tops, cells, strict=True)]
        step = np.array(steps, np.int64)[:, None]
        return Binning(step, np.array(tops, np.int64)[:, None] // step + 1)

    def _reach(self) -> list[tuple[int, int]]:
        """The lowest and the highest cost in the whole chart, by metric."""
        return [(self._furthest(metric, min), self._furthest(metric, max)) for metric in range(len(self.bounds))]

    def _furthest(self, metric: int, best: Callable[..., int]) -> int:
        ends = [0]
        for fork in self.forks[1:]:
            ends.append(best(self._costs[id(branch)][metric] + ends[branch.to] for branch in fork.edges if branch))
        return self._costs[id(self.start)][metric] + ends[self.start.to]

    def nearest(self, metric: int) -> tuple[int | None, int | None]:
        """The nearest costs below and above the bounds of one metric, of networks that keep the bounds of the others.

        Where `exact` is not, they are costs of networks still, but may not be the nearest, or keep the others nearly.
        """
        low, high = self.bounds[metric]
        below, above = -1, UNBOUNDED
        for table, spent in self._ends():
            kept = np.ones(len(table.networks), bool)
            for other, (least, most) in enumerate(self._left(spent)):
                kept &= (other == metric) | ((table.low[other] <= most) & (table.high[other] >= least))
            touched = np.concatenate([table.low[metric, kept], table.high[metric, kept]]) + spent[metric]
            below = max(below, int(touched.max(initial=-1, where=touched < low)))
            above = min(above, int(touched.min(initial=UNBOUNDED, where=touched > high)))
        return below if below >= 0 else None, above if above < UNBOUNDED else None

    def _ends(self) -> Iterator[tuple[CostTable, CostVector]]:
        """The tables that the ways from the start come to first, with what is spent by then."""
        stack = [(self.start.to, self.spent)]
        while stack:
            fork, spent = stack.pop()
            table = self.tables[fork]
            if table is not None:
                yield table, spent
                continue
            indices = [index for index, branch in enumerate(self.forks[fork].edges) if branch]
            stack.extend(self.after(fork, index, spent) for index in indices)


def _branches(found: DecisionDiagram) -> Iterator[Edge]:
    assert found.start is not None
    yield found.start
    yield from (branch for fork in found.nodes for branch in fork.edges if branch)


def _cells(wanted: Sequence[float]) -> list[float]:
    """Into how many steps each metric is cut: as wanted, while there are no more than MOST_BOXES of all together."""
    cells, left = list(wanted), float(MAX_BINS)
    for done, metric in enumerate(sorted(range(len(cells)), key=lambda metric: wanted[metric])):
        cells[metric] = min(wanted[metric], left ** (1 / (len(cells) - done)))
        left /= cells[metric]
    return cells
