"""Which leaf of a space can stand behind which, and what must hold from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import pairwise, product
from operator import or_

from hiri_search.language.errors import SpecError
from hiri_search.language.net import check_first, check_kept
from hiri_search.language.place import Place, Reach
from hiri_search.language.tree import Group, Leaf, Term

START = 0  # the place of the default stem, which a spec leaves out


class Automaton:
    """The position automaton (Glushkov) of a space: its places in the order of the text, START before them.

    A set of places is an int, one bit for each. What follows a place stands behind it in the text.
    """

    def __init__(self, root: Group) -> None:
        """SpecError where a place takes what its kind cannot, or where one cannot follow another."""
        self.places = [Place(Leaf("hrstem"), {})]
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
        return union(self.follow[stem] for stem in members(self.stems))

    def _add(self, term: Term, name: str, outer: Mapping[str, Reach]) -> tuple[int, int]:
        """Add the places of a term; the sets of those that can begin it and of those that can end it."""
        reach = {**outer, **{g.letter: Reach(name + g.letter, g) for g in term.given}}
        if isinstance(term, Leaf):
            place = 1 << self._add_leaf(Place(term, reach))
            return place, place
        first = last = 0
        for path, addresses in zip(term.paths, term.addresses, strict=True):
            ends = [self._add(inner, name + at, reach) for inner, at in zip(path, addresses, strict=True)]
            for (_, before), (behind, _) in pairwise(ends):
                for at in members(before):
                    self.follow[at] |= behind
            first, last = first | ends[0][0], last | ends[-1][1]
        return first, last

    def _add_leaf(self, place: Place) -> int:
        place.check()
        self.places.append(place)
        self.follow.append(0)
        return len(self.places) - 1

    def _check_stems(self) -> None:
        """A stem comes first and has a stage behind it."""
        behind = union(self.follow)
        for at, place in enumerate(self.places):
            if place.is_stem and behind >> at & 1:
                raise place.mark.error(f"{place.leaf.kind} stands behind another part; a stem comes first")
            if place.is_stem and self.last >> at & 1:
                raise place.mark.error(f"no stage stands behind this {place.leaf.kind}; write one, as in -> hr(64 e=4)")

    def _check_first(self) -> None:
        for at in members(self.first):
            for letter in ("down", "s"):
                self._check_alone(self.places[at], letter)

    def _check_alone(self, place: Place, letter: str) -> None:
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


def union(sets: Iterable[int]) -> int:
    """The places in any of the sets."""
    return reduce(or_, sets, 0)


def _check_widths(before: Place, place: Place) -> None:
    """Raise SpecError unless both have one and the same width, be it by the same decision."""
    if before.reach["w"].decision == place.reach["w"].decision:
        return
    for width, kept in product(before.choices("w"), place.choices("w")):
        try:
            check_kept(place.leaf.kind, width, kept)
        except SpecError as error:
            raise place.written("down").error(error.message) from None
