"""How fast networks inside a budget are sampled, beside drawing from the whole space until one is inside.

python benchmarks/band_sampling.py --help
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

import torch

from hiri_search.cost.budget.constrained_space import ConstrainedSpace
from hiri_search.cost.budget.constraints import CostConstraints, parse_constraints
from hiri_search.cost.flops import count
from hiri_search.language import Net, Space, SpecError, sample
from hiri_search.study.config.read import read_space

SPACES = Path(__file__).parent.parent / "spaces"
CASES = [
    ("five_stage", 448, {"gmacs": "4.875..5.125", "mparams": "..40"}),
    ("five_stage", 448, {"gmacs": "4.875..5.125"}),
    ("five_stage", 448, {"gmacs": "4.5..5.5", "mparams": "..36"}),
    ("five_stage", 448, {"gmacs": "4.98..4.99", "mparams": "34..35"}),
    ("five_stage", 448, {"mparams": "..20"}),
    ("six_stage", 896, {"gmacs": "4.875..5.125", "mparams": "..40"}),
    ("six_stage", 896, {"gmacs": "4.875..5.125"}),
]

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One space inside one band."""

    space: str
    side: int
    band: CostConstraints
    budget: ConstrainedSpace
    prepared: float  # seconds, as the next
    sampled: float
    processor: float  # of both
    plain: float  # milliseconds for one network inside, by drawing from the whole space; nan: none was found


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds that the work took, and what came out."""
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


def row(name: str, side: int, band: CostConstraints, networks: int, draws: int, seed: int) -> Row:
    """A band as a search meets it; then the same by drawing, where every piece has been counted already."""
    space, rng = read_space(SPACES / f"{name}.yaml"), Random(seed)
    processor = time.process_time()
    prepared, budget = timed(lambda: ConstrainedSpace(space, band, side))
    sampled, nets = timed(lambda: [budget.sample(rng) for _ in range(networks)])
    processor = time.process_time() - processor
    if not all(budget.holds(net) for net in nets):
        sys.exit(f"a network outside {band} was sampled")
    seconds, kept = timed(lambda: plain(space, band, side, draws, rng))
    return Row(name, side, band, budget, prepared, sampled, processor, 1000 * seconds / kept if kept else float("nan"))


def plain(space: Space, band: CostConstraints, side: int, draws: int, rng: Random) -> int:
    """How many of so many networks of the space are inside."""
    return sum(affordable(sample(space, rng), band, side) for _ in range(draws))


def affordable(net: Net, band: CostConstraints, side: int) -> bool:
    try:
        return band.holds(count(net, side))
    except SpecError:
        return False


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=10_000, help="how many are sampled inside each band")
    parser.add_argument("--draws", type=int, default=10_000, help="how many are drawn from the whole space beside")
    parser.add_argument("--warm", action="store_true", help="count all pieces before the first row")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.warm:
        for name, side in {(name, side) for name, side, _ in CASES}:
            ConstrainedSpace(read_space(SPACES / f"{name}.yaml"), parse_constraints({"gmacs": "0.."}), side)
    print(f"{given.networks:,} networks a band; torch {torch.__version__}, {torch.get_num_threads()} threads;")
    print(f"ms a network by drawing from the whole space: {given.draws:,} draws, every piece counted before\n")
    print(
        "| space | side | band | inside | share | counting | prepared, s | sampled, s | both, s of processor"
        " | acceptance | ms a network | by drawing | times |"
    )
    print("|-|-:|-|-:|-:|-|-:|-:|-:|-:|-:|-:|-:|")
    for name, side, texts in CASES:
        found = row(name, side, parse_constraints(texts), given.networks, given.draws, given.seed)
        budget, each = found.budget, 1000 * found.sampled / given.networks
        print(
            f"| {name} | {side} | {found.band} | {budget.size:,} | {100 * budget.share:.3g} % | {budget.counting}"
            f" | {found.prepared:.1f} | {found.sampled:.1f} | {found.processor:.1f} | {budget.acceptance:.2f}"
            f" | {each:.2f} | {found.plain:.2f} | {found.plain / each:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
