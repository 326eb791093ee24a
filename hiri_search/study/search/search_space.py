"""The space a search walks, restricted to its cost constraints; options of each decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import inf
from typing import TypeGuard

from hiri_search.cost.budget.constrained_space import BudgetError, ConstrainedSpace
from hiri_search.language import Net, Space
from hiri_search.language.choosers import covering
from hiri_search.language.space import Chooser, Decisions, SearchSpace
from hiri_search.language.syntax_tree import Option, Options
from hiri_search.study.config.networks import StudyNetworks
from hiri_search.study.config.schema import Study
from hiri_search.study.errors import StudyError
from hiri_search.study.search.network_facts import milliseconds


def search_space(networks: StudyNetworks) -> SearchSpace:
    """Return the space of a search under its cost constraints. Raises StudyError where no network meets them.

    Takes seconds where parts of networks are counted for the first time.
    """
    study, space = networks.study, networks.space
    assert space is not None
    if (constraints := study.constraints) is None:
        return space
    try:
        side, classes = study.counted.side, study.counted.classes
        return ConstrainedSpace(space, constraints, side, classes=classes, measure=partial(_measured, study))
    except BudgetError as error:
        raise StudyError(f"within: {error}") from error


def _measured(study: Study, net: Net) -> float:
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


def all_options(space: Space) -> Mapping[str, Options]:
    """Return the options of every decision of a space, by the decision's name."""
    by_decision: dict[str, Options] = {}
    for _, decisions in covering(space):
        space.decide(_noting(by_decision, decisions))
    return by_decision


def _noting(by_decision: dict[str, Options], decisions: Decisions) -> Chooser:
    """Return a chooser that takes these decisions, and notes the options of each."""

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        by_decision[name] = options
        return options.index(decisions[name])

    return choose
