"""Space: a set of networks, with its size, enumeration and walks through its decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from sys import intern
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from hiri_search.language.errors import SpecError
from hiri_search.language.net import Net
from hiri_search.language.stages import Part, make_part
from hiri_search.language.syntax_tree import Group, Leaf, Option, Options, Term

if TYPE_CHECKING:
    from hiri_search.language.timm.spec import Backbone

Chooser: TypeAlias = Callable[[str, Options, tuple[int, ...]], int]
"""choose(name, options, sizes) -> index of an option. The sizes are proportional to the options' network counts."""

Decisions: TypeAlias = Mapping[str, Option]  # the chosen option, by name of the decision
Walked: TypeAlias = "tuple[Backbone, dict[str, Option]]"  # a network and its decisions
AnyNetwork = TypeVar("AnyNetwork", bound="Backbone", covariant=True)


class SearchSpace(Protocol):
    """A space, or a space restricted to a budget; an option of size 0 is not allowed."""

    @property
    def size(self) -> int:
        """The number of networks, or the best known bound of it."""

    def walk(self, choose: Chooser) -> Walked:
        """Return one network with its decisions; may take several walks, so that `choose` is called for each."""


class NetworkSpace(ABC, Generic[AnyNetwork]):
    """A set of networks that decisions lead to: of the language, of timm's builders, or restricted by relations."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of networks, computed without listing them."""

    @abstractmethod
    def decide(self, choose: Chooser) -> AnyNetwork:
        """Return one network; `choose` is called for each decision with several options, always in the same order."""

    @abstractmethod
    def decisions_of(self, network: Backbone) -> dict[str, Option] | None:
        """Return the decisions that lead to a network; None where it is not in the space."""

    def walk(self, choose: Chooser) -> tuple[AnyNetwork, dict[str, Option]]:
        """Return one network with its decisions; `replay` turns the decisions into the same network."""
        decisions: dict[str, Option] = {}

        def recording(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            index = choose(name, options, sizes)
            decisions[name] = options[index]
            return index

        return self.decide(recording), decisions

    def walks(self) -> Iterator[tuple[AnyNetwork, dict[str, Option]]]:
        """Yield every network once, with its decisions; the last decision changes fastest."""
        indices: list[int] | None = []
        while indices is not None:
            walked: list[tuple[int, tuple[int, ...]]] = []
            yield self.walk(_following(indices, walked))
            indices = _next_indices(walked)

    def __iter__(self) -> Iterator[AnyNetwork]:
        """Yield every network once, in the order of `walks`."""
        return (net for net, _ in self.walks())

    def replay(self, decisions: Decisions) -> AnyNetwork:
        """Return the network of these decisions; SpecError if a decision is missing or no option."""

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            option = decisions.get(name)
            if option not in options:
                raise SpecError(f"decision {name} is {option}; expected {' or '.join(map(str, options))}")
            return options.index(option)

        return self.decide(choose)


@dataclass(frozen=True)
class Space(NetworkSpace[Net]):
    """All networks that a spec describes. `parse` makes spaces and checks that all their networks are valid."""

    root: Group

    def __str__(self) -> str:
        return self.root.alternatives_text

    @property
    def size(self) -> int:
        """Number of networks, computed without listing them."""
        return self.root.size

    def decide(self, choose: Chooser) -> Net:
        """Return one network; `choose` is called for each decision with several options, always in the same order."""
        parts: list[Part] = []
        _add_parts(self.root, "", {}, choose, parts)
        return Net.of(parts)

    def decisions_of(self, network: Backbone) -> dict[str, Option] | None:
        """Return the decisions that lead to a network; None where it is not in the space."""
        if not isinstance(network, Net):
            return None
        ways = _ways_to(self.root, "", {}, (), network)
        return next((decisions for parts, decisions in ways if network.consists_of(parts)), None)


_Way: TypeAlias = tuple[tuple[Part, ...], dict[str, Option]]  # parts of a network, and the decisions that lead to them


def _ways_to(
    term: Term, name: str, values: Mapping[str, Option], parts: tuple[Part, ...], network: Net
) -> Iterator[_Way]:
    """Yield each way through a term that goes on with the parts of a network: all parts so far, and its decisions.

    `parts` are those before the term, `name` and `values` come from the groups around it.
    """
    choices: list[Sequence[Option]] = [argument.options for argument in term.arguments]
    for options in product(*choices):
        own: dict[str, Option] = dict(zip((argument.letter for argument in term.arguments), options, strict=True))
        own_values = {**values, **own}
        decided = {name + each.letter: own[each.letter] for each in term.arguments if len(each.options) > 1}
        if isinstance(term, Leaf):
            part = _possible_part(term.kind, own_values)
            if part is not None and network.goes_on_with(part, parts):
                yield (*parts, part), decided
            continue
        for label, path, addresses in zip(term.labels, term.paths, term.addresses, strict=True):
            ways: Iterator[_Way] = iter([(parts, {})])
            for inner, address in zip(path, addresses, strict=True):
                ways = _ways_on(ways, inner, name + address, own_values, network)
            which = {name + "which": label} if len(term.paths) > 1 else {}
            yield from ((found, decided | which | decisions) for found, decisions in ways)


def _possible_part(kind: str, values: Mapping[str, Option]) -> Part | None:
    """Return a stem or stage; None where its kind does not allow these arguments, which relations then exclude."""
    with suppress(SpecError):
        return make_part(kind, tuple(values.items()))
    return None


def _ways_on(
    ways: Iterator[_Way],
    term: Term,
    name: str,
    values: Mapping[str, Option],
    network: Net,
) -> Iterator[_Way]:
    """Continue ways through the terms before a term of their path."""
    for parts, decisions in ways:
        for found, more in _ways_to(term, name, values, parts, network):
            yield found, decisions | more


def _following(indices: list[int], walked: list[tuple[int, tuple[int, ...]]]) -> Chooser:
    """Return a chooser that takes these indices, then first allowed options, and records each index with the sizes."""

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        decision = len(walked)
        index = indices[decision] if decision < len(indices) else _first_allowed(sizes, 0)
        assert index is not None
        walked.append((index, sizes))
        return index

    return choose


def _next_indices(walked: list[tuple[int, tuple[int, ...]]]) -> list[int] | None:
    """Return the first indices of the next network; None after the last network."""
    while walked:
        index, sizes = walked.pop()
        if (following := _first_allowed(sizes, index + 1)) is not None:
            return [*(index for index, _ in walked), following]
    return None


def _first_allowed(sizes: tuple[int, ...], start: int) -> int | None:
    return next((index for index in range(start, len(sizes)) if sizes[index]), None)


def _add_parts(term: Term, name: str, values: dict[str, int | str], choose: Chooser, parts: list[Part]) -> None:
    """Add the parts of one network to `parts`; `name` and `values` come from the groups around the term."""
    if term.arguments:
        values = dict(values)
        for argument in term.arguments:
            index = choose_index(name + argument.letter, argument.options, argument.sizes, choose)
            values[argument.letter] = argument.options[index]
    if isinstance(term, Leaf):
        parts.append(make_part(term.kind, tuple(values.items())))
        return
    which = choose_index(name + "which", term.labels, term.sizes, choose)
    for inner, address in zip(term.paths[which], term.addresses[which], strict=True):
        _add_parts(inner, name + address, values, choose, parts)


def choose_index(name: str, options: Options, sizes: tuple[int, ...], choose: Chooser) -> int:
    """Return the index of the only option, or of the one that `choose` takes."""
    if len(options) == 1:
        return 0
    index = choose(intern(name), options, sizes)  # the same text for all networks of a search, which keeps them
    assert 0 <= index < len(options), f"{index} is not an index of the {len(options)} options of {name}"
    return index
