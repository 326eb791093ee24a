"""The networks of a study: each with its side, its stand-in for training, its recipe and its Job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from hiri_search.language import (
    Backbone,
    DenseNetwork,
    Net,
    Network,
    SpecError,
    TimmNetwork,
    parse_backbone,
    parse_network,
    parse_space,
)
from hiri_search.language.choosers import covering
from hiri_search.language.dense_network import InputSize, height_and_width, square_side
from hiri_search.language.relations.related_space import AnySpace, InvalidRelation
from hiri_search.language.space import Decisions, SearchSpace
from hiri_search.study.config.choices import decided, decisions_for, named, recipes
from hiri_search.study.config.schema import NetworkRow, ProxyConfig, StudyConfig
from hiri_search.study.config.schema_keys import Key
from hiri_search.study.config.sections.dense import with_method
from hiri_search.study.ledger.values import NetworkFacts, from_json
from hiri_search.training.job import Job
from hiri_search.training.recipe import Recipe
from hiri_search.user_code import combined


@dataclass(frozen=True)
class Candidate:
    """A named network, and the network that is trained in its place."""

    name: str
    network: Network
    side: InputSize  # pixels; the network is counted and timed at this side
    trained: Network | None  # None: counted and reported, not trained
    trained_side: int
    recipe: Recipe
    width_divisor: int = 1  # the recipe is for a network whose widths are this many times as large
    decisions: Decisions = field(default_factory=dict)  # of a search


class InvalidNetwork(SpecError):
    """A network that a study cannot use: `key` is the setting at fault, `context` the network's row or space."""

    def __init__(self, key: Key, context: Key, message: str) -> None:
        super().__init__(message)
        self.key, self.context = key, context


@contextmanager
def at_key(key: Key, context: Key) -> Iterator[None]:
    """Turn a SpecError of the block into an InvalidNetwork at the setting `key`."""
    try:
        yield
    except SpecError as error:
        raise InvalidNetwork(key, context, str(error)) from error


@contextmanager
def at_space() -> Iterator[None]:
    """Turn a SpecError of the block into an InvalidNetwork at the space of a study, or at one of its relations."""
    try:
        yield
    except InvalidNetwork:
        raise
    except InvalidRelation as error:
        raise InvalidNetwork(("where", error.number), ("where",), str(error)) from error
    except SpecError as error:
        raise InvalidNetwork(("space",), ("space",), str(error)) from error


@dataclass(frozen=True)
class StudyNetworks:
    """A study with its specs parsed: the rows of an ablation, or the space of a search."""

    study: StudyConfig
    rows: tuple[Candidate, ...]  # of an ablation, rows with `train: false` included; empty for a search
    space: AnySpace | None  # of a search, without its cost constraints; None for an ablation

    @property
    def trained_rows(self) -> list[Candidate]:
        """Rows of an ablation without those that are only counted."""
        return [row for row in self.rows if row.trained]

    @cached_property
    def training_settings(self) -> frozenset[tuple[int, Recipe]]:
        """Each distinct pair of a training side in pixels and a recipe."""
        if self.space is not None:
            study = self.study
            return frozenset((study.proxy.side, recipe) for recipe in recipes(study.recipe, study.choices))
        return frozenset((row.trained_side, row.recipe) for row in self.trained_rows)

    def job(self, network: NetworkFacts, seed: int, *, epochs: int | None = None) -> Job:
        """Return the training of a network of this study; `epochs` replaces those of its recipe.

        Raises SpecError where the spec of the trained network cannot be parsed.
        """
        own = network.trained.recipe
        recipe = from_json(Recipe, own) if own else self.study.recipe
        if epochs is not None:
            recipe = replace(recipe, epochs=epochs)
        spec = parse_network(network.trained.spec).canonical_text
        return self._job(spec, network.trained.side, seed, recipe, network.trained.width_divisor)

    def first_job(self, candidate: Candidate) -> Job:
        """Return the training of a candidate with the first seed of the study."""
        assert candidate.trained is not None
        spec = candidate.trained.canonical_text
        seed = self.study.first_seeds[0]
        return self._job(spec, candidate.trained_side, seed, candidate.recipe, candidate.width_divisor)

    def _job(self, spec: str, side: int, seed: int, recipe: Recipe, width_divisor: int) -> Job:
        study = self.study
        return Job(
            spec,
            side,
            study.proxy.classes,
            seed,
            recipe,
            study.data,
            code=combined(study.code.files),
            metrics=study.measured,
            width_divisor=width_divisor,
        )


def has_row(study: StudyConfig, network: NetworkFacts) -> bool:
    """Return whether a study still asks for a network of its ledger: an ablation may have lost the row since."""
    return study.nets is None or network.name in study.nets


def in_row_order(study: StudyConfig, counted: Iterable[NetworkFacts]) -> list[NetworkFacts]:
    """Return the counted rows of an ablation that the study still has, in its order."""
    by_name = {network.name: network for network in counted}
    return [by_name[name] for name in study.nets or () if name in by_name]


def resolve(study: StudyConfig) -> StudyNetworks:
    """Parse and check the networks of a study, once for each command.

    Raises InvalidNetwork where a spec cannot be parsed, or a network or its stand-in does not fit its side.
    """
    rows = tuple(_row(study, name, row) for name, row in (study.nets or {}).items())
    if study.space is None:
        return StudyNetworks(study, rows, None)
    with at_space():
        return StudyNetworks(study, rows, parse_space(study.space, let=study.let, where=study.where))


