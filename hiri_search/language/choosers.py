"""Choosers, which select the options of a walk through a space: uniform, first, nearest, mutated, covering."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from hiri_search.language.space import AnyNetwork, Chooser, Decisions, NetworkSpace, SearchSpace, Walked
from hiri_search.language.syntax_tree import Options

if TYPE_CHECKING:
    from random import Random

_MAX_IDLE_WALKS = 100  # consecutive walks without a new option, after which all options count as covered


def uniform(rng: Random) -> Chooser:
    """Return a chooser under which all networks of a space are equally likely."""

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        *_, total = bounds = list(accumulate(sizes))
        return bisect_right(bounds, rng.randrange(total))  # integers only, so exact for a space of any size

    return choose


def sample(space: NetworkSpace[AnyNetwork], rng: Random) -> AnyNetwork:
    """Return a random network; all networks of the space are equally likely."""
    return space.decide(uniform(rng))


def first(name: str, options: Options, sizes: tuple[int, ...]) -> int:
    """Choose the first allowed option."""
    return next(index for index, size in enumerate(sizes) if size)


def nearest(wanted: int, options: Options, sizes: tuple[int, ...], rng: Random) -> int:
    """Choose option `wanted` if it is allowed, else the nearest number, or a random word."""
    if sizes[wanted]:
        return wanted
    if isinstance(options[0], str):
        return uniform(rng)("", options, sizes)
    return min((i for i, size in enumerate(sizes) if size), key=lambda i: abs(i - wanted))


def mutated(decisions: Decisions, rng: Random) -> Chooser:
    """Return a chooser for a mutation: one random decision changes and the others keep their options.

    Decisions that exist only after the change are random; decisions that no longer exist are dropped.
    """
    changed = rng.choice(list(decisions))
    draw = uniform(rng)

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        if name not in decisions:
            return draw(name, options, sizes)
        old = options.index(decisions[name])
        without_old = (*sizes[:old], 0, *sizes[old + 1 :])
        if name == changed and any(without_old):
            return draw(name, options, without_old)
        return nearest(old, options, sizes, rng)

    return choose


def noting(options_of: dict[str, Options], decisions: Decisions) -> Chooser:
    """Return a chooser that takes these decisions, and notes the options of each."""

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        options_of[name] = options
        return options.index(decisions[name])

    return choose


def covering(space: SearchSpace) -> Iterator[Walked]:
    """Yield networks that together take every option of the space at least once."""
    uses: Counter[tuple[str, int]] = Counter()

    def least_used(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        index = min((i for i, size in enumerate(sizes) if size), key=lambda i: uses[name, i])
        uses[name, index] += 1
        return index

    idle = 0
    while idle < _MAX_IDLE_WALKS:
        covered = len(uses)
        net, decisions = space.walk(least_used)
        idle = 0 if len(uses) > covered else idle + 1
        if not idle or not decisions:
            yield net, decisions
        if not decisions:
            return  # the space has only one network
