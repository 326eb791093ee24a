"""Arguments of the networks of a space, as relations name them, with the values that each can have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hiri_search.language.ambiguity import stages_before
from hiri_search.language.automaton import Automaton, members
from hiri_search.language.net import default_down, default_stride
from hiri_search.language.relations.expression import Value
from hiri_search.language.space import Space
from hiri_search.language.stages import names
from hiri_search.language.syntax_tree import Group
from hiri_search.language.timm.space import TimmSpace
from hiri_search.language.timm.spec import TimmNetwork

KIND = "kind"  # kind3 is the kind of stage 3
_FORM = "write an argument and the number of its stage, such as w3 or kind3, and a comparison, such as w3 >= w2"
_TIMM_FORM = (
    "write an argument as in depths.3 (the third entry of depths), and a comparison, as in depths.3 >= depths.2"
)


@dataclass(frozen=True)
class ArgumentValues:
    """The values that an argument of a space can have; `stage` as for a Name."""

    values: frozenset[Value]
    stage: int = 0

    @property
    def is_word(self) -> bool:
        return any(isinstance(value, str) for value in self.values)


class Vocabulary(dict[str, ArgumentValues]):
    """The arguments of a space by name, and a sentence on how they are written."""

    def __init__(self, known: Mapping[str, ArgumentValues], form: str) -> None:
        super().__init__(known)
        self.form = form


def vocabulary_of(space: Space | TimmSpace) -> Vocabulary:
    """Return the arguments that relations of a space are about."""
    return _language_vocabulary(space.root) if isinstance(space, Space) else _timm_vocabulary(space)


def _language_vocabulary(root: Group) -> Vocabulary:
    """Return the arguments of a space: `w3` is the width of stage 3, `kind3` its kind, `hs0` belongs to the stem."""
    automaton = Automaton(root)
    found: dict[tuple[str, int], set[Value]] = {}
    for at, (position, before) in enumerate(zip(automaton.positions, stages_before(automaton), strict=True)):
        for number in members(before if not position.is_stem or automaton.stems >> at & 1 else 0):
            stage = 0 if position.is_stem else number + 1
            found.setdefault((KIND, stage), set()).add(position.leaf.kind)
            for letter in names(position.kind):
                for value in position.values(letter):
                    found.setdefault((letter, stage), set()).update(_resolved(letter, value, stage))
    return Vocabulary(
        {f"{letter}{stage}": ArgumentValues(frozenset(v), stage) for (letter, stage), v in found.items()}, _FORM
    )


def _resolved(letter: str, value: Value | None, stage: int) -> Iterable[Value]:
    """Return the values that an argument may stand for: several for a default that depends on the place."""
    if value is not None:
        return (value,)
    downs = {default_down(0, 0)} if stage == 1 else {default_down(1, after) for after in (0, 2)}
    return downs if letter == "down" else {default_stride(down) for down in downs}


def _timm_vocabulary(space: TimmSpace) -> Vocabulary:
    found: dict[str, set[Value]] = {}
    for builder in space.builders:
        for choice in builder.choices:
            values = (compared(choice.value(index)) for index in range(len(choice.options)))
            found.setdefault(choice.decision, set()).update(values)
    return Vocabulary({name: ArgumentValues(frozenset(values)) for name, values in found.items()}, _TIMM_FORM)


def compared(value: Value) -> Value:
    """Return a value as relations compare it: true and false are words."""
    return str(value).lower() if isinstance(value, bool) else value


def timm_values(network: TimmNetwork) -> Mapping[str, Value]:
    """Return the arguments of a network of timm by name."""
    values: dict[str, Value] = {}
    for name, value in network.arguments:
        if isinstance(value, tuple):
            values |= {f"{name}.{number}": compared(entry) for number, entry in enumerate(value, 1)}
        else:
            values[name] = compared(value)
    return values
