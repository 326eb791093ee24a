"""The networks of a study: each with its side, its stand-in for training, its recipe and its Job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from hiri_search.language import Net, Network, Space, SpecError, TimmNetwork, parse, parse_network
from hiri_search.language.choosers import covering
from hiri_search.language.space import SearchSpace
from hiri_search.study.config.schema import NetworkRow, ProxyConfig, Study
from hiri_search.study.ledger.values import NetworkFacts
from hiri_search.training.job import Job
from hiri_search.training.recipe import Recipe


@dataclass(frozen=True)
class Candidate:
    """A network with a name, and what stands in for it in a training."""

    name: str
    network: Network
    side: int  # pixels, at which it is counted and timed
    trained: Network | None  # None: counted and shown, not trained
    trained_side: int
    recipe: Recipe
    decisions: dict[str, int]  # that led to it: names and indices


class InvalidNetwork(SpecError):
    """A network that a study cannot have: `key` is the setting it fails on, `around` the row or space it is of."""

    def __init__(self, key: tuple[str, ...], around: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.key, self.context = key, around


@contextmanager
def at_key(key: tuple[str, ...], around: tuple[str, ...]) -> Iterator[None]:
    """A mistake in here is one of the setting `key`."""
    try:
        yield
    except SpecError as error:
        raise InvalidNetwork(key, around, str(error)) from error


@dataclass(frozen=True)
class StudyNetworks:
    """A study with its specs parsed: the rows of an ablation, or the space of a search."""

    study: Study
    rows: tuple[Candidate, ...]  # of an ablation, rows with `train: false` included; empty for a search
    space: Space | None  # of a search, without its cost constraints; None for an ablation

    @property
    def trained_rows(self) -> list[Candidate]:
        """Rows of an ablation without those that are only counted."""
        return [row for row in self.rows if row.trained]

    @cached_property
    def training_settings(self) -> frozenset[tuple[int, Recipe]]:
        """Each distinct pair of a training side in pixels and a recipe."""
        if self.space is not None:
            return frozenset({(self.study.proxy.side, self.study.recipe)})
        return frozenset((row.trained_side, row.recipe) for row in self.trained_rows)

    @cached_property
    def _recipes(self) -> Mapping[str, Recipe]:
        return {row.name: row.recipe for row in self.rows}

    def job(self, network: NetworkFacts, seed: int, *, epochs: int | None = None) -> Job:
        """Return the training of a network; `epochs` replaces those of its recipe.

        Raises SpecError where the spec of the trained network cannot be parsed.
        """
        recipe = self._recipes.get(network.own_name, self.study.recipe)
        if epochs is not None:
            recipe = replace(recipe, epochs=epochs)
        spec = parse_network(network.trained.spec).canonical_text
        return Job(spec, network.trained.side, self.study.proxy.classes, seed, recipe, self.study.data)


def resolve(study: Study) -> StudyNetworks:
    """Parse and check the networks of a study, once for each command.

    Raises InvalidNetwork where a spec cannot be parsed, or a network or its stand-in does not fit its side.
    """
    rows = tuple(_row(study, name, row, index) for index, (name, row) in enumerate((study.nets or {}).items()))
    if study.space is None:
        return StudyNetworks(study, rows, None)
    with at_key(("space",), ("space",)):
        return StudyNetworks(study, rows, parse(study.space, let=study.let))


def _row(study: Study, name: str, row: NetworkRow, index: int) -> Candidate:
    here = ("nets", name)
    with at_key(here, here):
        network = parse_network(row.spec, let=study.let)
    side = row.side or study.counted.side
    with at_key((*here, "side") if row.side else ("counted", "side"), here):
        _check_side(network, side)
    if not row.train:
        return Candidate(name, network, side, None, 0, study.recipe, {"net": index})
    with at_key((*here, "stand_in") if row.stand_in else ("proxy", "width"), here):
        small = parse_network(row.stand_in, let=study.let) if row.stand_in else stand_in(network, study.proxy)
    with at_key((*here, "stand_in_side") if row.stand_in_side else ("proxy", "side"), here):
        small_side = row.stand_in_side or _scaled(side, study)
        _check_side(small, small_side)
    return Candidate(name, network, side, small, small_side, row.recipe or study.recipe, {"net": index})


def stand_in(network: Network, proxy: ProxyConfig) -> Network:
    """The network that is trained for one that is counted: one of timm's is trained as it is."""
    return network if isinstance(network, TimmNetwork) else network.scaled_down(width=proxy.width, depth=proxy.depth)


def covering_networks(study: Study, space: SearchSpace) -> Iterator[Candidate]:
    """Networks that take every option of a space once: where one of them does not fit, nothing is begun. Misfit."""
    return (network_of(study, net, decisions) for net, decisions in covering(space))


def network_of(study: Study, net: Net, decisions: dict[str, int]) -> Candidate:
    """One network of a space. Misfit."""
    counted, proxy = study.counted, study.proxy
    with at_key(("counted", "side"), ("space",)):
        _check_side(net, counted.side)
    with at_key(("proxy", "width"), ("space",)):
        small = stand_in(net, proxy)
    with at_key(("proxy", "side"), ("space",)):
        _check_side(small, proxy.side)
    return Candidate(str(net), net, counted.side, small, proxy.side, study.recipe, decisions)


def _check_side(network: Network, side: int) -> None:
    """What side fits a network of timm is found when it is counted."""
    if isinstance(network, Net):
        network.grids(side)


def _scaled(side: int, study: Study) -> int:
    """`proxy.side` stands for `counted.side`; rows of other sides are brought down by the same ratio."""
    scaled, rest = divmod(side * study.proxy.side, study.counted.side)
    if rest:
        ratio = f"{side} * {study.proxy.side} / {study.counted.side}"
        raise SpecError(f"the side to train at would be {ratio}, no whole number; write it as stand_in_side")
    return scaled
