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
from hiri_search.cost.budget.decision_diagram import END, Edge, TooManyNodes, build_diagram
from hiri_search.cost.budget.feasible_counts import MAX_NETWORKS, FeasibleCounts
from hiri_search.language import Chooser, Net, Space, SpecError, uniform
from hiri_search.language.space import Walked

MAX_REJECTIONS = 10_000  # walks in a row that ended outside

Measure = Callable[[Net], float]


class BudgetError(ValueError):
    """A budget that no network keeps, or an answer that leads out of it."""


class ConstrainedSpace:
    """The networks of a space that lie in a band, at one side.

    `counting` says how the networks inside are told from the others, before any time is measured:
    - `exact`: every number is exact, and every walk ends inside. So for all spaces up to some 10^9 networks.
    - `rounded`: numbers are somewhat too high, but 0 where no network inside was found; all walks end inside still.
    - `drawn`: the space has more decisions than can be charted, or over 10^18 networks; walks are those of the space,
      with its sizes, until one ends inside, and a band that nothing fits is found out by giving up.

    A limit on `ms_per_image` is kept by measuring: walks are repeated until the network found keeps it, and no number
    knows of it. Networks that do not fit the side are outside every band.
    """

    def __init__(
        self,
        space: Space,
        band: CostConstraints,
        side: int,
        *,
        classes: int = 1000,
        measure: Measure | None = None,
    ) -> None:
        """`measure` gives ms per image. Counting what no network has been counted for before takes most of the time.

        BudgetError where no network of the space lies in the band, time apart; SpecError where none fits the side.
        """
        if band.ms_per_image and measure is None:
            raise BudgetError(f"{band} needs networks to be timed, and nothing here can; leave ms_per_image out")
        self.space, self.constraints, self.side, self.classes = space, band, side, classes
        self._measure = measure
        self._metrics = list(band.counted) or ["gmacs"]
        self._inside = self._charted()
        self._walks = self._kept = 0

    @property
    def counting(self) -> Literal["exact", "rounded", "drawn"]:
        if self._inside is None:
            return "drawn"
        return "exact" if self._inside.exact else "rounded"

    @property
    def size(self) -> int:
        """How many networks are inside; nothing is known of their time.

        If `rounded`, the middle between what is sure and what is possible; if `drawn`, what the walks of `sample` so
        far let expect, and before the first all of the space.
        """
        if self._inside is None:
            return round(self.space.size * self.acceptance)
        most = self._inside.count(self._inside.start.to, self._inside.spent)
        return (self._inside.lower_bound() + most + 1) // 2

    @property
    def share(self) -> float:
        """The networks inside, over those of the space."""
        return self.size / self.space.size

    @property
    def acceptance(self) -> float:
        """The share of the walks of `sample` so far that ended inside; 1 before the first, and always if `exact`."""
        return self._kept / self._walks if self._walks else 1.0

    def holds(self, net: Net) -> bool:
        """Whether a network is inside, counted and, where there is a limit, timed."""
        return self._affordable(net) and self._fast(net)

    def decide(self, choose: Chooser) -> Net:
        """One network inside; `choose` is asked what the space asks, with the networks inside behind each option."""
        return self.walk(choose)[0]

    def walk(self, choose: Chooser) -> Walked:
        """One network inside, and the decisions that led to it: what `space.replay` takes.

        BudgetError where `choose` takes an option of size 0, and where many walks in a row have ended outside: by
        their time, or if `drawn`.
        """
        for _ in range(MAX_REJECTIONS):
            found = self.space.walk(choose) if self._inside is None else self._walk(self._inside, choose)
            if self._is_inside(found[0]):
                return found
        raise self._gave_up()

    def sample(self, rng: Random) -> Net:
        """One network inside, every one as likely as any other: whatever `counting` is."""
        return self.sample_by_rejection(rng)[0]

    def sample_by_rejection(self, rng: Random) -> Walked:
        """One network inside as by `sample`, and the decisions that led to it."""
        for _ in range(MAX_REJECTIONS):
            self._walks += 1
            found = self.space.walk(uniform(rng)) if self._inside is None else self._draw(self._inside, rng)
            if found and self._is_inside(found[0]):
                self._kept += 1
                return found
        raise self._gave_up()

    def walks(self) -> Iterator[Walked]:
        """Every network inside once, with its decisions, in the order of the space's listing."""
        listed = self.space.walks() if self._inside is None else self._listed(self._inside)
        return (found for found in listed if self._is_inside(found[0]))

    def __iter__(self) -> Iterator[Net]:
        """Every network inside once, in the order of `walks`."""
        return (net for net, _ in self.walks())

    def _is_inside(self, net: Net) -> bool:
        """For the end of a walk: what is charted has been counted on the way."""
        return (self._inside is not None or self._affordable(net)) and self._fast(net)

    def _affordable(self, net: Net) -> bool:
        try:
            return self.constraints.holds(flops.count(net, self.side, classes=self.classes))
        except SpecError:
            return False

    def _fast(self, net: Net) -> bool:
        limit = self.constraints.ms_per_image
        return limit is None or self._measure is None or limit.holds(self._measure(net))

    def _charted(self) -> FeasibleCounts | None:
        if self.space.size > MAX_NETWORKS:
            return None
        try:
            found = build_diagram(self.space, self.side, classes=self.classes)
        except TooManyNodes:
            return None
        if found.start is None:
            next(iter(self.space)).grids(self.side)
        bounds = [self.constraints.counted.get(name, (0, UNBOUNDED)) for name in self._metrics]
        inside = FeasibleCounts(found, self._cost, bounds)
        if not inside.has_feasible(inside.start.to, inside.spent):
            raise BudgetError(self._nothing(inside))
        return inside

    def _cost(self, branch: Edge) -> CostVector:
        cost = sum((flops.piece_cost(p.piece, p.side) * p.times for p in branch.placed), flops.ZERO)
        by_name = {"gmacs": cost.macs, "mparams": cost.params}
        return tuple(by_name[name] for name in self._metrics)

    def _walk(self, inside: FeasibleCounts, choose: Chooser) -> Walked:
        fork, spent = inside.start.to, inside.spent
        decisions: dict[str, int] = {}
        while fork != END:
            asked, sizes = inside.forks[fork], inside.certified_sizes(fork, spent)
            index = decisions[asked.name] = choose(asked.name, asked.options, sizes)
            if not sizes[index]:
                raise BudgetError(f"behind {asked.name}={asked.options[index]} is no network of {self.constraints}")
            fork, spent = inside.after(fork, index, spent)
        return self.space.replay(decisions), decisions

    def _draw(self, inside: FeasibleCounts, rng: Random) -> Walked | None:
        """One network inside, every one by the same chance; with what chance is left, None.

        A fork's number may be higher than those of its branches together. What is missing ends the walk, and so the
        chance of a network is one in the first number, whatever the numbers on the way to it.
        """
        fork, spent = inside.start.to, inside.spent
        total = inside.count(fork, spent)
        decisions: dict[str, int] = {}
        while fork != END:
            sizes = inside.sizes(fork, spent)
            index = bisect_right(list(accumulate(sizes)), rng.randrange(total))
            if index == len(sizes):
                return None
            decisions[inside.forks[fork].name] = index
            total = sizes[index]
            fork, spent = inside.after(fork, index, spent)
        return self.space.replay(decisions), decisions

    def _listed(self, inside: FeasibleCounts) -> Iterator[Walked]:
        stack: list[tuple[int, CostVector, tuple[tuple[str, int], ...]]] = [(inside.start.to, inside.spent, ())]
        while stack:
            fork, spent, made = stack.pop()
            if fork == END:
                decisions = dict(made)
                yield self.space.replay(decisions), decisions
                continue
            name, sizes = inside.forks[fork].name, inside.sizes(fork, spent)  # 0 sooner or later where none is inside
            ahead = [(*inside.after(fork, index, spent), (*made, (name, index))) for index, n in enumerate(sizes) if n]
            stack.extend(reversed(ahead))

    def _nothing(self, inside: FeasibleCounts) -> str:
        """What to say of a band that nothing lies in."""
        lines = [f"no network of the space lies in {self.constraints} at side {self.side}"]
        rest = " within the rest of the band" if len(self._metrics) > 1 else ""
        for metric, name in enumerate(self._metrics):
            unit = METRICS[name]
            low, high = (f"{end / unit:.12g}" for end in inside.reach[metric])
            near = _near(inside.nearest(metric), unit)
            lines.append(f"{name} reaches from {low} to {high}; the nearest{rest}: {near}")
        return "\n".join(lines)

    def _gave_up(self) -> BudgetError:
        return BudgetError(
            f"{MAX_REJECTIONS:,} random networks in a row were outside {self.constraints}; widen the constraints"
            " or narrow the space"
        )


def _near(nearest: tuple[int | None, int | None], unit: int) -> str:
    below, above = ("none" if end is None else f"{end / unit:.12g}" for end in nearest)
    return f"{below} below, {above} above"
