"""Ways to walk a space: uniform, first, nearest, mutated, covering."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from hiri_search.language.net import Net
from hiri_search.language.syntax_tree import Options

if TYPE_CHECKING:
    from random import Random

from collections import Counter
from random import Random

from hiri_search.language.space import Chooser, Decisions, SearchSpace, Space, Walked


def uniform(rng: Random) -> Chooser:
    """The chooser that makes every network of a space as likely as any other."""

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        *_, total = bounds = list(accumulate(sizes))
        return bisect_right(bounds, rng.randrange(total))  # in whole numbers: exact for any size

    return choose


def sample(space: Space, rng: Random) -> Net:
    """One network, every one as likely as any other."""
    return space.decide(uniform(rng))


MAX_IDLE_WALKS = 100  # in a row that took no new option: there are no others


def first(name: str, options: Options, sizes: tuple[int, ...]) -> int:
    """The first option that is allowed."""
    return next(index for index, size in enumerate(sizes) if size)


def nearest(wanted: int, options: Options, sizes: tuple[int, ...], rng: Random) -> int:
    """What is wanted, where it is allowed; else the nearest number, or another word by chance."""
    if sizes[wanted]:
        return wanted
    if isinstance(options[0], str):
        return uniform(rng)("", options, sizes)
    return min((i for i, size in enumerate(sizes) if size), key=lambda i: abs(i - wanted))


def mutated(decisions: Decisions, rng: Random) -> Chooser:
    """One decision made otherwise, the others kept; those that appear are made by chance, those that vanish dropped."""
    changed = rng.choice(list(decisions))
    draw = uniform(rng)

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        if name not in decisions:
            return draw(name, options, sizes)
        old = decisions[name]
        others = (*sizes[:old], 0, *sizes[old + 1 :])
        return draw(name, options, others) if name == changed and any(others) else nearest(old, options, sizes, rng)

    return choose


def covering(space: SearchSpace) -> Iterator[Walked]:
    """Networks that take every option at least once."""
    taken: Counter[tuple[str, int]] = Counter()

    def rarest(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        index = min((i for i, size in enumerate(sizes) if size), key=lambda i: taken[name, i])
        taken[name, index] += 1
        return index

    idle = 0
    while idle < MAX_IDLE_WALKS:
        known = len(taken)
        walked = space.walk(rarest)
        idle = 0 if len(taken) > known else idle + 1
        if not idle or not walked[1]:
            yield walked
        if not walked[1]:
            return  # the space is one network
