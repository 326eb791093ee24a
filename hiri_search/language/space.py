"""Space: a set of networks with its size, enumeration and decision walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from hiri_search.language.errors import SpecError
from hiri_search.language.net import _CACHE_SIZE, Net
from hiri_search.language.stages import KINDS, Part, names
from hiri_search.language.syntax_tree import Group, Leaf, Options, Term

if TYPE_CHECKING:
    pass

from typing import Protocol

Chooser: TypeAlias = Callable[[str, Options, tuple[int, ...]], int]
"""choose(name, options, sizes) -> index. The sizes are as the numbers of networks behind each option."""

_Values: TypeAlias = dict[str, int | str]


@dataclass(frozen=True)
class Space:
    """All the networks that a spec writes. Made by `parse`, which has checked every one of them."""

    root: Group

    def __str__(self) -> str:
        return self.root.inside

    @property
    def size(self) -> int:
        """How many networks there are, without listing them."""
        return self.root.size

    def decide(self, choose: Chooser) -> Net:
        """One network; `choose` is asked wherever there is more than one option, always in the same order."""
        parts: list[Part] = []
        _walk(self.root, "", {}, choose, parts)
        return Net.of(parts)

    def walk(self, choose: Chooser) -> tuple[Net, dict[str, int]]:
        """One network, and the decisions that led to it: what `replay` takes."""
        decisions: dict[str, int] = {}

        def kept(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            decisions[name] = choose(name, options, sizes)
            return decisions[name]

        return self.decide(kept), decisions

    def walks(self) -> Iterator[tuple[Net, dict[str, int]]]:
        """Every network once, with its decisions, made when asked for; the last decision turns fastest."""
        turn: list[int] | None = []
        while turn is not None:
            ends: list[bool] = []
            net, decisions = self.walk(_turning(turn, ends))
            turn = _following(list(decisions.values()), ends)
            yield net, decisions

    def __iter__(self) -> Iterator[Net]:
        """Every network once, in the order of `walks`."""
        return (net for net, _ in self.walks())

    def replay(self, decisions: Mapping[str, int]) -> Net:
        """The network of these decisions, an index under each name; SpecError where one is missing."""

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            index = decisions.get(name)
            if index is None or not 0 <= index < len(options):
                raise SpecError(f"{name} is {index}; this space needs an index below {len(options)} there")
            return index

        return self.decide(choose)


def _turning(turn: list[int], ends: list[bool]) -> Chooser:
    """Takes these indices, then first options; notes for each whether it is the last one there."""

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        index = turn[len(ends)] if len(ends) < len(turn) else 0
        ends.append(index + 1 == len(options))
        return index

    return choose


def _following(turn: list[int], ends: list[bool]) -> list[int] | None:
    """The indices of the next network; None behind the last."""
    while ends and ends.pop():
        turn.pop()
    return [*turn[:-1], turn[-1] + 1] if turn else None


def _walk(term: Term, name: str, values: _Values, choose: Chooser, parts: list[Part]) -> None:
    """Add the parts of one network, in order; `name` and `values` are what stands outside the term."""
    if term.given:
        values = dict(values)
        for given in term.given:
            index = _index(name + given.letter, given.options, given.sizes, choose)
            values[given.letter] = given.options[index]
    if isinstance(term, Leaf):
        parts.append(make_part(term.kind, tuple(values.items())))
        return
    which = _index(name + "which", term.labels, term.sizes, choose)
    for inner, address in zip(term.paths[which], term.addresses[which], strict=True):
        _walk(inner, name + address, values, choose, parts)


def _index(name: str, options: Options, sizes: tuple[int, ...], choose: Chooser) -> int:
    if len(options) == 1:
        return 0
    index = choose(name, options, sizes)
    assert 0 <= index < len(options), f"{index} is no index into the {len(options)} options of {name}"
    return index


@lru_cache(_CACHE_SIZE)
def make_part(kind: str, values: tuple[tuple[str, int | str], ...]) -> Part:
    fields = names(KINDS[kind])
    return KINDS[kind](**{fields[letter]: value for letter, value in values})


Decisions: TypeAlias = Mapping[str, int]


Walked: TypeAlias = tuple[Net, dict[str, int]]


class SearchSpace(Protocol):
    """A space, or one inside a budget: an option of size 0 is forbidden."""

    @property
    def size(self) -> int:
        """How many networks there are, as far as that is known."""

    def walk(self, choose: Chooser) -> Walked:
        """One network, and the decisions that led to it; `choose` may be asked for more than one walk."""
