"""Position (Glushkov) automaton of a space: which stage can follow which, and the checks on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from functools import reduce
from itertools import pairwise, product
from math import prod
from operator import or_
from typing import Any

from hiri_search.language.errors import SpecError
from hiri_search.language.net import check_first, check_kept
from hiri_search.language.stages import KINDS, STEMS, Part, Rule, arguments, defaults, names, part_text
from hiri_search.language.syntax_tree import Choice, Group, Leaf, SourcePosition, Term

START = 0  # the place of the default stem, which a spec leaves out


class Automaton:
    """The position automaton (Glushkov) of a space: its places in the order of the text, START before them.

    A set of places is an int, one bit for each. What follows a place stands behind it in the text.
    """

    def __init__(self, root: Group) -> None:
        """SpecError where a place takes what its kind cannot, or where one cannot follow another."""
        self.places = [Position(Leaf("hrstem"), {})]
        self.follow = [0]  # for each place those that can come next
        first, self.last = self._add(root, "", {})
        stems = sum(1 << at for at in members(first) if self.places[at].is_stem)
        self.follow[START] = first & ~stems
        self.stems = stems | (1 << START if self.follow[START] else 0)
        self._check_stems()
        self._check_first()
        self._check_kept()

    @property
    def first(self) -> int:
        """The stages that can stand behind a stem."""
        return position_union(self.follow[stem] for stem in members(self.stems))

    def _add(self, term: Term, name: str, outer: Mapping[str, BoundArgument]) -> tuple[int, int]:
        """Add the places of a term; the sets of those that can begin it and of those that can end it."""
        reach = {**outer, **{g.letter: BoundArgument(name + g.letter, g) for g in term.given}}
        if isinstance(term, Leaf):
            place = 1 << self._add_leaf(Position(term, reach))
            return place, place
        first = last = 0
        for path, addresses in zip(term.paths, term.addresses, strict=True):
            ends = [self._add(inner, name + at, reach) for inner, at in zip(path, addresses, strict=True)]
            for (_, before), (behind, _) in pairwise(ends):
                for at in members(before):
                    self.follow[at] |= behind
            first, last = first | ends[0][0], last | ends[-1][1]
        return first, last

    def _add_leaf(self, place: Position) -> int:
        place.check()
        self.places.append(place)
        self.follow.append(0)
        return len(self.places) - 1

    def _check_stems(self) -> None:
        """A stem comes first and has a stage behind it."""
        behind = position_union(self.follow)
        for at, place in enumerate(self.places):
            if place.is_stem and behind >> at & 1:
                raise place.mark.error(f"{place.leaf.kind} stands behind another part; a stem comes first")
            if place.is_stem and self.last >> at & 1:
                raise place.mark.error(f"no stage stands behind this {place.leaf.kind}; write one, as in -> hr(64 e=4)")

    def _check_first(self) -> None:
        for at in members(self.first):
            for letter in ("down", "s"):
                self._check_alone(self.places[at], letter)

    def _check_alone(self, place: Position, letter: str) -> None:
        for value in place.choices(letter):
            try:
                check_first(**{letter: value})
            except SpecError as error:
                raise place.written(letter).error(error.message) from None

    def _check_kept(self) -> None:
        """Where there may be no downsampling, the width is sure to be that of the stage before."""
        for before, place in enumerate(self.places):
            for at in members(0 if place.is_stem else self.follow[before]):
                if "none" in self.places[at].choices("down"):
                    _check_widths(place, self.places[at])


def members(places: int) -> Iterator[int]:
    """The places in a set, in order."""
    while places:
        lowest = places & -places
        yield lowest.bit_length() - 1
        places ^= lowest


def position_union(sets: Iterable[int]) -> int:
    """The places in any of the sets."""
    return reduce(or_, sets, 0)


def _check_widths(before: Position, place: Position) -> None:
    """Raise SpecError unless both have one and the same width, be it by the same decision."""
    if before.reach["w"].decision == place.reach["w"].decision:
        return
    for width, kept in product(before.choices("w"), place.choices("w")):
        try:
            check_kept(place.leaf.kind, width, kept)
        except SpecError as error:
            raise place.written("down").error(error.message) from None


MAX_COMBINATIONS = 100_000  # of one stage
_EXAMPLE = {"w": "64", "e": "4"}


@dataclass(frozen=True)
class BoundArgument:
    """An argument that reaches a leaf, and the one decision it is: two leaves of the same one are tied."""

    decision: str
    given: Choice


@dataclass(frozen=True, eq=False)
class Position:
    """One leaf of a space, told apart from the same leaf pasted elsewhere."""

    leaf: Leaf
    reach: Mapping[str, BoundArgument]

    @property
    def mark(self) -> SourcePosition:
        return self.leaf.mark

    @property
    def kind(self) -> type[Part]:
        return KINDS[self.leaf.kind]

    @property
    def is_stem(self) -> bool:
        return self.leaf.kind in STEMS

    def choices(self, letter: str) -> tuple[Any, ...]:
        """The values an argument can have here, in order; its default alone where it is not written.

        The default is None where a network decides it by the place.
        """
        return self.reach[letter].given.options if letter in self.reach else (defaults(self.kind)[letter],)

    def written(self, letter: str) -> SourcePosition:
        """Where an argument is written: the leaf itself where it is not."""
        return self.reach[letter].given.mark if letter in self.reach else self.mark

    def check(self) -> None:
        """Raise SpecError where any combination of the arguments is not possible for the kind."""
        for letter, reach in self.reach.items():
            self._check_argument(letter, reach.given)
        for letter, default in defaults(self.kind).items():
            if default is MISSING and letter not in self.reach:
                raise self.mark.error(self._missing(letter))
        count = prod(len(reach.given.options) for reach in self.reach.values())
        if count > MAX_COMBINATIONS:
            found = f"this {self.leaf.kind} has {count:,} combinations of arguments"
            raise self.mark.error(f"{found}; {MAX_COMBINATIONS:,} is the most")
        for rule in self.kind.rules:
            self._check_rule(rule)

    def _check_argument(self, letter: str, given: Choice) -> None:
        kind = self.leaf.kind
        known = arguments(self.kind)
        if letter not in known:
            raise given.mark.error(f"{kind} takes no {letter}; there is {', '.join(known) or 'nothing it takes'}")
        # Numbers are in order, so the two ends speak for all of them.
        tried = given.options if known[letter].words else (given.options[0], given.options[-1])
        for value in tried:
            try:
                known[letter].check(value)
            except SpecError as error:
                raise given.mark.error(f"in {kind}, {error.message}") from None

    def _missing(self, letter: str) -> str:
        example = {need: _EXAMPLE[need] for need, value in defaults(self.kind).items() if value is MISSING}
        return (
            f"this {self.leaf.kind} has no {names(self.kind)[letter]} ({letter});"
            f" write it as in {part_text(self.leaf.kind, example)}"
        )

    def _check_rule(self, rule: Rule) -> None:
        """Try every combination of the arguments that the rule is about, and of no others."""
        for values in product(*(self.choices(letter) for letter in rule.letters)):
            try:
                rule.check(*values)
            except SpecError as error:
                shown = {k: str(v) for k, v in zip(rule.letters, values, strict=True) if v is not None}
                raise self.mark.error(f"{part_text(self.leaf.kind, shown)}: {error.message}") from None
