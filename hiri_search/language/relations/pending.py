"""Relations of a space while a network is decided: reduced by each decision to what is still open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from hiri_search.language.errors import SpecError
from hiri_search.language.net import default_down, default_stem, default_stride
from hiri_search.language.relations.expression import Constant, Expression, Name, Value, names_in, substituted
from hiri_search.language.relations.vocabulary import KIND
from hiri_search.language.stages import STAGE_CACHE_SIZE, Part, Stage, names


class BrokenRelation(SpecError):
    """A network, or a part of one, does not satisfy a relation."""


@dataclass(frozen=True)
class Pending:
    """Relations that the decisions so far leave open, and the number of stages so far.

    A relation is reduced to its open rest, so that partial networks with equal rests can be completed in the same
    ways. None stands for no open relation, whatever the number of stages.
    """

    relations: tuple[Expression, ...]
    stages: int = 0

    @staticmethod
    def of(relations: Iterable[Expression]) -> Pending | None:
        """Return the relations before the first decision."""
        return Pending(relations) if (relations := tuple(relations)) else None

    def with_values(self, values: Mapping[str, Value | None], *, stages: int = 0) -> Pending | None:
        """Return what is open once these names have values, or are unknown (None). Raises BrokenRelation."""
        rests = []
        for relation in self.relations:
            rest = substituted(relation, tuple(values.items()))
            if rest == Constant(False):
                raise BrokenRelation(f"{relation} does not hold")
            if not isinstance(rest, Constant):
                rests.append(rest)
        return Pending(tuple(rests), stages) if rests else None

    @cached_property
    def letters(self) -> frozenset[str]:
        """The letters of the arguments that are open; `s` depends on `down`."""
        letters = {name.text.removesuffix(str(name.stage)) for name in self.names}
        return frozenset(letters | ({"down"} if "s" in letters else set()))

    @property
    def names(self) -> Iterator[Name]:
        """The names that are open."""
        return (name for relation in self.relations for name in names_in(relation))


def with_part(pending: Pending | None, part: Part) -> Pending | None:
    """Return what is open once a stem or a stage is decided: the next one of the network. Raises BrokenRelation."""
    if pending is None:
        return None
    if not isinstance(part, Stage):
        return _with_part(pending, part, 0)
    if not pending.stages:
        pending = _with_part(pending, default_stem(), 0)  # the default stem, if no stem is written
    return None if pending is None else _with_part(pending, part, pending.stages + 1)


def at_end(pending: Pending | None) -> None:
    """Raise BrokenRelation where a relation that is open at the end of a network does not hold.

    Only now default downsamplings are known, and which arguments the network lacks.
    """
    if pending is not None:
        last = pending.stages
        downs = {f"down{number}": default_down(number - 1, last - number) for number in range(2, last + 1)}
        pending.with_values({name.text: downs.get(name.text) for name in pending.names})


def _with_part(pending: Pending, part: Part, number: int) -> Pending | None:
    """Bind the arguments of a stage, of the stem if `number` is 0; those that it lacks are unknown."""
    values = _values(part, number)
    own = {name.text for name in pending.names if name.stage == number and name.text not in values[1]}
    return pending.with_values({name: values[0].get(name) for name in sorted(own)}, stages=number)


@lru_cache(STAGE_CACHE_SIZE)
def _values(part: Part, number: int) -> tuple[Mapping[str, Value], frozenset[str]]:
    """Return the arguments of a part by name, and the names of those that later stages decide."""
    values = {f"{letter}{number}": getattr(part, name) for letter, name in names(type(part)).items()}
    values[f"{KIND}{number}"] = part.kind
    if isinstance(part, Stage):
        down = part.down or (default_down(0, 0) if number == 1 else None)
        stride = part.stride or default_stride(down or default_down(1, 0))  # equal for all default downsamplings
        values |= {f"down{number}": down, f"s{number}": stride}
    return values, frozenset(name for name, value in values.items() if value is None)
