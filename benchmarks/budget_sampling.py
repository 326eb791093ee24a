"""Speed of sampling networks within a budget, compared with rejection sampling from the whole space.

python benchmarks/budget_sampling.py --help
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
from hiri_search.language import Network, Space, SpecError, sample, uniform
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
    """Timings of one space under one set of constraints."""

    space: str
    side: int
    constraints: CostConstraints
    feasible: ConstrainedSpace
    prepare_seconds: float
    sample_seconds: float
    cpu_seconds: float  # of both together
    share: float  # feasible networks, divided by the networks of the space
    rejection_ms: float  # for one feasible network by rejection sampling; nan: none was found


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds that the work takes, and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def row(name: str, side: int, constraints: CostConstraints, networks: int, draws: int, seed: int) -> Row:
    """Time the constrained space as a search uses it; then rejection sampling, with every piece counted already."""
    space, rng = read_space(SPACES / f"{name}.yaml"), Random(seed)
    assert isinstance(space, Space)
    started = time.process_time()
    prepare_seconds, feasible = timed(lambda: ConstrainedSpace(space, constraints, side))
    sample_seconds, nets = timed(lambda: [feasible.walk(uniform(rng))[0] for _ in range(networks)])
    cpu_seconds = time.process_time() - started
    if not all(is_feasible(net, constraints, side) for net in nets):
        sys.exit(f"a network outside {constraints} was sampled")
    seconds, accepted = timed(lambda: rejection_sampling(space, constraints, side, draws, rng))
    rejection_ms = 1000 * seconds / accepted if accepted else float("nan")
    share = feasible.size / space.size
    return Row(name, side, constraints, feasible, prepare_seconds, sample_seconds, cpu_seconds, share, rejection_ms)


def rejection_sampling(space: Space, constraints: CostConstraints, side: int, draws: int, rng: Random) -> int:
    """Number of feasible networks among `draws` random networks of the space."""
    return sum(is_feasible(sample(space, rng), constraints, side) for _ in range(draws))


def is_feasible(net: Network, constraints: CostConstraints, side: int) -> bool:
    try:
        return constraints.satisfied_by(count(net, side))
    except SpecError:
        return False


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=10_000, help="networks sampled per set of constraints")
    parser.add_argument("--draws", type=int, default=10_000, help="draws of the rejection sampling")
    parser.add_argument("--warm", action="store_true", help="count all pieces before the first row")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.warm:
        for name, side in {(name, side) for name, side, _ in CASES}:
            ConstrainedSpace(read_space(SPACES / f"{name}.yaml"), parse_constraints({"gmacs": "0.."}), side)
    print(f"{args.networks:,} networks a row; torch {torch.__version__}, {torch.get_num_threads()} threads;")
    print(f"rejection: {args.draws:,} draws from the whole space, every piece counted before\n")
    print(
        "| space | side | constraints | feasible | share | counting | prepare, s | sample, s | both, CPU s"
        " | ms a network | ms by rejection | speed-up |"
    )
    print("|-|-:|-|-:|-:|-|-:|-:|-:|-:|-:|-:|")
    for name, side, texts in CASES:
        result = row(name, side, parse_constraints(texts), args.networks, args.draws, args.seed)
        feasible, sample_ms = result.feasible, 1000 * result.sample_seconds / args.networks
        print(
            f"| {name} | {side} | {result.constraints} | {feasible.size:,} | {100 * result.share:.3g} %"
            f" | {feasible.counting} | {result.prepare_seconds:.1f} | {result.sample_seconds:.1f}"
            f" | {result.cpu_seconds:.1f} | {sample_ms:.2f} | {result.rejection_ms:.2f}"
            f" | {result.rejection_ms / sample_ms:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
