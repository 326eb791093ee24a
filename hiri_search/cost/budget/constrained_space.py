"""A space restricted to a cost budget: size, uniform sampling, enumeration."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random
from typing import Literal

from hiri_search.cost import flops
from hiri_search.cost.budget.constraints import METRICS, UNBOUNDED, CostConstraints
from hiri_search.cost.budget.cost_table import CostVector
from hiri_search.cost.budget.decision_diagram import TERMINAL, Edge, TooManyNodes, build_diagram
from hiri_search.cost.budget.feasible_counts import MAX_NETWORKS, FeasibleCounts
from hiri_search.language import Chooser, Net, Space, SpecError, uniform
from hiri_search.language.space import Walked

MAX_REJECTIONS = 10_000  # in a row, before sampling gives up

Measure = Callable[[Net], float]


class BudgetError(ValueError):
    """No network of the space satisfies the constraints, or a decision leads to no such network."""


class ConstrainedSpace:
    """The feasible networks of a space: those that fit the side and satisfy cost constraints there.

    `counting` says how feasible networks are counted, latency aside:
    - `exact`: every count is exact, and every walk ends at a feasible network. The mode of all spaces of up to about
      10^9 networks.
    - `upper_bound`: counts may be too high, but are 0 where no feasible network is found; every walk still ends at a
      feasible network.
    - `rejection`: the decision diagram is too large, or the space has more than 2^62 networks. The counts are those of
      the whole space, and walks are repeated until one ends at a feasible network. An infeasible budget is detected
      only by MAX_REJECTIONS rejections in a row.

    A limit on `ms_per_image` is checked by measurement: walks are repeated until the latency of the network is within
    the limit. No count takes latency into account.
    """

    def __init__(
        self,
        space: Space,
        constraints: CostConstraints,
        side: int,
        *,
        classes: int = 1000,
        measure: Measure | None = None,
    ) -> None:
        """Count the costs of all pieces; most of the time goes into pieces that are not in the cache.

        `measure` returns ms per image. Raises BudgetError where no network of the space is feasible, latency aside,
        and SpecError where none fits the side.
        """
        if constraints.ms_per_image and measure is None:
            raise BudgetError(
                f"{constraints} needs measured latencies, which are not available here; drop ms_per_image"
            )
        self.space, self.constraints, self.side, self.classes = space, constraints, side, classes
        self._measure = measure
        self._metrics = list(constraints.integer_bounds) or ["gmacs"]
        self._counts = self._feasible_counts()
        self._walks = self._accepted = 0

    @property
    def counting(self) -> Literal["exact", "upper_bound", "rejection"]:
        if self._counts is None:
            return "rejection"
        return "exact" if self._counts.exact else "upper_bound"

    @property
    def size(self) -> int:
        """Number of feasible networks, latency aside.

        With `upper_bound` the middle between a lower and an upper bound. With `rejection` an estimate from the
        acceptance rate of `sample` so far; before the first sample the size of the whole space.
        """
        if self._counts is None:
            return round(self.space.size * self.acceptance_rate)
        upper_bound = self._counts.count(self._counts.start.target, self._counts.start_cost)
        return (self._counts.lower_bound() + upper_bound + 1) // 2

    @property
    def share(self) -> float:
        """Feasible networks, divided by the networks of the space."""
        return self.size / self.space.size

    @property
    def acceptance_rate(self) -> float:
        """Accepted walks of `sample`, divided by all of them; 1 before the first, and always with `exact`."""
        return self._accepted / self._walks if self._walks else 1.0

    def contains(self, net: Net) -> bool:
        """Count a network's costs, measure its latency where that is limited, and check the constraints."""
        return self._costs_allowed(net) and self._latency_allowed(net)

    def decide(self, choose: Chooser) -> Net:
        """Return the network of `walk`."""
        return self.walk(choose)[0]

    def walk(self, choose: Chooser) -> Walked:
        """Return a feasible network and its decisions, which `space.replay` takes.

        `choose` is called for every decision of the space, with the number of feasible networks behind each option.
        Raises BudgetError where `choose` returns an option of size 0, and after MAX_REJECTIONS walks in a row that end
        at an infeasible network.
        """
        for _ in range(MAX_REJECTIONS):
            walked = self.space.walk(choose) if self._counts is None else self._walk(self._counts, choose)
            if self._accepts(walked[0]):
                return walked
        raise self._rejected()

    def sample(self, rng: Random) -> Net:
        """Return a feasible network, drawn uniformly in every mode of `counting`."""
        for _ in range(MAX_REJECTIONS):
            self._walks += 1
            net = self.space.decide(uniform(rng)) if self._counts is None else self._draw(self._counts, rng)
            if net is not None and self._accepts(net):
                self._accepted += 1
                return net
        raise self._rejected()

    def walks(self) -> Iterator[Walked]:
        """Every feasible network once, with its decisions, in the order of `space.walks`."""
        candidates = self.space.walks() if self._counts is None else self._feasible_walks(self._counts)
        return (walked for walked in candidates if self._accepts(walked[0]))

    def __iter__(self) -> Iterator[Net]:
        """Every feasible network once, in the order of `walks`."""
        return (net for net, _ in self.walks())

    def _accepts(self, net: Net) -> bool:
        """Check the network at the end of a walk, whose costs are known to be allowed if there are counts."""
        return (self._counts is not None or self._costs_allowed(net)) and self._latency_allowed(net)

    def _costs_allowed(self, net: Net) -> bool:
        try:
            return self.constraints.satisfied_by(flops.count(net, self.side, classes=self.classes))
        except SpecError:
            return False

    def _latency_allowed(self, net: Net) -> bool:
        limit = self.constraints.ms_per_image
        return limit is None or self._measure is None or limit.contains(self._measure(net))

    def _feasible_counts(self) -> FeasibleCounts | None:
        if self.space.size > MAX_NETWORKS:
            return None
        try:
            diagram = build_diagram(self.space, self.side, classes=self.classes)
        except TooManyNodes:
            return None
        if diagram.start is None:
            next(iter(self.space)).grids(self.side)  # raises the SpecError that names the nearest sides
        bounds = [self.constraints.integer_bounds.get(name, (0, UNBOUNDED)) for name in self._metrics]
        counts = FeasibleCounts(diagram, self._edge_cost, bounds)
        if not counts.has_feasible(counts.start.target, counts.start_cost):
            raise BudgetError(self._infeasible(counts))
        return counts

    def _edge_cost(self, edge: Edge) -> CostVector:
        cost = sum((flops.piece_cost(p.piece, p.side) * p.times for p in edge.pieces), flops.ZERO)
        by_name = {"gmacs": cost.macs, "mparams": cost.params}
        return tuple(by_name[name] for name in self._metrics)

    def _walk(self, counts: FeasibleCounts, choose: Chooser) -> Walked:
        number, cost = counts.start.target, counts.start_cost
        decisions: dict[str, int] = {}
        while number != TERMINAL:
            node, sizes = counts.nodes[number], counts.certified_sizes(number, cost)
            index = decisions[node.name] = choose(node.name, node.options, sizes)
            if not sizes[index]:
                raise BudgetError(f"no network with {node.name}={node.options[index]} is within {self.constraints}")
            number, cost = counts.successor(number, index, cost)
        return self.space.replay(decisions), decisions

    def _draw(self, counts: FeasibleCounts, rng: Random) -> Net | None:
        """Draw a feasible network uniformly; None with the probability that is left.

        The count of a node may be higher than the sum of its successors' counts. The draw then ends with the difference
        as its probability. So every network has the probability 1 / (count of the first node), whatever the counts on
        its path.
        """
        node, cost = counts.start.target, counts.start_cost
        total = counts.count(node, cost)
        decisions: dict[str, int] = {}
        while node != TERMINAL:
            sizes = counts.sizes(node, cost)
            index = bisect_right(list(accumulate(sizes)), rng.randrange(total))
            if index == len(sizes):
                return None
            decisions[counts.nodes[node].name] = index
            total = sizes[index]
            node, cost = counts.successor(node, index, cost)
        return self.space.replay(decisions)

    def _feasible_walks(self, counts: FeasibleCounts) -> Iterator[Walked]:
        """Depth-first enumeration; a path without a feasible network ends at sizes of 0."""
        stack: list[tuple[int, CostVector, tuple[tuple[str, int], ...]]] = [
            (counts.start.target, counts.start_cost, ())
        ]
        while stack:
            node, cost, path = stack.pop()
            if node == TERMINAL:
                yield self.space.replay(dict(path)), dict(path)
                continue
            name, sizes = counts.nodes[node].name, counts.sizes(node, cost)
            stack.extend(
                (*counts.successor(node, index, cost), (*path, (name, index)))
                for index, size in reversed(list(enumerate(sizes)))
                if size
            )

    def _infeasible(self, counts: FeasibleCounts) -> str:
        """The error message for constraints that no network satisfies."""
        lines = [f"no network of the space is within {self.constraints} at side {self.side}"]
        others = " that satisfies the other constraints" if len(self._metrics) > 1 else ""
        for metric, name in enumerate(self._metrics):
            unit = METRICS[name]
            low, high = (f"{end / unit:.12g}" for end in counts.cost_range[metric])
            below, above = ("none" if end is None else f"{end / unit:.12g}" for end in counts.nearest(metric))
            lines.append(f"{name} ranges from {low} to {high}; the nearest{others}: {below} below, {above} above")
        return "\n".join(lines)

    def _rejected(self) -> BudgetError:
        return BudgetError(
            f"{MAX_REJECTIONS:,} random networks in a row were not within {self.constraints}; widen the constraints"
            " or narrow the space"
        )
