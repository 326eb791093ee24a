"""The space a search walks, restricted to its cost constraints; options of each decision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import inf, prod
from random import Random
from typing import TypeGuard

from hiri_search.cost.budget.constrained_space import BudgetError, ConstrainedSpace
from hiri_search.cost.flops import count
from hiri_search.language import Chooser, Network, RelatedSpace, TimmNetwork, TimmSpace, uniform
from hiri_search.language.choosers import covering, noting
from hiri_search.language.space import Decisions, SearchSpace, Walked
from hiri_search.language.syntax_tree import Option, Options
from hiri_search.study.config.choices import RecipeOptions, decision_options
from hiri_search.study.config.networks import (
    Candidate,
    InvalidNetwork,
    StudyNetworks,
    at_space,
    covering_networks,
    network_of,
    start_of,
)
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.dense import with_method
from hiri_search.study.errors import StudyError
from hiri_search.study.search.network_facts import check_own_kinds, milliseconds
from hiri_search.system.files import Say
from hiri_search.system.units import GIGA, MEGA

MAX_BUILT = 20  # networks of a space of timm that are built and counted before a search


def checked_space(networks: StudyNetworks, say: Say) -> SearchSpace:
    """Return the space of a search as `search_space` does, and say how many networks it has.

    Raises InvalidNetwork where an option does not fit the study, or none of several networks can be counted.
    """
    assert networks.space is not None
    if isinstance(getattr(networks.space, "space", networks.space), TimmSpace):
        say("building and counting networks of the space")
    check_own_kinds(networks.study, covering_counted(networks.study, networks.space))
    if isinstance(networks.space, RelatedSpace):
        say(networks.space.summary)
    space = search_space(networks, say)
    if isinstance(space, ConstrainedSpace):
        say(space.summary)
    check_start(networks, space, say)
    return with_choices(space, networks.study)


def check_start(networks: StudyNetworks, space: SearchSpace, say: Say) -> None:
    """Check the networks that a search begins with. StudyError where one is not within the cost constraints."""
    study = networks.study
    assert networks.space is not None
    for candidate in start_of(study, networks.space):
        check_counted(study, candidate)
        if isinstance(space, ConstrainedSpace) and not space.allows(candidate.network):
            cost = count(candidate.network, candidate.side, classes=study.counted.classes)
            costs = f"{cost.macs / GIGA:.4g} GMACs and {cost.params / MEGA:.4g} M params"
            problem = f"search.start: {candidate.name} has {costs}, and is not within {space.constraints}"
            raise StudyError(f"{problem}; leave it out, or change within")
    if (given := len(study.search.start)) > study.search.networks:
        say(f"search.start has {given} networks; only the first {study.search.networks} are trained (search.networks)")


class SpaceOfSettings:
    """The networks of a space with each setting of the recipe: the last decisions are those on the recipe."""

    def __init__(self, space: SearchSpace, choices: RecipeOptions) -> None:
        self.space, self._options = space, decision_options(choices)

    @property
    def size(self) -> int:
        """The number of networks, times that of settings."""
        return self.space.size * prod(map(len, self._options.values()))

    def walk(self, choose: Chooser) -> Walked:
        """Return one network, with the decisions on it and on its recipe."""
        network, decisions = self.space.walk(choose)
        chosen = {name: options[choose(name, options, (1,) * len(options))] for name, options in self._options.items()}
        return network, decisions | chosen


def with_choices(space: SearchSpace, study: StudyConfig) -> SearchSpace:
    """Return the space of a search with the choices in its recipe."""
    return SpaceOfSettings(space, study.choices) if study.choices else space


def search_space(networks: StudyNetworks, say: Say = lambda line: None) -> SearchSpace:
    """Return the space of a search under its cost constraints. Raises StudyError where no network meets them.

    Takes seconds where parts of networks are counted for the first time, and minutes for networks of timm.
    """
    study, space = networks.study, networks.space
    assert space is not None
    if (constraints := study.constraints) is None:
        return space
    try:
        side, classes = study.counted.side, study.counted.classes
        under = partial(with_method, study) if study.method else None
        measure = partial(_measured, study)
        return ConstrainedSpace(space, constraints, side, classes=classes, under=under, measure=measure, say=say)
    except BudgetError as error:
        raise StudyError(f"within: {error}") from error


def check_counted(study: StudyConfig, candidate: Candidate) -> None:
    """Raise InvalidNetwork where timm cannot build a network at its sides, or it cannot be counted."""
    if isinstance(candidate.network, TimmNetwork):
        with at_space():
            count(candidate.network, candidate.side, classes=study.counted.classes)
            if candidate.trained and candidate.trained_side != candidate.side:
                count(candidate.trained, candidate.trained_side, classes=study.counted.classes)


def covering_counted(study: StudyConfig, space: SearchSpace) -> Iterator[Candidate]:
    """Yield networks that together take many options of a space; of timm those of a few that can be counted.

    Raises InvalidNetwork where none can, and where a network of the language does not fit.
    """
    misfit, fits = None, False
    for number, candidate in enumerate(covering_networks(study, space)):
        if number == MAX_BUILT and isinstance(candidate.network, TimmNetwork):
            break
        try:
            check_counted(study, candidate)
        except InvalidNetwork as error:
            misfit = misfit or error
        else:
            fits = True
            yield candidate
    if misfit and not fits:
        raise misfit


def sampled_networks(study: StudyConfig, space: SearchSpace, number: int) -> Iterator[Candidate]:
    """Yield those of `number` uniformly sampled networks that fit. Raises InvalidNetwork where none fits."""
    rng, fits = Random(study.search.seed), False
    for left in reversed(range(number)):
        try:
            candidate = network_of(study, *space.walk(uniform(rng)))
            check_counted(study, candidate)
        except InvalidNetwork:
            if not (left or fits):
                raise
        else:
            fits = True
            yield candidate


def _measured(study: StudyConfig, net: Network) -> float:
    """Return the milliseconds of one image; infinity where the network does not fit into memory."""
    latency = milliseconds(study, net)
    return inf if latency is None else latency


def taken_options(walks: Iterable[Decisions]) -> dict[str, Sequence[Option]]:
    """Return the options that walks take, by the decision's name: numbers in ascending order, else as they appear."""
    by_decision: dict[str, dict[Option, None]] = {}
    for decisions in walks:
        for name, option in decisions.items():
            by_decision.setdefault(name, {})[option] = None
    taken = {name: list(options) for name, options in by_decision.items()}
    return {name: sorted(options) if are_numbers(options) else options for name, options in taken.items()}


def are_numbers(options: Sequence[Option]) -> TypeGuard[Sequence[int]]:
    """Return whether a decision is one between numbers; walks of unlike spaces may take numbers and words."""
    return all(isinstance(option, int) for option in options)


def all_options(space: SearchSpace) -> Mapping[str, Options]:
    """Return the options of every decision of a space, by the decision's name."""
    by_decision: dict[str, Options] = {}
    for _, decisions in covering(space):
        space.walk(noting(by_decision, decisions))
    return by_decision
