"""RelatedSpace: the networks of a space that satisfy relations between their arguments, counted without a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from random import Random
from typing import Literal, TypeAlias

from hiri_search.language.choosers import uniform
from hiri_search.language.errors import SpecError
from hiri_search.language.parser import parse, parse_without_rules
from hiri_search.language.relations.counts import RelatedCounts, walk_states
from hiri_search.language.relations.expression import Expression
from hiri_search.language.relations.parser import parse_relation
from hiri_search.language.relations.pending import BrokenRelation, Pending, at_end, with_part
from hiri_search.language.relations.remainders import TooManyStates
from hiri_search.language.relations.vocabulary import Vocabulary, timm_values, vocabulary_of
from hiri_search.language.space import Chooser, Decisions, NetworkSpace, Space
from hiri_search.language.syntax_tree import Option
from hiri_search.language.timm.space import TimmSpace, parse_timm_space
from hiri_search.language.timm.spec import TIMM_PREFIX, Backbone, TimmNetwork

MAX_REJECTED = 10_000  # walks in a row
_ACCEPTANCE_SAMPLE = 1_000  # random networks from which a share is estimated


class InvalidRelation(SpecError):
    """A relation that cannot be parsed, or that no network satisfies; `number` counts from 0."""

    def __init__(self, number: int, error: SpecError) -> None:
        super().__init__(error.message, error.text, error.column)
        self.number = number


class RelatedSpace(NetworkSpace[Backbone]):
    """The networks of a space that satisfy all relations.

    `counting` is `exact`, so that every option has the number of networks behind it, unless the walks through the space
    have more than MAX_STATES states. Then it is `rejection`: sizes are those of the whole space, and walks are repeated
    until one ends at a network that satisfies the relations.
    """

    def __init__(self, space: Space | TimmSpace, relations: Sequence[str], *, invalid: SpecError | None = None) -> None:
        """Raise InvalidRelation where a relation cannot be parsed. The first count shows if networks satisfy them.

        `invalid` is the error for a space with invalid combinations of arguments: the relations must exclude them.
        """
        self._invalid = invalid
        vocabulary = vocabulary_of(space)
        self.space, self.relations = space, tuple(_parsed(n, text, vocabulary) for n, text in enumerate(relations))

    def __str__(self) -> str:
        return f"{self.space} where {', '.join(map(str, self.relations))}"

    @property
    def pending(self) -> Pending | None:
        """The relations before the first decision."""
        return Pending.of(self.relations)

    @property
    def counting(self) -> Literal["exact", "rejection"]:
        return "rejection" if self._counts is None else "exact"

    @property
    def size(self) -> int:
        """Number of networks that satisfy the relations; with `rejection`, of all networks of the space."""
        return self.space.size if self._counts is None else self._counts.total

    @property
    def summary(self) -> str:
        """The number of networks that satisfy the relations, or the estimated share, in words."""
        relations = ", ".join(map(str, self.relations))
        if self._counts is None:
            rng = Random(0)
            accepted = sum(self.satisfied(self.space.decide(uniform(rng))) for _ in range(_ACCEPTANCE_SAMPLE))
            share = f"{accepted:,} of {_ACCEPTANCE_SAMPLE:,} random networks do"
            return f"too many networks to count those that satisfy {relations}; {share}, and the others are rejected"
        return f"{self.size:,} networks satisfy {relations}, {self.size / self.space.size:.3%} of the space"

    def satisfied(self, network: Backbone) -> bool:
        """Return whether a network of the space satisfies the relations."""
        try:
            check_relations(self.pending, network)
        except BrokenRelation:
            return False
        return True

    def decide(self, choose: Chooser) -> Backbone:
        return self.walk(choose)[0]

    def walk(self, choose: Chooser) -> tuple[Backbone, dict[str, Option]]:
        """Return a network and its decisions.

        Raises SpecError where `choose` takes an option of size 0, and after MAX_REJECTED walks in a row that end at a
        network which does not satisfy the relations.
        """
        if self._counts is not None:
            decisions = self._counts.walk(choose)
            return self.space.replay(decisions), decisions
        for _ in range(MAX_REJECTED):
            walked = self.space.walk(choose)
            if self.satisfied(walked[0]):
                return walked
        relations = ", ".join(map(str, self.relations))
        raise SpecError(f"{MAX_REJECTED:,} random networks in a row do not satisfy {relations}; write other relations")

    def walks(self) -> Iterator[tuple[Backbone, dict[str, Option]]]:
        if self._counts is not None:
            return super().walks()
        return (walked for walked in self.space.walks() if self.satisfied(walked[0]))

    def replay(self, decisions: Decisions) -> Backbone:
        """Return the network of these decisions; SpecError where it does not satisfy the relations, too."""
        network = self.space.replay(decisions)
        check_relations(self.pending, network)
        return network

    def decisions_of(self, network: Backbone) -> dict[str, Option] | None:
        decisions = self.space.decisions_of(network)
        return decisions if decisions is not None and self.satisfied(network) else None

    @cached_property
    def _counts(self) -> RelatedCounts | None:
        """The exact counts, or None where there are too many states. InvalidRelation where no network is left."""
        try:
            counts = self._count(self.relations)
        except TooManyStates:
            if self._invalid:  # random networks would break the rules of their kinds
                raise self._invalid from None
            return None
        if not counts.total:
            raise self._unsatisfiable()
        return counts

    def _count(self, relations: Sequence[Expression]) -> RelatedCounts:
        states = walk_states(self.space, with_rules=self._invalid is not None)
        return RelatedCounts(states, Pending.of(relations))

    def _unsatisfiable(self) -> InvalidRelation:
        """Return the error for relations that no network satisfies: one alone, or one with those before it."""

        def without_networks(relations: Sequence[Expression]) -> bool:
            try:
                return not self._count(relations).total
            except TooManyStates:
                return False

        for number, relation in enumerate(self.relations):
            if without_networks([relation]):
                return InvalidRelation(number, SpecError(f"no network of the space satisfies {relation}"))
        ends = range(2, len(self.relations))
        number = next((end for end in ends if without_networks(self.relations[:end])), len(self.relations)) - 1
        others = ", ".join(map(str, self.relations[:number]))
        message = f"no network of the space satisfies {self.relations[number]} together with {others}"
        return InvalidRelation(number, SpecError(message))


AnySpace: TypeAlias = Space | TimmSpace | RelatedSpace


def parse_space(text: str, *, let: Mapping[str, str] | None = None, where: Sequence[str] = ()) -> AnySpace:
    """Return the space of a spec, or of a text that begins with `timm:`, restricted by relations. Raises SpecError.

    Combinations of arguments that a kind does not allow may be in the text, if the relations exclude all of them.
    """
    if isinstance(text, str) and text.strip().startswith(TIMM_PREFIX):
        if let:
            raise SpecError(
                f"let is for networks of the language; a space of timm has no names: remove {', '.join(let)}"
            )
        space: Space | TimmSpace = parse_timm_space(text.strip())
        return RelatedSpace(space, where) if where else space
    try:
        space = parse(text, let=let)
    except SpecError as invalid:
        if not where:
            raise
        return RelatedSpace(parse_without_rules(text, let=let), where, invalid=invalid)
    return RelatedSpace(space, where) if where else space


def check_relations(pending: Pending | None, network: Backbone) -> None:
    """Raise BrokenRelation where a network does not satisfy the relations."""
    if isinstance(network, TimmNetwork):
        pending = pending and pending.with_values(timm_values(network))
    else:
        for part in (network.stem, *network.stages):
            pending = with_part(pending, part)
    at_end(pending)


def _parsed(number: int, text: str, vocabulary: Vocabulary) -> Expression:
    try:
        return parse_relation(text, vocabulary)
    except SpecError as error:
        raise InvalidRelation(number, error) from None
