"""A space restricted to a cost budget: size, and walks to feasible networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from hiri_search.cost import flops
from hiri_search.cost.budget.constraints import METRICS, UNBOUNDED, CostConstraints
from hiri_search.cost.budget.decision_diagram import TERMINAL, Edge, TooManyNodes, build_diagram
from hiri_search.cost.budget.feasible_counts import CostVector, FeasibleCounts
from hiri_search.language import Chooser, Net, Space, SpecError
from hiri_search.language.space import Walked
from hiri_search.language.syntax_tree import Option

MAX_NETWORKS = 2**62  # of a space with exact counts: they fit into NumPy's integers
MAX_REJECTIONS = 10_000  # in a row, before a walk gives up

Measure = Callable[[Net], float]


class BudgetError(ValueError):
    """No network of the space satisfies the constraints, or a decision leads to no such network."""


class ConstrainedSpace:
    """The feasible networks of a space: those that fit the side and satisfy cost constraints there.

    `counting` says how feasible networks are counted, latency aside:
    - `exact`: every walk ends at a feasible network. The mode of all spaces of up to about 10^9 networks.
    - `rejection`: the space is too large for exact counts. The counts are those of the whole space, and walks are
      repeated until one ends at a feasible network. Constraints within the range of costs that no network satisfies are
      detected only by MAX_REJECTIONS rejections in a row.

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
            raise BudgetError(f"{constraints} needs measured latencies, which are missing here; drop ms_per_image")
        self.space, self.constraints, self.side, self.classes = space, constraints, side, classes
        self._measure = measure
        self._metrics = list(constraints.integer_bounds) or ["gmacs"]
        self._cost_range: list[tuple[int, int]] = []  # by metric; empty where there is no decision diagram
        self._counts = self._feasible_counts()

    @property
    def counting(self) -> Literal["exact", "rejection"]:
        return "rejection" if self._counts is None else "exact"

    @property
    def size(self) -> int:
        """Number of feasible networks, latency aside; with `rejection`, of all networks of the space."""
        return self.space.size if self._counts is None else self._counts.total

    @property
    def summary(self) -> str:
        """The number of feasible networks, or the reason why it is not known, in words."""
        if self._counts is None:
            return f"too many networks to count those within {self.constraints}; each sampled one is checked instead"
        share = self.size / self.space.size
        return f"{self.size:,} networks are within {self.constraints}, {share:.3%} of the space"

    def walk(self, choose: Chooser) -> Walked:
        """Return a feasible network and its decisions, which `space.replay` takes.

        `choose` is called for every decision of the space, with the number of feasible networks behind each option.
        Raises BudgetError where `choose` returns an option of size 0, and after MAX_REJECTIONS walks in a row that end
        at an infeasible network.
        """
        for _ in range(MAX_REJECTIONS):
            walked = self.space.walk(choose) if self._counts is None else self._walk(self._counts, choose)
            if (self._counts or self._costs_allowed(walked[0])) and self._latency_allowed(walked[0]):
                return walked
        rejected = f"{MAX_REJECTIONS:,} random networks in a row were not within {self.constraints}"
        raise BudgetError("\n".join([f"{rejected}; widen the constraints or narrow the space", *self._ranges()]))

    def _walk(self, counts: FeasibleCounts, choose: Chooser) -> Walked:
        number, cost = counts.start.target, counts.start_cost
        decisions: dict[str, Option] = {}
        while number != TERMINAL:
            node, sizes = counts.nodes[number], counts.sizes(number, cost)
            index = choose(node.name, node.options, sizes)
            decisions[node.name] = node.options[index]
            if not sizes[index]:
                raise BudgetError(f"no network with {node.name}={node.options[index]} is within {self.constraints}")
            number, cost = counts.successor(number, index, cost)
        return self.space.replay(decisions), decisions

    def _costs_allowed(self, net: Net) -> bool:
        try:
            return self.constraints.satisfied_by(flops.count(net, self.side, classes=self.classes))
        except SpecError:
            return False

    def _latency_allowed(self, net: Net) -> bool:
        limit = self.constraints.ms_per_image
        return limit is None or self._measure is None or limit.contains(self._measure(net))

    def _feasible_counts(self) -> FeasibleCounts | None:
        """Return exact counts, or None where the space is too large; BudgetError if no network can be feasible."""
        if self.space.size > MAX_NETWORKS:
            return None
        try:
            diagram = build_diagram(self.space, self.side, classes=self.classes)
        except TooManyNodes:
            return None
        if diagram.start is None:
            next(self.space.walks())[0].grids(self.side)  # raises the SpecError that names the nearest sides
        bounds = [self.constraints.integer_bounds.get(name, (0, UNBOUNDED)) for name in self._metrics]
        counts = FeasibleCounts(diagram, self._edge_cost, bounds)
        self._cost_range = counts.cost_range
        ranges = zip(bounds, self._cost_range, strict=True)
        overlap = all(low <= highest and lowest <= high for (low, high), (lowest, highest) in ranges)
        if not overlap or (counts.exact and not counts.total):
            raise BudgetError(self._infeasible(counts))
        return counts if counts.exact else None

    def _edge_cost(self, edge: Edge) -> CostVector:
        cost = sum((flops.piece_cost(p.piece, p.side) * p.times for p in edge.pieces), flops.ZERO)
        by_name = {"gmacs": cost.macs, "mparams": cost.params}
        return tuple(by_name[name] for name in self._metrics)

    def _infeasible(self, counts: FeasibleCounts) -> str:
        """The error message for constraints that no network satisfies."""
        lines = self._ranges()
        others = " that satisfies the other constraints" if len(lines) > 1 else ""
        for metric, name in enumerate(self._metrics if counts.exact else ()):
            below, above = (_in_units(cost, name) for cost in counts.nearest(metric))
            lines[metric] += f"; the nearest{others}: {below} below, {above} above"
        return "\n".join([f"no network of the space is within {self.constraints} at side {self.side}", *lines])

    def _ranges(self) -> list[str]:
        """The range of each constrained cost over all networks of the space, as far as it is known."""
        ranges = zip(self.constraints.integer_bounds, self._cost_range, strict=False)
        return [f"{name} ranges from {_in_units(low, name)} to {_in_units(high, name)}" for name, (low, high) in ranges]


def _in_units(cost: int | None, metric: str) -> str:
    return "none" if cost is None else f"{cost / METRICS[metric]:.12g}"
