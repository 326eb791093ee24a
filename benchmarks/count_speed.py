"""Speed of counting networks piece by piece, compared with one fvcore pass over each whole network.

python benchmarks/count_speed.py --help
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from statistics import median

import torch

from hiri_search.cost.flops import Cost, count, count_module
from hiri_search.language import Net, Space, sample
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.nets.pieces import placed_pieces
from hiri_search.study.config.read import read_space

SPACE = Path(__file__).parent.parent / "spaces" / "five_stage.yaml"


def timed(work: Callable[[], Cost]) -> tuple[float, Cost]:
    """Return the seconds that the work takes, and its result."""
    started = time.perf_counter()
    cost = work()
    return time.perf_counter() - started, cost


def whole(net: Net, side: int) -> Cost:
    """Return the cost of a network, counted as one module."""
    return count_module(build_hirivit(net), (3, side, side))


def rows(nets: list[Net], side: int, passes: int) -> Iterator[tuple[str, int, float, float]]:
    """Yield the kind of counting, the number of networks, total seconds, and median milliseconds per network."""
    whole(nets[0], side)  # warm up torch and fvcore before the first row
    first = [timed(lambda net=net: count(net, side)) for net in nets]  # type: ignore[misc]
    second = [timed(lambda net=net: count(net, side)) for net in nets]  # type: ignore[misc]
    whole_networks = [timed(lambda net=net: whole(net, side)) for net in nets[:passes]]  # type: ignore[misc]
    if [cost for _, cost in whole_networks] != [cost for _, cost in first[:passes]]:
        sys.exit("the pieces do not add up to the whole network")
    measured = {
        "by pieces, empty cache": first,
        "by pieces, a second time": second,
        "whole network, built and counted by fvcore": whole_networks,
    }
    for name, results in measured.items():
        seconds = [duration for duration, _ in results]
        yield name, len(results), sum(seconds), 1000 * median(seconds)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--space", type=Path, default=SPACE, help="a space file")
    parser.add_argument("--side", type=int, default=448, help="pixels of the square input")
    parser.add_argument("--networks", type=int, default=1000, help="number of sampled networks")
    parser.add_argument("--passes", type=int, default=3, help="number of networks also counted as a whole")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    space, rng = read_space(options.space), Random(options.seed)
    assert isinstance(space, Space)
    nets = [sample(space, rng) for _ in range(options.networks)]
    pieces = {(placed.piece, placed.side) for net in nets for placed in placed_pieces(net, options.side)}
    table = list(rows(nets, options.side, options.passes))
    print(f"{options.space.name}: {space.size:,} networks; {len(nets):,} sampled, {len(pieces)} distinct pieces;")
    print(f"side {options.side}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| counted | networks | total seconds | median ms per network |")
    print("|-|-:|-:|-:|")
    for name, networks, seconds, milliseconds in table:
        print(f"| {name} | {networks:,} | {seconds:.2f} | {milliseconds:.3f} |")
    (_, _, by_pieces, _), _, (_, passes, by_passes, _) = table
    print(f"\nOn average {by_passes / passes * len(nets) / by_pieces:.0f} times as fast as counting whole networks.")


if __name__ == "__main__":
    main()
