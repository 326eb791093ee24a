"""The space a search walks, restricted to its cost constraints; options of each decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

from hiri_search.cost.budget.constrained_space import BudgetError, ConstrainedSpace
from hiri_search.language import Net, Space
from hiri_search.language.choosers import covering
from hiri_search.language.space import Decisions, SearchSpace
from hiri_search.language.syntax_tree import Options
from hiri_search.study.config.networks import StudyNetworks
from hiri_search.study.config.schema import Study
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.network_facts import milliseconds

MAX_NAMES = 100  # rows of an ablation up to which Optuna shows names; it stores all names with each trial


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


def options_of(networks: StudyNetworks, past: Sequence[Trial]) -> Mapping[str, Options]:
    """Return the options of every decision that the trials have made, by the decision's name."""
    space = networks.space
    if space is None:
        rows = tuple(row.name for row in networks.rows)
        return {"net": rows if len(rows) <= MAX_NAMES else tuple(range(len(rows)))}
    by_decision: dict[str, Options] = {}
    for trial in past:
        decisions = trial.asked.decisions
        if not decisions.keys() <= by_decision.keys():
            by_decision |= _options_on_walk(space, decisions)
    return by_decision


def all_options(space: Space) -> Mapping[str, Options]:
    """Return the options of every decision of a space, by the decision's name."""
    by_decision: dict[str, Options] = {}
    for _, decisions in covering(space):
        by_decision |= _options_on_walk(space, decisions)
    return by_decision


def _options_on_walk(space: Space, decisions: Decisions) -> dict[str, Options]:
    """Return the options of the decisions that lead to one network."""
    by_decision: dict[str, Options] = {}

    def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
        by_decision[name] = options
        return int(decisions[name])

    space.decide(choose)
    return by_decision
