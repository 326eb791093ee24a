"""The space a search walks, restricted to its budget; options of each decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

from hiri_search.cost.budget.constrained_space import BudgetError, ConstrainedSpace
from hiri_search.language import Net
from hiri_search.language.space import SearchSpace
from hiri_search.language.syntax_tree import Options
from hiri_search.study.config.networks import StudyNetworks
from hiri_search.study.config.schema import Study
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.network_facts import milliseconds


def search_space(networks: StudyNetworks) -> SearchSpace:
    """The space of a search, inside its budget if it has one. StudyError where no network lies in that.

    Counting for a budget what no network has been counted for before takes seconds.
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
    """What does not fit into memory keeps no limit."""
    found = milliseconds(study, net)
    return inf if found is None else found


MAX_NAMES = 100  # of an ablation, in each of whose trials Optuna writes them all; more rows are numbers


def options_of(networks: StudyNetworks, past: Sequence[Trial]) -> Mapping[str, Options]:
    """Of every decision that was made: each has the same wherever it is made."""
    space = networks.space
    if space is None:
        rows = tuple(row.name for row in networks.rows)
        return {"net": rows if len(rows) <= MAX_NAMES else tuple(range(len(rows)))}
    known: dict[str, Options] = {}
    for trial in past:
        if trial.asked.decisions.keys() <= known.keys():
            continue

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            known[name] = options
            return int(trial.asked.decisions[name])  # noqa: B023 - used before the next trial

        space.decide(choose)
    return known
