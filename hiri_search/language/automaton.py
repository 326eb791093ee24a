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
from hiri_search.language.net import check_first_stage, check_same_width
from hiri_search.language.stages import (
    DEFAULT_STEM,
    KINDS,
    Argument,
    Part,
    Rule,
    arguments,
    defaults,
    is_stem,
    names,
    part_text,
)
from hiri_search.language.syntax_tree import Choice, Group, Leaf, SourcePosition, Term

START = 0  # the position of the default stem, which a spec need not write
_MAX_COMBINATIONS = 100_000  # of the arguments of one stage
_EXAMPLE = {"w": "64", "e": "4"}  # of other arguments: the lowest value


@dataclass(frozen=True)
class BoundArgument:
    """An argument that applies to a leaf, and the name of its decision.

    Arguments of two leaves with the same decision name are tied: they always have the same value.
    """

    decision: str
    choice: Choice


@dataclass(frozen=True, eq=False)
class Position:
    """One occurrence of a leaf in a space; two uses of the same `let` have different positions."""

    leaf: Leaf
    arguments: Mapping[str, BoundArgument]

    @property
    def source(self) -> SourcePosition:
        return self.leaf.source

    @property
    def kind(self) -> type[Part]:
        return KINDS[self.leaf.kind]

    @property
    def is_stem(self) -> bool:
        return is_stem(self.leaf.kind)

    def values(self, letter: str) -> tuple[Any, ...]:
        """Return the values that an argument can have here, in order; only its default if it is not written.

        The default is None if it depends on the place of the stage in the network.
        """
        return self.arguments[letter].choice.options if letter in self.arguments else (defaults(self.kind)[letter],)

    def source_of(self, letter: str) -> SourcePosition:
        """Return the source position of an argument; that of the leaf if the argument is not written."""
        return self.arguments[letter].choice.source if letter in self.arguments else self.source

    def check(self) -> None:
        """Raise SpecError if an argument is missing, or has a value that the kind does not take."""
        for letter, argument in self.arguments.items():
            self._check_argument(letter, argument.choice)
        required = [letter for letter, default in defaults(self.kind).items() if default is MISSING]
        for letter in required:
            if letter not in self.arguments:
                values = {letter: _example(arguments(self.kind)[letter]) for letter in required}
                example = part_text(self.leaf.kind, values)
                missing = f"this {self.leaf.kind} has no {names(self.kind)[letter]} ({letter})"
                raise self.source.error(f"{missing}; write it as in {example}")
        count = prod(len(argument.choice.options) for argument in self.arguments.values())
        if count > _MAX_COMBINATIONS:
            found = f"this {self.leaf.kind} has {count:,} combinations of arguments"
            raise self.source.error(f"{found}; the maximum is {_MAX_COMBINATIONS:,}")

    def check_rules(self) -> None:
        """Raise SpecError if some combination of the arguments is invalid for the kind."""
        for rule in self.kind.rules:
            self._check_rule(rule)

    def _check_argument(self, letter: str, choice: Choice) -> None:
        kind = self.leaf.kind
        accepted = arguments(self.kind)
        if letter not in accepted:
            expected = f"expected one of {', '.join(accepted)}" if accepted else "it takes no arguments"
            raise choice.source.error(f"{kind} has no argument {letter}; {expected}")
        # Numbers are in ascending order, so checking the first and the last one is enough.
        checked = choice.options if accepted[letter].words else (choice.options[0], choice.options[-1])
        for value in checked:
            try:
                accepted[letter].check(value)
            except SpecError as error:
                raise choice.source.error(f"in {kind}, {error.message}") from None

    def _check_rule(self, rule: Rule) -> None:
        for values in product(*(self.values(letter) for letter in rule.letters)):
            try:
                rule.apply(values)
            except SpecError as error:
                written = {k: str(v) for k, v in zip(rule.letters, values, strict=True) if v is not None}
                raise self.source.error(f"{part_text(self.leaf.kind, written)}: {error.message}") from None


