"""Numbers of networks that satisfy relations, behind each option of each decision: dynamic programming over states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from hiri_search.language.errors import SpecError
from hiri_search.language.relations.pending import BrokenRelation, Pending, at_end, with_part
from hiri_search.language.relations.remainders import Remainder, Remainders, TooManyStates, bottom_up
from hiri_search.language.relations.vocabulary import compared
from hiri_search.language.space import Chooser, Space
from hiri_search.language.stages import KINDS
from hiri_search.language.syntax_tree import Option, Options
from hiri_search.language.timm.space import TimmBuilder, TimmSpace

MAX_STATES = 100_000  # of the walks through a space whose networks are counted
MAX_MOVES = 300_000  # options of all these states: some seconds

WalkState: TypeAlias = tuple[object, Pending | None]


class WalkStates(Protocol):
    """The states of the walks through a space; None: everything is decided. `start`, `take` raise BrokenRelation."""

    def start(self, pending: Pending | None) -> WalkState | None:
        """Return the state before the first decision with several options."""

    def decision(self, state: WalkState) -> tuple[str, Options]:
        """Return the name and the options of the next decision."""

    def all_alike(self, state: WalkState) -> bool:
        """True if the relations do not depend on the next decision: the state after all of its options is one."""

    def take(self, state: WalkState, index: int) -> WalkState | None:
        """Return the state after an option of the next decision."""


def walk_states(space: Space | TimmSpace, *, with_rules: bool) -> WalkStates:
    """Return the states of the walks through a space.

    `with_rules`: the space has combinations of arguments that their kinds do not allow, and relations exclude them.
    """
    return _StatesOfSpace(space, with_rules) if isinstance(space, Space) else _StatesOfTimm(space)


class _StatesOfSpace:
    def __init__(self, space: Space, with_rules: bool) -> None:
        self._space, self._remainders = space, Remainders()
        rules = (rule for kind in KINDS.values() if with_rules for rule in kind.rules)
        self._in_rules = {letter for rule in rules for letter in rule.letters}

    def start(self, pending: Pending | None) -> WalkState | None:
        return self._decided(self._remainders.start(self._space.root), pending)

    def decision(self, state: WalkState) -> tuple[str, Options]:
        assert isinstance(state[0], Remainder)
        return state[0].decision

    def all_alike(self, state: WalkState) -> bool:
        remaining, pending = state
        assert isinstance(remaining, Remainder)
        letter = remaining.letter
        return bool(letter) and letter not in self._in_rules and (pending is None or letter not in pending.letters)

    def take(self, state: WalkState, index: int) -> WalkState | None:
        assert isinstance(state[0], Remainder)
        return self._decided(self._remainders.take(state[0], index), state[1])

    def _decided(self, remaining: Remainder | None, pending: Pending | None) -> WalkState | None:
        parts, remaining = self._remainders.decided(remaining)
        for decided in parts:
            stage = pending.stages + 1 if pending else 0
            pending = with_part(pending, decided.part)
            if decided.error:
                where = f" in stage {stage}" if stage else ""
                raise SpecError(f"no relation excludes this {decided.part.kind}{where}: {decided.error.message}")
        if remaining is None:
            at_end(pending)
            return None
        return remaining, pending


@dataclass(frozen=True)
class _Place:
    """The next choice of a builder; without a builder, the choice between builders."""

    builder: TimmBuilder | None
    number: int = 0


class _StatesOfTimm:
    def __init__(self, space: TimmSpace) -> None:
        self._space = space

    def start(self, pending: Pending | None) -> WalkState | None:
        return self._decided(_Place(None), pending)

    def decision(self, state: WalkState) -> tuple[str, Options]:
        place = state[0]
        assert isinstance(place, _Place)
        if place.builder is None:
            return "which", self._space.names
        choice = place.builder.choices[place.number]
        return self._space.decision_name(place.builder, choice), choice.options

    def all_alike(self, state: WalkState) -> bool:
        place, pending = state
        assert isinstance(place, _Place)
        if place.builder is None:
            return False
        decision = place.builder.choices[place.number].decision
        return pending is None or all(decision != name.text for name in pending.names)

    def take(self, state: WalkState, index: int) -> WalkState | None:
        place, pending = state
        assert isinstance(place, _Place)
        return self._decided(*self._after(place, pending, index))

    def _after(self, place: _Place, pending: Pending | None, index: int) -> tuple[_Place, Pending | None]:
        if place.builder is None:
            return _Place(self._space.builders[index]), pending
        choice = place.builder.choices[place.number]
        value = {choice.decision: compared(choice.value(index))}
        return _Place(place.builder, place.number + 1), pending and pending.with_values(value)

    def _decided(self, place: _Place, pending: Pending | None) -> WalkState | None:
        while place.builder is None or place.number < len(place.builder.choices):
            if len(self.decision((place, pending))[1]) > 1:
                return place, pending
            place, pending = self._after(place, pending, 0)
        at_end(pending)
        return None


class RelatedCounts:
    """Number of networks behind each option of each state, and in all. Raises TooManyStates."""

    def __init__(self, states: WalkStates, pending: Pending | None) -> None:
        self._states, self._taken = states, 0
        self._moves: dict[WalkState, tuple[WalkState | BrokenRelation | None, ...]] = {}
        self._networks: dict[WalkState | None, int] = {None: 1}
        try:
            self._start = states.start(pending)
        except BrokenRelation:
            self.total = 0
            return
        for state in bottom_up(self._start, self._successors, limit=MAX_STATES):
            self._networks[state] = sum(self._sizes(state))
        self.total = self._networks[self._start]

    def _successors(self, state: WalkState) -> Sequence[WalkState | None]:
        options = len(self._states.decision(state)[1])
        distinct = 1 if self._states.all_alike(state) else options
        moves = [self._move(state, index) for index in range(distinct)] * (options // distinct)
        self._moves[state] = tuple(moves)
        self._taken += distinct
        if self._taken > MAX_MOVES:
            raise TooManyStates
        return [None if isinstance(after, BrokenRelation) else after for after in moves]

    def _move(self, state: WalkState, index: int) -> WalkState | BrokenRelation | None:
        try:
            return self._states.take(state, index)
        except BrokenRelation as error:
            return error.with_traceback(None)

    def _sizes(self, state: WalkState) -> tuple[int, ...]:
        moves = self._moves[state]
        return tuple(0 if isinstance(after, BrokenRelation) else self._networks[after] for after in moves)

    def walk(self, choose: Chooser) -> dict[str, Option]:
        """Return the decisions of a network."""
        state, decisions = self._start, {}
        while state is not None:
            name, options = self._states.decision(state)
            sizes = self._sizes(state)
            index = choose(name, options, sizes)
            decisions[name] = options[index]
            if not sizes[index]:
                raise SpecError(f"no network with {name}={options[index]} satisfies the relations")
            after = self._moves[state][index]
            assert not isinstance(after, BrokenRelation)
            state = after
        return decisions
