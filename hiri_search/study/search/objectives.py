"""Objectives of a search, as losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hiri_search.language import Network, SpecError
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.dense import with_method
from hiri_search.study.ledger.trial import Trial
from hiri_search.system.units import GIB, GIGA, MEGA
from hiri_search.training.score import Score

MAX_CACHED = 20_000  # networks with cached costs; a sampler compares about a hundred for each that it proposes


@dataclass(frozen=True)
class Objective:
    """A number of a finished trial that a search maximises or minimises."""

    name: str
    label: str  # as in a sentence
    up: bool  # true: maximised
    of: Callable[[Trial], float | None]  # value of a finished trial; None where it was not measured

    def loss(self, trial: Trial) -> float | None:
        """Return the value of a trial with the sign under which smaller is better."""
        value = self.of(trial)
        return None if value is None else -value if self.up else value


_COSTS = (
    Objective("gmacs", "GFLOPs", False, lambda trial: trial.network.macs / GIGA),
    Objective("mparams", "params", False, lambda trial: trial.network.params / MEGA),
    Objective("ms_per_image", "inference", False, lambda trial: trial.network.ms_per_image),
    Objective("memory", "memory", False, lambda trial: _scaled(trial.curve[-1].peak_memory_bytes, GIB)),  # in training
)
COSTS: Mapping[str, Objective] = {cost.name: cost for cost in _COSTS}


def objectives_of(study: StudyConfig, *, test: bool = False) -> tuple[Objective, ...]:
    """Return the objectives of a search; of an ablation, the score that judges a trial, and its multiply-adds.

    Scores are those on the validation images, by which a study chooses; with `test` those on the test images, by which
    results are reported.
    """
    names = study.search.objectives if study.space is not None else (study.headline.name, "gmacs")
    scores = {score.name: score.test if test else score for score in study.scores}
    return tuple(_by_score(scores[name]) if name in scores else COSTS[name] for name in names)


def _by_score(score: Score) -> Objective:
    return Objective(score.name, score.label, score.up, lambda trial: trial.curve[-1].score(score.name))


def losses(trials: Sequence[Trial], objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Return the loss of a network by objective, as means over its seeds; None where a value was not measured."""
    by_objective = [[objective.loss(trial) for trial in trials] for objective in objectives]
    means = [_mean(column) for column in by_objective]
    return tuple(mean for mean in means if mean is not None) if None not in means else None


def losses_after(trial: Trial, epochs: int, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Return the losses that a trial had after its first `epochs` epochs, before the end of its training.

    Scores are those of the averaged weights where they were measured: in the middle of a training, when the learning
    rate is high, they are nearer to the final order than the last weights (results/reference/calibration.md).
    """
    return losses([replace(trial, curve=[trial.curve[epochs - 1].averaged])], objectives)


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured and len(measured) == len(values) else None


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def cost_function(study: StudyConfig) -> Callable[[Network], Mapping[str, float]]:
    """Return a function that counts the costs of an untrained network of a space, by objective, with a cache.

    A backbone is counted with the method of the study, if it has one. It raises SpecError where the network cannot be
    counted: timm cannot build it, or it does not fit the side.
    """
    from hiri_search.cost.flops import count  # slow

    cached: dict[str, Mapping[str, float] | SpecError] = {}

    def counted(net: Network) -> Mapping[str, float] | SpecError:
        try:
            cost = count(with_method(study, net), study.counted.side, classes=study.counted.classes)
        except SpecError as error:
            return error
        return {"gmacs": cost.macs / GIGA, "mparams": cost.params / MEGA}

    def costs(net: Network) -> Mapping[str, float]:
        if net.key not in cached:
            if len(cached) == MAX_CACHED:
                del cached[next(iter(cached))]  # the oldest entry
            cached[net.key] = counted(net)
        found = cached[net.key]
        if isinstance(found, SpecError):
            raise found
        return found

    return costs
