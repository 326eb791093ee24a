"""How fast networks are counted by their pieces, beside one fvcore pass over each whole network.

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
from hiri_search.language import Net, sample
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.nets.pieces import placed_pieces
from hiri_search.study.config.read import read_space

SPACE = Path(__file__).parent.parent / "spaces" / "five_stage.yaml"


def timed(work: Callable[[], Cost]) -> tuple[float, Cost]:
    """Seconds that the work took, and what came out."""
    started = time.perf_counter()
    cost = work()
    return time.perf_counter() - started, cost


def whole(net: Net, side: int) -> Cost:
    """What a network costs without any knowledge of pieces."""
    return count_module(build_hirivit(net), (3, side, side))


def rows(nets: list[Net], side: int, passes: int) -> Iterator[tuple[str, int, float, float]]:
    """What was done, on how many networks, seconds in all, and the median in milliseconds of one."""
    whole(nets[0], side)  # torch and fvcore warm up outside of every row
    first = [timed(lambda net=net: count(net, side)) for net in nets]  # type: ignore[misc]
    again = [timed(lambda net=net: count(net, side)) for net in nets]  # type: ignore[misc]
    passed = [timed(lambda net=net: whole(net, side)) for net in nets[:passes]]  # type: ignore[misc]
    if [cost for _, cost in passed] != [cost for _, cost in first[:passes]]:
        sys.exit("the pieces do not add up to the whole network")
    works = {
        "by pieces, nothing known": first,
        "by pieces, a second time": again,
        "whole, built and passed through fvcore": passed,
    }
    for name, results in works.items():
        seconds = [spent for spent, _ in results]
        yield name, len(results), sum(seconds), 1000 * median(seconds)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--space", type=Path, default=SPACE, help="a file of spaces/")
    parser.add_argument("--side", type=int, default=448, help="pixels of the square input")
    parser.add_argument("--networks", type=int, default=1000, help="how many are sampled")
    parser.add_argument("--passes", type=int, default=3, help="how many of them also get a pass over the whole")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    space, rng = read_space(given.space), Random(given.seed)
    nets = [sample(space, rng) for _ in range(given.networks)]
    pieces = {(placed.piece, placed.side) for net in nets for placed in placed_pieces(net, given.side)}
    table = list(rows(nets, given.side, given.passes))
    print(f"{given.space.name}: {space.size:,} networks; {len(nets):,} sampled, {len(pieces)} distinct pieces;")
    print(f"side {given.side}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| counted | networks | seconds in all | median ms of one |")
    print("|-|-:|-:|-:|")
    for name, networks, seconds, milliseconds in table:
        print(f"| {name} | {networks:,} | {seconds:.2f} | {milliseconds:.3f} |")
    (_, _, by_pieces, _), _, (_, passes, by_passes, _) = table
    print(f"\nIn the mean {by_passes / passes * len(nets) / by_pieces:.0f} times as fast as whole networks.")


if __name__ == "__main__":
    main()
