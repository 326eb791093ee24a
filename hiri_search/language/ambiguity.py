"""Ambiguity check: no network of a space can be written in two ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from hiri_search.language.automaton import START, Automaton, Position, members, position_union
from hiri_search.language.errors import SpecError
from hiri_search.language.net import default_down, default_stride
from hiri_search.language.stages import names, part_text

_ValueSets: TypeAlias = tuple[frozenset[object], ...]  # the possible values of each argument, defaults resolved


def check_distinct(automaton: Automaton) -> None:
    """Raise SpecError if a network can be written in two ways: sizes and samples would be wrong."""
    pairs = _accepting_pairs(automaton)
    for successors in (automaton.stems, *automaton.follow):
        for at in members(successors):
            if same := pairs[at] & successors & ~(1 << at):
                first, second = automaton.positions[at], automaton.positions[next(members(same))]
                raise _ambiguity_error(first, second, default_stem=at == START)


def _accepting_pairs(automaton: Automaton) -> Sequence[int]:
    """For each position, the set of positions from which the same stages can follow up to the end of the network.

    These are the pairs of the product of the automaton with itself from which a final pair is reachable.
    """
    value_sets = _value_sets(automaton)
    pairs = [1 << at for at in range(len(value_sets))]
    for at in reversed(range(len(value_sets))):
        after = position_union(pairs[successor] for successor in members(automaton.follow[at]))
        is_last = automaton.last >> at & 1
        for other in range(at + 1, len(value_sets)):
            same_rest = automaton.follow[other] & after or is_last & automaton.last >> other
            same_kind = automaton.positions[at].kind is automaton.positions[other].kind
            if same_rest and same_kind and not any(map(frozenset.isdisjoint, value_sets[at], value_sets[other])):
                pairs[at] |= 1 << other
                pairs[other] |= 1 << at
    return pairs


def _value_sets(automaton: Automaton) -> list[_ValueSets]:
    value_sets = []
    numbers = zip(stages_before(automaton), _stages_after(automaton), strict=True)
    for position, (before, after) in zip(automaton.positions, numbers, strict=True):
        letters = (letter for letter in names(position.kind) if letter not in ("down", "s"))
        own = tuple(frozenset(position.values(letter)) for letter in letters)
        default_downs = frozenset(default_down(i, k) for i in members(before) for k in members(after))
        value_sets.append(own if position.is_stem else (*own, frozenset(_downsamplings(position, default_downs))))
    return value_sets


def _downsamplings(position: Position, default_downs: frozenset[str]) -> Iterator[tuple[str, int]]:
    for written in position.values("down"):
        for down in [written] if isinstance(written, str) else default_downs:
            for stride in position.values("s"):
                yield down, stride if isinstance(stride, int) else default_stride(down)


def stages_before(automaton: Automaton) -> list[int]:
    """For each position, the set of numbers of stages that can come before it."""
    counts = [int(position.is_stem) for position in automaton.positions]
    for at, position in enumerate(automaton.positions):
        for successor in members(automaton.follow[at]):
            counts[successor] |= counts[at] << (not position.is_stem)
    return counts


def _stages_after(automaton: Automaton) -> list[int]:
    """For each position, the set of numbers of stages that can come after it."""
    counts = [automaton.last >> at & 1 for at in range(len(automaton.positions))]
    for at in reversed(range(len(counts))):
        counts[at] |= position_union(counts[successor] for successor in members(automaton.follow[at])) << 1
    return counts


def _ambiguity_error(first: Position, second: Position, *, default_stem: bool) -> SpecError:
    if default_stem:
        return second.source.error("this is the default stem, which a path without a stem already has; leave it out")
    let = f" of let {first.source.let}" if first.source.let else ""
    where = f"here and at column {first.source.column + 1}{let}"
    return second.source.error(f"{_shared_text(first, second)} can be written in two ways, {where}; remove one")


def _shared_text(first: Position, second: Position) -> str:
    """Return the text of a stage that both positions can produce."""
    values = {}
    for letter in names(first.kind):
        possible = frozenset(second.values(letter))
        shared = next((value for value in first.values(letter) if value in possible), None)
        if shared is not None and (letter in first.arguments or letter in second.arguments):
            values[letter] = str(shared)
    return part_text(first.leaf.kind, values)
