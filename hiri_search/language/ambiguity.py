"""Ambiguity check: no network of a space can be written in two ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from hiri_search.language.automaton import START, Automaton, Position, members, position_union
from hiri_search.language.errors import SpecError
from hiri_search.language.net import default_down, default_stride
from hiri_search.language.stages import names, part_text

Look: TypeAlias = tuple[frozenset[object], ...]  # what each argument can be, defaults resolved


def check_distinct(spec: Automaton) -> None:
    """Raise SpecError where a network can be written in two ways: sizes and samples would be wrong."""
    equal = _equal_to_the_end(spec)
    for choice in (spec.stems, *spec.follow):
        for at in members(choice):
            if twins := equal[at] & choice & ~(1 << at):
                raise _twice(spec.places[at], spec.places[next(members(twins))], implied=at == START)


def _equal_to_the_end(spec: Automaton) -> Sequence[int]:
    """For each place those that can be equal to it, and so on up to the end of the network."""
    looks = _looks(spec)
    equal = [1 << at for at in range(len(looks))]
    for at in reversed(range(len(looks))):
        ahead = position_union(equal[following] for following in members(spec.follow[at]))
        ends = spec.last >> at & 1
        for other in range(at + 1, len(looks)):
            goes_on = spec.follow[other] & ahead or ends & spec.last >> other
            if goes_on and spec.places[at].kind is spec.places[other].kind and _meet(looks[at], looks[other]):
                equal[at] |= 1 << other
                equal[other] |= 1 << at
    return equal


def _meet(one: Look, other: Look) -> bool:
    return not any(a.isdisjoint(b) for a, b in zip(one, other, strict=True))


def _looks(spec: Automaton) -> list[Look]:
    before, behind = _stages_before(spec), _stages_behind(spec)
    return [_look(place, _downs(before[at], behind[at])) for at, place in enumerate(spec.places)]


def _look(place: Position, downs: frozenset[str]) -> Look:
    own = tuple(frozenset(place.choices(letter)) for letter in names(place.kind) if letter not in ("down", "s"))
    return own if place.is_stem else (*own, frozenset(_steps(place, downs)))


def _steps(place: Position, downs: frozenset[str]) -> Iterator[tuple[str, int]]:
    """The downsamplings a stage can have, each with its stride; `downs` where it is left to the default."""
    for written in place.choices("down"):
        for down in [written] if isinstance(written, str) else downs:
            for stride in place.choices("s"):
                yield down, stride if isinstance(stride, int) else default_stride(down)


def _downs(before: int, behind: int) -> frozenset[str]:
    return frozenset(default_down(i, k) for i in members(before) for k in members(behind))


def _stages_before(spec: Automaton) -> list[int]:
    """For each place the numbers of stages that can stand before it, as a set."""
    counts = [int(place.is_stem) for place in spec.places]
    for at, place in enumerate(spec.places):
        for following in members(spec.follow[at]):
            counts[following] |= counts[at] << (not place.is_stem)
    return counts


def _stages_behind(spec: Automaton) -> list[int]:
    """For each place the numbers of stages that can stand behind it, as a set."""
    counts = [spec.last >> at & 1 for at in range(len(spec.places))]
    for at in reversed(range(len(counts))):
        counts[at] |= position_union(counts[following] for following in members(spec.follow[at])) << 1
    return counts


def _twice(place: Position, twin: Position, *, implied: bool) -> SpecError:
    if implied:
        return twin.mark.error("this default stem is the one that stands where none is written; leave it out here")
    let = f" of the let {place.mark.let}" if place.mark.let else ""
    where = f"here and at column {place.mark.column + 1}{let}"
    return twin.mark.error(f"{_common(place, twin)} can be written in two ways, {where}; leave one out")


def _common(place: Position, twin: Position) -> str:
    """A text that both places can stand for."""
    values = {}
    for letter in names(place.kind):
        possible = frozenset(twin.choices(letter))
        shared = next((value for value in place.choices(letter) if value in possible), None)
        if shared is not None and (letter in place.reach or letter in twin.reach):
            values[letter] = str(shared)
    return part_text(place.leaf.kind, values)
