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

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import losses, losses_after, objectives_of
from hiri_search.study.search.samplers.optuna_sampler import choices, new_study
from hiri_search.study.search.search_space import taken_options

MIN_TRIALS_FOR_IMPORTANCE = 8
MAX_TRIALS_USED = 3_000  # more trials take long and give the same shares
BEST_SHARE, MIN_BEST = 0.1, 5  # share of the trials that count as best, and their least number
FRONT = "front"

Shares = Mapping[str, float]  # importance by decision; the sum is 1
Target = Callable[[FrozenTrial], float] | None


def importances(study: StudyConfig, past: Sequence[Trial]) -> dict[str, Shares]:
    """Return the PED-ANOVA importance of each decision, by objective, and as `front` for all objectives together.

    The importance says how much a decision separates the best tenth of the trials from the others; conditional
    decisions are included. Scores are taken at the first rung, so that stopped trials count too. The result is empty
    with fewer than MIN_TRIALS_FOR_IMPORTANCE such trials; of more than MAX_TRIALS_USED every n-th is used.
    """
    objectives, halving = objectives_of(study), study.search.halving
    epochs = halving.epochs[0] if halving else study.recipe.epochs
    reached = [trial for trial in past if len(trial.curve) >= epochs and not trial.is_confirmation]
    losses_of = (
        losses_after(trial, epochs, objectives) if halving else losses([trial], objectives) for trial in reached
    )
    measured = [(trial, values) for trial, values in zip(reached, losses_of, strict=True) if values]
    if len(measured) < MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    measured = measured[:: ceil(len(measured) / MAX_TRIALS_USED)]
    options = taken_options(trial.asked.decisions for trial in reached)
    optuna_study = new_study([StudyDirection.MINIMIZE] * len(objectives))
    for trial, values in measured:
        distributions, params = choices(trial.asked.decisions, options)
        optuna_study.add_trial(optuna.create_trial(values=values, params=params, distributions=distributions))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(BEST_SHARE, MIN_BEST / len(measured)))
    targets: dict[str, Target] = {name: partial(_loss, index) for index, name in enumerate(study.search.objectives)}
    if len(objectives) > 1:
        targets[FRONT] = None  # Optuna ranks by domination
    return {name: _shares(evaluator, optuna_study, target) for name, target in targets.items()}


def _loss(index: int, trial: FrozenTrial) -> float:
    return float(trial.values[index])


def _shares(evaluator: PedAnovaImportanceEvaluator, study: optuna.Study, target: Target) -> Shares:
    """Return importances scaled to the sum 1; all are 0 where no decision separates the best trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that low values count as good, which is right for losses
        importance = evaluator.evaluate(study, target=target)
    total = sum(importance.values()) or 1.0
    return {name: value / total for name, value in importance.items()}
