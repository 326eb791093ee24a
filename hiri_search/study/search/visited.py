"""Sampling without replacement: a prefix tree of the networks already asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from hiri_search.language import Chooser, uniform
from hiri_search.language.space import Decisions, SearchSpace, Walked
from hiri_search.language.syntax_tree import Options


@dataclass(slots=True)  # there are many: a search of 10,000 networks has 200,000
class _Node:
    """What was asked for behind some decisions."""

    taken: int = 0  # networks
    exhausted: bool = False
    behind: dict[int, _Node] = field(default_factory=dict)


_EMPTY = _Node()


class UnvisitedSpace:
    """The networks of a space that were not asked for yet."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.options: dict[str, Options] = {}  # of every decision met so far
        self._root = _Node()

    @property
    def exhausted(self) -> bool:
        """Whether there is no other network."""
        return self._root.exhausted

    def replay(self, decisions: Decisions) -> Walked:
        """The network of these decisions, asked for or not; the decisions in the order they are made."""
        return self.space.walk(lambda name, options, sizes: decisions[name])

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

        walked = self.space.walk(choose)
        node.taken, node.exhausted = 1, True
        for above, sizes in reversed(path):
            above.taken += 1
            above.exhausted = node.exhausted and not any(
                _left(above, sizes, sizes)
            )  # behind this one there may be more
            node = above
        return walked

    def walk(self, choose: Chooser, rng: Random) -> Walked:
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
            node, total = node.behind.get(index, _EMPTY), absolute[index]
            return index

        return self.space.walk(narrowed)


def _left(node: _Node, absolute: Sequence[int], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Networks not asked for; sizes may be estimates, but whether there is one at all is sure."""
    behind = [node.behind.get(index, _EMPTY) for index in range(len(sizes))]
    return tuple(
        0 if not size or child.exhausted else max(1, whole - child.taken)
        for size, whole, child in zip(sizes, absolute, behind, strict=True)
    )


# ---- choosers