def _row(study: StudyConfig, name: str, row: NetworkRow) -> Candidate:
    context = ("nets", name)
    with at_key(context, context):
        network = with_method(study, parse_network(row.spec, let=study.let), row.method)
    side = row.side or study.counted.side
    with at_key((*context, "side") if row.side else ("counted", "side"), context):
        _check_side(network, side)
    if not row.train:
        return Candidate(name, network, side, None, 0, study.recipe)
    with at_key((*context, "stand_in") if row.stand_in else ("proxy", "width"), context):
        trained = _named_stand_in(network, row.stand_in, study) if row.stand_in else stand_in(network, study.proxy)
    with at_key((*context, "stand_in_side") if row.stand_in_side else ("proxy", "side"), context):
        trained_side = row.stand_in_side or scaled_side(side, study)
        _check_side(trained, trained_side)
    divisor = row.stand_in_width if row.stand_in else width_divisor(network, study.proxy)
    return Candidate(name, network, side, trained, trained_side, row.recipe or study.recipe, divisor)


def _named_stand_in(network: Network, text: str, study: StudyConfig) -> Network:
    """Return the network that a row names as its stand-in; of a dense network it names the backbone."""
    parsed = parse_network(text, let=study.let)
    if isinstance(network, DenseNetwork) and not isinstance(parsed, DenseNetwork):
        return network.scaled_down(parsed, width=study.proxy.width)
    return parsed


def stand_in(network: Network, proxy: ProxyConfig) -> Network:
    """Return the small relative that is trained in place of a network; a timm network stands for itself.

    That of a dense network has the stand-in of its backbone, and a pyramid of 1/`width` of the width.
    """
    if isinstance(network, DenseNetwork):
        return network.scaled_down(_backbone_stand_in(network.backbone, proxy), width=proxy.width)
    return _backbone_stand_in(network, proxy)


def _backbone_stand_in(network: Backbone, proxy: ProxyConfig) -> Backbone:
    if isinstance(network, TimmNetwork):
        return network
    return network.scaled_down(width=proxy.width, depth=proxy.depth, min_depth=proxy.min_depth)


def width_divisor(network: Network, proxy: ProxyConfig) -> int:
    """Return how many times as large the widths of a network are as those of its `stand_in`; of its pyramid, if any."""
    return 1 if isinstance(network, TimmNetwork) else proxy.width


def covering_networks(study: StudyConfig, space: SearchSpace) -> Iterator[Candidate]:
    """Yield networks that together take every option of a space. Raises InvalidNetwork where one does not fit."""
    with at_space():  # relations that no network satisfies are noticed by the first walk
        for net, decisions in covering(space):
            yield network_of(study, net, decisions)


def start_of(study: StudyConfig, space: AnySpace) -> Iterator[Candidate]:
    """Yield the networks that a search begins with. Raises InvalidNetwork where one is not in the space, or twice."""
    seen: list[Decisions] = []
    for number, start in enumerate(study.search.start):
        with at_key(key := ("search", "start", number), key):
            network = parse_backbone(start.net, let=study.let)
            found = space.decisions_of(network)
            if found is None:
                raise SpecError(f"{start.net} is not a network of the space; write one that is, or widen the space")
            if (decisions := found | decisions_for(study.choices, start.values)) in seen:
                raise SpecError(f"{start.net} is there twice; remove one")
        seen.append(decisions)
        yield network_of(study, network, decisions)


def network_of(study: StudyConfig, net: Network, decisions: Decisions) -> Candidate:
    """Return a network of a space as a candidate, with the recipe that its decisions choose.

    In detection and segmentation it is a backbone, and the candidate has the method of the study on it. Raises
    InvalidNetwork where it does not fit the study's sides.
    """
    counted, proxy, name = study.counted, study.proxy, str(net)
    net = with_method(study, net)
    with at_key(("counted", "side"), ("space",)):
        _check_side(net, counted.side)
    with at_key(("proxy", "width"), ("space",)):
        trained = stand_in(net, proxy)
    with at_key(("proxy", "side"), ("space",)):
        _check_side(trained, proxy.side)
    divisor, values = width_divisor(net, proxy), decided(study.choices, decisions)
    recipe = replace(study.recipe, **values)  # type: ignore[arg-type]
    return Candidate(named(name, values), net, counted.side, trained, proxy.side, recipe, divisor, decisions)


def _check_side(network: Network, side: InputSize) -> None:
    """Raise SpecError where a network does not fit a side; timm networks are checked when they are counted."""
    if not isinstance(network, DenseNetwork):
        square = square_side(side)
        if isinstance(network, Net):
            network.grids(square)


def scaled_side(size: InputSize, study: StudyConfig) -> int:
    """Return the training side of a row, scaled by the ratio of `proxy.side` to `counted.side` (the shorter ones)."""
    side, counted = (min(height_and_width(each)) for each in (size, study.counted.side))
    scaled, remainder = divmod(side * study.proxy.side, counted)
    if remainder:
        ratio = f"{side} * {study.proxy.side} / {counted}"
        raise SpecError(f"the training side would be {ratio}, which is not a whole number; write it as stand_in_side")
    return scaled
