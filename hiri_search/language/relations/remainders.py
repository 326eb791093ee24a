"""Remainders of walks through a space: what is left to decide, one object for each distinct rest."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from sys import intern
from typing import TypeAlias, TypeVar

from hiri_search.language.errors import SpecError
from hiri_search.language.stages import KINDS, Part, Stage, defaults, make_part, names
from hiri_search.language.syntax_tree import Leaf, Options, Term

Values: TypeAlias = tuple[tuple[str, int | str], ...]
_State = TypeVar("_State", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Remainder:
    """The undecided rest of a walk: the current term, its values decided so far, and the terms after it."""

    term: Term
    name_prefix: str  # of the names of the term's decisions
    values: Values
    decided: int  # of the term's own arguments
    rest: Remainder | None
    min_stages: int  # in `term` and `rest` together
    max_stages: int

    @property
    def letter(self) -> str:
        """The letter of the argument that is decided next; empty for a choice between paths."""
        undecided = self.decided < len(self.term.arguments)
        return self.term.arguments[self.decided].letter if undecided else ""

    @cached_property
    def decision(self) -> tuple[str, Options]:
        """Name and options of the next decision; no options where a stem or stage is decided completely."""
        if self.decided < len(self.term.arguments):
            argument = self.term.arguments[self.decided]
            return intern(self.name_prefix + argument.letter), argument.options
        return intern(self.name_prefix + "which"), () if isinstance(self.term, Leaf) else self.term.labels


@dataclass(frozen=True)
class DecidedPart:
    """A stem or a stage of a walk, and what is left after it; `error` if its kind does not allow its arguments."""

    part: Part
    rest: Remainder | None
    error: SpecError | None = None

    @staticmethod
    def of(kind: str, values: Values, rest: Remainder | None) -> DecidedPart:
        try:
            return DecidedPart(make_part(kind, values), rest)
        except SpecError as error:
            return DecidedPart(_unchecked_part(kind, dict(values)), rest, error)


def _unchecked_part(kind: str, values: Mapping[str, int | str]) -> Part:
    """Return a part that breaks a rule of its kind, for relations to exclude."""
    part = object.__new__(KINDS[kind])
    for letter, name in names(KINDS[kind]).items():
        object.__setattr__(part, name, values.get(letter, defaults(KINDS[kind])[letter]))
    return part


class Remainders:
    """The rests of all walks through a space; equal rests are one object."""

    def __init__(self) -> None:
        self._interned: dict[tuple[int, str, Values, int, Remainder | None], Remainder] = {}

    def start(self, root: Term) -> Remainder:
        """Return the rest before the first decision."""
        return self._intern(root, "", (), 0, None)

    def take(self, remaining: Remainder, index: int) -> Remainder | None:
        """Return the rest after an option of the next decision."""
        term, name_prefix, values = remaining.term, remaining.name_prefix, remaining.values
        if remaining.decided < len(term.arguments):
            choice = term.arguments[remaining.decided]
            values = (*values, (choice.letter, choice.options[index]))
            return self._intern(term, name_prefix, values, remaining.decided + 1, remaining.rest)
        assert not isinstance(term, Leaf)
        rest = remaining.rest
        for inner, address in reversed(list(zip(term.paths[index], term.addresses[index], strict=True))):
            rest = self._intern(inner, name_prefix + address, values, 0, rest)
        return rest

    def decided(self, remaining: Remainder | None) -> tuple[list[DecidedPart], Remainder | None]:
        """Return the parts before the next decision with two or more options, and the rest there, if there is one."""
        parts: list[DecidedPart] = []
        while remaining is not None and len(options := remaining.decision[1]) < 2:
            if options:
                remaining = self.take(remaining, 0)
                continue
            assert isinstance(remaining.term, Leaf)
            parts.append(DecidedPart.of(remaining.term.kind, remaining.values, remaining.rest))
            remaining = remaining.rest
        return parts, remaining

    def _intern(self, term: Term, prefix: str, values: Values, decided: int, rest: Remainder | None) -> Remainder:
        """The only object with these fields, so that its identity is its hash key, however long `rest` is."""
        key = (id(term), prefix, values, decided, rest)
        if key not in self._interned:
            least, most = _stage_range(term)
            if rest:
                least, most = least + rest.min_stages, most + rest.max_stages
            self._interned[key] = Remainder(term, prefix, values, decided, rest, least, most)
        return self._interned[key]


class TooManyStates(Exception):
    """The walks through a space have more than a limit of states."""


def bottom_up(
    start: _State | None, successors: Callable[[_State], Sequence[_State | None]], *, limit: int
) -> Iterator[_State]:
    """Yield every state reachable from `start`, each after its successors. Raises TooManyStates.

    `successors` is called once for each state. Iterative, because a space may have more decisions in a row than Python
    allows recursive calls.
    """
    following: dict[_State, Sequence[_State | None]] = {}
    done: set[_State] = set()
    stack = [start] if start is not None else []
    while stack:
        state = stack[-1]
        if state not in following:
            following[state] = successors(state)
        if len(following) > limit:
            raise TooManyStates
        waiting = [after for after in following[state] if after is not None and after not in done]
        stack.extend(waiting)
        if not waiting:
            stack.pop()
            if state not in done:
                done.add(state)
                yield state


def _stage_range(term: Term) -> tuple[int, int]:
    """The minimum and maximum number of stages of a term."""
    if isinstance(term, Leaf):
        stages = int(issubclass(KINDS[term.kind], Stage))
        return stages, stages
    paths = [[_stage_range(inner) for inner in path] for path in term.paths]
    return min(sum(low for low, _ in path) for path in paths), max(sum(high for _, high in path) for path in paths)
