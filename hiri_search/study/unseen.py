"""What is left of a space: the same walk, past the networks that were asked for already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, TypeAlias

from hiri_search.language import Chooser, Net, uniform
from hiri_search.language.tree import Options

Decisions: TypeAlias = Mapping[str, int]
Walked: TypeAlias = tuple[Net, dict[str, int]]

IDLE_WALKS = 100  # in a row that took no new option: there are no others


class Walkable(Protocol):
    """A space, or one inside a budget: an option of size 0 is forbidden."""

    @property
    def size(self) -> int:
        """How many networks there are, as far as that is known."""

    def recorded(self, choose: Chooser) -> Walked:
        """One network, and the decisions that led to it; `choose` may be asked for more than one walk."""


@dataclass(slots=True)  # there are many: a search of 10,000 networks has 200,000
class _Node:
    """What was asked for behind some decisions."""

    taken: int = 0  # networks
    used_up: bool = False
    behind: dict[int, _Node] = field(default_factory=dict)


NOTHING = _Node()


class Unseen:
    """The networks of a space that were not asked for yet."""

    def __init__(self, space: Walkable) -> None:
        self.space = space
        self.options: dict[str, Options] = {}  # of every decision met so far
        self._root = _Node()

    @property
    def used_up(self) -> bool:
        """Whether there is no other network."""
        return self._root.used_up

    def walk(self, decisions: Decisions) -> Walked:
        """The network of these decisions, asked for or not; the decisions in the order they are made."""
        return self.space.recorded(lambda name, options, sizes: decisions[name])

    def add(self, decisions: Decisions) -> Walked:
        """The network of these decisions, which is asked for herewith."""
        path: list[tuple[_Node, tuple[int, ...]]] = []
        node = self._root

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            nonlocal node
            self.options[name] = options
            path.append((node, sizes))
            node = node.behind.setdefault(decisions[name], _Node())
            return decisions[name]

        walked = self.space.recorded(choose)
        node.taken, node.used_up = 1, True
        for above, sizes in reversed(path):
            above.taken += 1
            above.used_up = node.used_up and not any(_left(above, sizes, sizes))  # behind this one there may be more
            node = above
        return walked

    def recorded(self, choose: Chooser, rng: Random) -> Walked:
        """A network that was not asked for; `choose` sees how many such are behind each option, 0 where none is.

        By chance where those of `choose` lead out of a budget that is known at the end of a walk alone.
        """
        node, total, met = self._root, self.space.size, set[str]()
        again = uniform(rng)

        def narrowed(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            nonlocal node, total, met, choose
            if name in met:  # the walk ended outside, and another begins
                node, total, met, choose = self._root, self.space.size, set(), again
            met.add(name)
            self.options[name] = options
            absolute = [total * size // sum(sizes) for size in sizes]
            index = choose(name, options, _left(node, absolute, sizes))
            node, total = node.behind.get(index, NOTHING), absolute[index]
            return index

        return self.space.recorded(narrowed)


def _left(node: _Node, absolute: Sequence[int], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Networks not asked for; sizes may be estimates, but whether there is one at all is sure."""
    behind = [node.behind.get(index, NOTHING) for index in range(len(sizes))]
    return tuple(
        0 if not size or child.used_up else max(1, whole - child.taken)
        for size, whole, child in zip(sizes, absolute, behind, strict=True)
    )


# ---- choosers


def first(name: str, options: Options, sizes: tuple[int, ...]) -> int:
    """The first option that is allowed."""
    return next(index for index, size in enumerate(sizes) if size)


def near(wanted: int, options: Options, sizes: tuple[int, ...], rng: Random) -> int:
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
        return draw(name, options, others) if name == changed and any(others) else near(old, options, sizes, rng)

    return choose


def covering(space: Walkable) -> Iterator[Walked]:
    """Networks that take every option at least once."""
    taken: Counter[tuple[str, int]] = Counter()

    def rarest(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        index = min((i for i, size in enumerate(sizes) if size), key=lambda i: taken[name, i])
        taken[name, index] += 1
        return index

    idle = 0
    while idle < IDLE_WALKS:
        known = len(taken)
        walked = space.recorded(rarest)
        idle = 0 if len(taken) > known else idle + 1
        if not idle or not walked[1]:
            yield walked
        if not walked[1]:
            return  # the space is one network
