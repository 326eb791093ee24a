"""Spaces with known accuracies for benchmarks of samplers: NAS-Bench-Macro, and synthetic accuracies.

`macro` is NAS-Bench-Macro (Su et al. 2021): 6,561 networks of 8 layers with 3 choices each, trained three times on
CIFAR-10. `toy` is a conditional space of our language with counted multiply-adds and synthetic accuracies: for every
seed other random effects of each decision, of some pairs of decisions, and of cost.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hiri_search.cost.flops import count
from hiri_search.cost.pareto import hypervolume, pareto_mask
from hiri_search.language import Net, parse
from hiri_search.language.space import Decisions
from hiri_search.study.search.search_space import all_options

TABLE = Path(__file__).parents[2] / "shared" / "data" / "nas_bench_macro" / "nas-bench-macro_cifar10.csv"

# Eight stages with three choices each: as depths, which are ordered numbers, or as stage types, which have no order.
LAYERS = {"numbers": "hr(64 e=4{})*1..3", "words": "(hr | cffn | t)(64 e=4{})"}
MACRO = {name: " -> ".join(text.format(" s=1" * (layer > 3)) for layer in range(8)) for name, text in LAYERS.items()}
CHOICES = {"Hr": 0, "Cffn": 1, "Transformer": 2}
TOY = (
    "(hr | cffn)(32 e=2|4)*1..3 -> (hr | cffn | t(d=32|64))(64 e=2|4)*1..2"
    " -> (cffn | t)(128|192 e=2|4)*1..3 -> t(256 e=2|4)*1..2"
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A space with the accuracies and costs of all its networks."""

    spec: str
    index: Callable[[Net], int]  # of a network in the arrays below
    observed: Floats  # accuracy of one training, per network
    true: Floats  # mean accuracy of all trainings, per network
    gmacs: Floats
    mparams: Floats

    @property
    def reference(self) -> tuple[float, float]:
        return float(-self.true.min()), float(self.gmacs.max())

    def share(self, indices: npt.NDArray[np.int64]) -> float:
        """Return the hypervolume of these networks, divided by that of the true front."""
        return hypervolume(self.points[indices], self.reference) / self.front_hypervolume

    @cached_property
    def points(self) -> Floats:
        return np.stack([-self.true, self.gmacs], axis=1)

    @cached_property
    def front_hypervolume(self) -> float:
        return hypervolume(self.points[pareto_mask(self.points)], self.reference)

    def shares(self, proposed: list[int]) -> Iterator[float]:
        """Yield the share after every trial."""
        front: list[int] = []
        share = 0.0
        for index in proposed:
            if not any(self.true[i] >= self.true[index] and self.gmacs[i] <= self.gmacs[index] for i in front):
                front.append(index)
                share = self.share(np.array(front))
            yield share


@lru_cache
def macro_columns(path: Path) -> tuple[dict[str, int], dict[str, Floats]]:
    """Return the index of each architecture of NAS-Bench-Macro, and the columns of numbers by name."""
    with path.open() as file:
        lines = list(csv.DictReader(file))
    names = ("mean_acc", "acc1", "acc2", "acc3", "params", "flops")
    return {line["arch"]: i for i, line in enumerate(lines)}, {n: np.array([float(r[n]) for r in lines]) for n in names}


def macro(path: Path, written: str, seed: int) -> Problem:
    """Return NAS-Bench-Macro; `seed` selects the observed training."""
    indices, columns = macro_columns(path)

    def index(net: Net) -> int:
        choices = (s.depth - 1 if written == "numbers" else CHOICES[type(s).__name__] for s in net.stages)
        return indices["".join(map(str, choices))]

    observed = columns[f"acc{seed % 3 + 1}"]
    gmacs, mparams = columns["flops"] / 1e9, columns["params"] / 1e6
    return Problem(MACRO[written], index, observed, columns["mean_acc"], gmacs, mparams)


@lru_cache
def _toy_walks() -> tuple[dict[str, int], list[Decisions], Floats]:
    """Return indices by key, decisions, and gmacs and mparams of every network."""
    walks = list(parse(TOY).walks())
    costs = [count(net, 128) for net, _ in walks]
    numbers = np.array([[cost.macs / 1e9, cost.params / 1e6] for cost in costs])
    return {net.key: i for i, (net, _) in enumerate(walks)}, [decisions for _, decisions in walks], numbers


def toy(seed: int) -> Problem:
    """Return synthetic accuracies between 70 and 90 percent, from random effects of the decisions and the cost."""
    indices, walks, costs = _toy_walks()
    rng = np.random.default_rng(seed)
    options = [(name, option) for name, own in sorted(all_options(parse(TOY)).items()) for option in own]
    taken = np.array([[walk.get(name) == option for name, option in options] for walk in walks], dtype=float)
    pairs = np.array([taken[:, a] * taken[:, b] for a, b in combinations(range(len(options)), 2)][::7]).T
    effects = taken @ rng.normal(size=taken.shape[1]) + pairs @ rng.normal(scale=0.5, size=pairs.shape[1])
    quality = effects / effects.std() + 2.0 * _scaled(np.log(costs[:, 0]))
    true = 90.0 - 20.0 / (1 + np.exp(quality))
    observed = true + rng.normal(scale=0.2, size=len(true))
    return Problem(TOY, lambda net: indices[net.key], observed, true, costs[:, 0], costs[:, 1])


def _scaled(column: Floats) -> Floats:
    scaled: Floats = (column - column.mean()) / column.std()
    return scaled
