"""A space restricted to a cost budget: size, and walks to feasible networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Literal

from hiri_search.cost import flops
from hiri_search.cost.budget.constraints import METRICS, UNBOUNDED, CostConstraints
from hiri_search.cost.budget.decision_diagram import TERMINAL, DecisionDiagram, Edge, build_diagram, listed_diagram
from hiri_search.cost.budget.feasible_counts import CostVector, FeasibleCounts
from hiri_search.language import Chooser, Network, SpecError, TimmNetwork, TimmSpace, uniform
from hiri_search.language.choosers import noting
from hiri_search.language.dense_network import InputSize, square_side
from hiri_search.language.relations.related_space import AnySpace, RelatedSpace
from hiri_search.language.relations.remainders import TooManyStates
from hiri_search.language.space import Decisions, Walked
from hiri_search.language.syntax_tree import Option, Options
from hiri_search.system.concurrency import with_progress

MAX_NETWORKS = 2**62  # of a space with exact counts: they fit into NumPy's integers
MAX_COUNTED = 1_000  # networks of timm, each of which is built and counted; about a third of a second each
MAX_REJECTIONS = 10_000  # in a row, before a walk gives up
ACCEPTANCE_SAMPLE, ACCEPTANCE_SECONDS = 200, 10.0  # random networks for an estimated share, and the time for them
_SAY_SECONDS = 10.0  # between two messages of progress

Measure = Callable[[Network], float]


class BudgetError(ValueError):
    """No network of the space satisfies the constraints, or a decision leads to no such network."""


class ConstrainedSpace:
    """The feasible networks of a space: those that fit the side and satisfy cost constraints there.

    `counting` says how feasible networks are counted, latency aside:
    - `exact`: every walk ends at a feasible network. The mode of all spaces of up to about 10^9 networks, and of spaces
      of timm of up to MAX_COUNTED networks: the costs of these are no sums, so that each one is built and counted.
    - `rejection`: the space is too large for exact counts, or a method is on its networks. The counts are those of the
      whole space, and walks are repeated until one ends at a feasible network. Constraints within the range of costs
      that no network satisfies are detected only by MAX_REJECTIONS rejections in a row.

    A limit on `ms_per_image` is checked by measurement: walks are repeated until the latency of the network is within
    the limit. No count takes latency into account.
    """

    def __init__(
        self,
        space: AnySpace,
        constraints: CostConstraints,
        side: InputSize,
        *,
        classes: int = 1000,
        under: Callable[[Network], Network] | None = None,
        measure: Measure | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Count the costs of all pieces; most of the time goes into pieces that are not in the cache.

        `under` returns the network that is counted for a backbone of the space: that of a method of detection or
        segmentation. Its costs are no sums over stages, so that the counting is by rejection. `say` takes the progress
        of long counts; `measure` returns ms per image. Raises BudgetError where no network of
        the space is feasible, latency aside, and SpecError where none fits the side.
        """
        if constraints.ms_per_image and measure is None:
            raise BudgetError(f"{constraints} needs measured latencies, which are missing here; drop ms_per_image")
        self.space, self.constraints, self.side, self.classes = space, constraints, side, classes
        self._unrelated = space.space if isinstance(space, RelatedSpace) else space
        self._under, self._measure, self._say = under, measure, say
        self._misfits = 0  # networks of timm that cannot be built or counted
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
        """The number of feasible networks, or an estimated share, in words; those of a RelatedSpace come before it."""
        if self._counts is None:
            unknown = (
                "networks under a method are not counted in advance" if self._under else "too many networks to count"
            )
            accepted = f"{self._acceptance()} are within {self.constraints}, and the others are rejected"
            return "\n".join([f"{unknown}: {accepted}", *self._ranges()])
        whole = "these" if isinstance(self.space, RelatedSpace) else "the space"
        misfits = f"; {self._misfits:,} cannot be built" if self._misfits else ""
        share = f"{self.size / self.space.size:.3%} of {whole}"
        return f"{self.size:,} networks are within {self.constraints}, {share}{misfits}"

    def _acceptance(self) -> str:
        """The number of random networks that are feasible, latency aside, and of those that were drawn.

        Where there is no decision diagram, their costs stand for those of the whole space.
        """
        rng, started, drawn = Random(0), time.monotonic(), list[flops.Cost | None]()
        while len(drawn) < ACCEPTANCE_SAMPLE and time.monotonic() - started < ACCEPTANCE_SECONDS:
            drawn.append(self._cost(self.space.walk(uniform(rng))[0]))
        costs = [cost for cost in drawn if cost]
        if not self._cost_range:
            columns = zip(*map(self._vector, costs), strict=True)
            self._cost_range = [(min(column), max(column)) for column in columns]
        return f"{sum(map(self.constraints.satisfied_by, costs)):,} of {len(drawn):,} random networks"

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

    def allows(self, network: Network) -> bool:
        """Return whether a network of the space satisfies the constraints, latency included."""
        return self._costs_allowed(network) and self._latency_allowed(network)

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
        return self._unrelated.replay(decisions), decisions

    def _costs_allowed(self, net: Network) -> bool:
        cost = self._cost(net)
        return cost is not None and self.constraints.satisfied_by(cost)

    def _cost(self, net: Network) -> flops.Cost | None:
        """Return the cost of a network of the space; None where it does not fit the side."""
        try:
            return flops.count(self._under(net) if self._under else net, self.side, classes=self.classes)
        except SpecError:
            return None

    def _vector(self, cost: flops.Cost) -> CostVector:
        by_name = {"gmacs": cost.macs, "mparams": cost.params}
        return tuple(by_name[name] for name in self._metrics)

    def _latency_allowed(self, net: Network) -> bool:
        limit = self.constraints.ms_per_image
        return limit is None or self._measure is None or limit.contains(self._measure(net))

    def _feasible_counts(self) -> FeasibleCounts | None:
        """Return exact counts, or None where the space is too large; BudgetError if no network can be feasible."""
        if self.space.size > MAX_NETWORKS or self._under:
            return None
        try:
            diagram = self._diagram()
        except TooManyStates:
            return None
        bounds = [self.constraints.integer_bounds.get(name, (0, UNBOUNDED)) for name in self._metrics]
        counts = FeasibleCounts(diagram, self._edge_cost, bounds)
        self._cost_range = counts.cost_range
        ranges = zip(bounds, self._cost_range, strict=True)
        overlap = all(low <= highest and lowest <= high for (low, high), (lowest, highest) in ranges)
        if not overlap or (counts.exact and not counts.total):
            raise BudgetError(self._infeasible(counts))
        return counts if counts.exact else None

    def _diagram(self) -> DecisionDiagram:
        """Return the decision diagram. TooManyStates; SpecError where no network fits the side."""
        if isinstance(self._unrelated, TimmSpace):
            return self._listed_diagram()
        relations = self.space.pending if isinstance(self.space, RelatedSpace) else None
        side = square_side(self.side)
        diagram = build_diagram(self._unrelated, side, classes=self.classes, relations=relations)
        if diagram.start is None:
            network = next(self.space.walks())[0]
            assert not isinstance(network, TimmNetwork)
            network.grids(side)  # raises the SpecError that names the nearest sides
        return diagram

    def _listed_diagram(self) -> DecisionDiagram:
        """Return the diagram of a space of timm, all of whose networks are counted, without those that do not fit."""
        if self.space.size > MAX_COUNTED:
            raise TooManyStates
        options: dict[str, Options] = {}
        walks: list[tuple[TimmNetwork, Decisions]] = []
        line = f"{{done}} of the {self.space.size:,} networks of the space counted"
        for network, decisions in with_progress(self.space.walks(), self._say, line, every=_SAY_SECONDS):
            assert isinstance(network, TimmNetwork)
            self._unrelated.walk(noting(options, decisions))
            try:
                flops.count(network, self.side, classes=self.classes)
            except SpecError as error:
                self._misfits, misfit = self._misfits + 1, error
            else:
                walks.append((network, decisions))
        if not walks:
            raise misfit
        return listed_diagram(walks, options)

    def _edge_cost(self, edge: Edge) -> CostVector:
        if edge.network:
            cost = flops.count(edge.network, self.side, classes=self.classes)
        else:
            cost = sum((flops.piece_cost(p.piece, p.side) * p.times for p in edge.pieces), flops.ZERO)
        return self._vector(cost)

    def _infeasible(self, counts: FeasibleCounts) -> str:
        """The error message for constraints that no network satisfies."""
        lines = self._ranges()
        others = " that satisfies the other constraints" if len(lines) > 1 else ""
        for metric, name in enumerate(self._metrics if counts.exact else ()):
            below, above = (_in_units(cost, name) for cost in counts.nearest(metric))
            lines[metric] += f"; the nearest{others}: {below} below, {above} above"
        network = f"no network of the space{' that satisfies `where`' if isinstance(self.space, RelatedSpace) else ''}"
        return "\n".join([f"{network} is within {self.constraints} at side {self.side}", *lines])

    def _ranges(self) -> list[str]:
        """The range of each constrained cost over all networks of the space, or over random ones, if it is known."""
        ranges = zip(self.constraints.integer_bounds, self._cost_range, strict=False)
        return [f"{name} ranges from {_in_units(low, name)} to {_in_units(high, name)}" for name, (low, high) in ranges]


def _in_units(cost: int | None, metric: str) -> str:
    return "none" if cost is None else f"{cost / METRICS[metric]:.12g}"
