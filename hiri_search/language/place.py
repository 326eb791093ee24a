"""A leaf where it stands: all the arguments that reach it, checked against what its kind can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from itertools import product
from math import prod
from typing import Any

from hiri_search.language.errors import SpecError
from hiri_search.language.kinds import KINDS, STEMS, Part, Rule, arguments, defaults, names, part_text
from hiri_search.language.tree import Given, Leaf, Mark

MOST_COMBINATIONS = 100_000  # of one stage
_EXAMPLE = {"w": "64", "e": "4"}


@dataclass(frozen=True)
class Reach:
    """An argument that reaches a leaf, and the one decision it is: two leaves of the same one are tied."""

    decision: str
    given: Given


@dataclass(frozen=True, eq=False)
class Place:
    """One leaf of a space, told apart from the same leaf pasted elsewhere."""

    leaf: Leaf
    reach: Mapping[str, Reach]

    @property
    def mark(self) -> Mark:
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

    def written(self, letter: str) -> Mark:
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
        if count > MOST_COMBINATIONS:
            found = f"this {self.leaf.kind} has {count:,} combinations of arguments"
            raise self.mark.error(f"{found}; {MOST_COMBINATIONS:,} is the most")
        for rule in self.kind.rules:
            self._check_rule(rule)

    def _check_argument(self, letter: str, given: Given) -> None:
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