class Automaton:
    """The position (Glushkov) automaton of a space: START, then the positions in the order of the text.

    `stems`, `first` and `last` are the sets of positions at which a network can begin, its stages can begin, and
    it can end; `follow` has one set for each position. A set of positions is an int with one bit for each position.
    All positions in `follow[p]` are greater than `p`.
    """

    def __init__(self, root: Group) -> None:
        """Raise SpecError if a position has invalid arguments, or cannot follow another one."""
        self.positions = [Position(Leaf(DEFAULT_STEM), {})]
        self.follow = [0]
        first, self.last = self._add(root, "", {})
        stems = sum(1 << at for at in members(first) if self.positions[at].is_stem)
        self.follow[START] = first & ~stems
        self.stems = stems | (1 << START if self.follow[START] else 0)
        self._check_stems()
        self._check_first_stages()
        self._check_widths()

    def check_rules(self) -> None:
        """Raise SpecError if some combination of arguments is invalid at a position."""
        for position in self.positions:
            position.check_rules()

    @property
    def first(self) -> int:
        """The positions that can follow a stem."""
        return position_union(self.follow[stem] for stem in members(self.stems))

    def _add(self, term: Term, name: str, outer: Mapping[str, BoundArgument]) -> tuple[int, int]:
        """Add the positions of a term, and return its first and last sets."""
        bound = {**outer, **{a.letter: BoundArgument(name + a.letter, a) for a in term.arguments}}
        if isinstance(term, Leaf):
            self.positions.append(Position(term, bound))
            self.positions[-1].check()
            self.follow.append(0)
            position = 1 << len(self.positions) - 1
            return position, position
        first = last = 0
        for path, addresses in zip(term.paths, term.addresses, strict=True):
            sets = [self._add(inner, name + address, bound) for inner, address in zip(path, addresses, strict=True)]
            for (_, last_of_term), (first_of_next, _) in pairwise(sets):
                for at in members(last_of_term):
                    self.follow[at] |= first_of_next
            first, last = first | sets[0][0], last | sets[-1][1]
        return first, last

    def _check_stems(self) -> None:
        """Raise SpecError unless every stem comes first and is followed by a stage."""
        followers = position_union(self.follow)
        for at, position in enumerate(self.positions):
            kind, source = position.leaf.kind, position.source
            if position.is_stem and followers >> at & 1:
                raise source.error(f"{kind} follows another part; a stem must come first")
            if position.is_stem and self.last >> at & 1:
                raise source.error(f"no stage follows this {kind}; write one, as in -> hr(64 e=4)")

    def _check_first_stages(self) -> None:
        for position in (self.positions[at] for at in members(self.first)):
            for letter in ("down", "s"):
                for value in position.values(letter):
                    try:
                        check_first_stage(**{letter: value})
                    except SpecError as error:
                        raise position.source_of(letter).error(error.message) from None

    def _check_widths(self) -> None:
        """Raise SpecError where down=none is possible, unless the two stages are sure to have the same width."""
        for before, previous in enumerate(self.positions):
            for at in members(0 if previous.is_stem else self.follow[before]):
                if "none" in self.positions[at].values("down"):
                    _check_equal_widths(previous, self.positions[at])


def _example(argument: Argument) -> str:
    return _EXAMPLE.get(argument.letter) or str(next(iter(argument.words), argument.low))


def members(positions: int) -> Iterator[int]:
    """Yield the positions of a set in ascending order."""
    while positions:
        lowest = positions & -positions
        yield lowest.bit_length() - 1
        positions ^= lowest


def position_union(sets: Iterable[int]) -> int:
    """Return the union of sets of positions."""
    return reduce(or_, sets, 0)


def _check_equal_widths(previous: Position, position: Position) -> None:
    """Raise SpecError unless both have the same single width, or widths tied by one decision."""
    if previous.arguments["w"].decision == position.arguments["w"].decision:
        return
    for previous_width, width in product(previous.values("w"), position.values("w")):
        try:
            check_same_width(position.leaf.kind, previous_width, width)
        except SpecError as error:
            raise position.source_of("down").error(error.message) from None
