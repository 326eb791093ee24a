"""Sampling without replacement: a prefix tree of the networks already asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from hiri_search.language import Chooser, uniform
from hiri_search.language.space import Decisions, SearchSpace, Walked
from hiri_search.language.syntax_tree import Options


@dataclass(slots=True)  # memory matters: a search of 10,000 networks has 200,000 nodes
class _Node:
    """Visited networks that share their first decisions."""

    visited: int = 0  # number of networks
    exhausted: bool = False
    children: dict[int, _Node] = field(default_factory=dict)  # by option index of the next decision


_EMPTY = _Node()


class UnvisitedSpace:
    """Networks of a space that a search has not asked for yet."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.options: dict[str, Options] = {}  # of every decision met so far
        self._root = _Node()

    @property
    def exhausted(self) -> bool:
        """True when every network of the space has been visited."""
        return self._root.exhausted

    def add(self, decisions: Decisions) -> Walked:
        """Mark the network of these decisions as visited; return it, and the decisions in the order of the walk."""
        path: list[tuple[_Node, tuple[int, ...]]] = []
        node = self._root

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            nonlocal node
            self.options[name] = options
            path.append((node, sizes))
            node = node.children.setdefault(index := options.index(decisions[name]), _Node())
            return index

        walked = self.space.walk(choose)
        node.visited, node.exhausted = 1, True
        for parent, sizes in reversed(path):
            parent.visited += 1
            parent.exhausted = node.exhausted and not any(_unvisited_sizes(parent, sizes, sizes))
            node = parent
        return walked

    def walk(self, choose: Chooser, rng: Random) -> Walked:
        """Walk to an unvisited network; `choose` sees the number of unvisited networks of each option, or 0.

        Where a budget rejects the walk only at its end, further walks choose uniformly at random.
        """
        node, total, met = self._root, self.space.size, set[str]()
        at_random = uniform(rng)

        def narrowed(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            nonlocal node, total, met, choose
            if name in met:  # the budget has rejected the walk, and another begins
                node, total, met, choose = self._root, self.space.size, set(), at_random
            met.add(name)
            self.options[name] = options
            absolute = [total * size // sum(sizes) for size in sizes]
            index = choose(name, options, _unvisited_sizes(node, absolute, sizes))
            node, total = node.children.get(index, _EMPTY), absolute[index]
            return index

        return self.space.walk(narrowed)


def _unvisited_sizes(node: _Node, absolute: Sequence[int], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of unvisited networks of each option: an estimate, but 0 exactly where none is left."""
    children = [node.children.get(index, _EMPTY) for index in range(len(sizes))]
    return tuple(
        0 if not size or child.exhausted else max(1, whole - child.visited)
        for size, whole, child in zip(sizes, absolute, children, strict=True)
    )
