"""Importance of each decision of a search (PED-ANOVA)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import ceil

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from hiri_search.study.config.networks import StudyNetworks
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import losses_after
from hiri_search.study.search.samplers.optuna_sampler import choices, new_study
from hiri_search.study.search.search_space import options_of

MIN_TRIALS_FOR_IMPORTANCE = 8  # trials; among fewer nothing is said of what matters
MAX_TRIALS_USED = 3_000  # trials that are looked at: more take long, and tell the same
BEST_SHARE, MIN_BEST = 0.1, 5  # the share of the best whose decisions are looked at, and how many of them there must be
FRONT = "front"

Shares = Mapping[str, float]  # by decision, adding up to 1
Target = Callable[[FrozenTrial], float] | None


def decided(networks: StudyNetworks, past: Sequence[Trial]) -> dict[int, dict[str, int | str]]:
    """What was chosen for each trial of a search, by its number and the name of the decision."""
    options = options_of(networks, past)
    return {
        trial.number: {name: options[name][index] for name, index in trial.asked.decisions.items()} for trial in past
    }


def importances(networks: StudyNetworks, past: Sequence[Trial]) -> dict[str, Shares]:
    """How much each decision of a search sets its best tenth apart: by objective, and as `front` for all together.

    By Optuna's PED-ANOVA, conditional decisions among them. Top-1 is that behind the epoch that all were to come to, so
    that who was stopped there counts too. Empty where that is known of too few; of more than MOST every second, third,
    ... is looked at.
    """
    study = networks.study
    names, halving = study.search.objectives, study.search.halving
    epochs = halving.epochs[0] if halving else study.recipe.epochs
    came = [trial for trial in past if len(trial.curve) >= epochs and not trial.is_confirmation]
    known = [(trial, found) for trial in came if (found := losses_after(trial, epochs, names))]
    if len(known) < MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    known = known[:: ceil(len(known) / MAX_TRIALS_USED)]
    options = options_of(networks, came)
    looked = new_study([StudyDirection.MINIMIZE] * len(names))
    for trial, found in known:
        distributions, params = choices(trial.asked.decisions, options)
        looked.add_trial(optuna.create_trial(values=found, params=params, distributions=distributions))
    best = PedAnovaImportanceEvaluator(target_quantile=max(BEST_SHARE, MIN_BEST / len(known)))
    targets: dict[str, Target] = {name: partial(_loss, index) for index, name in enumerate(names)}
    if len(names) > 1:
        targets[FRONT] = None  # by the order of domination
    return {name: _shares(best, looked, target) for name, target in targets.items()}


def _loss(index: int, trial: FrozenTrial) -> float:
    return float(trial.values[index])


def _shares(evaluator: PedAnovaImportanceEvaluator, study: optuna.Study, target: Target) -> Shares:
    """All 0 where no decision tells anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it takes low values to be good, which losses are
        found = evaluator.evaluate(study, target=target)
    whole = sum(found.values()) or 1.0
    return {name: value / whole for name, value in found.items()}
