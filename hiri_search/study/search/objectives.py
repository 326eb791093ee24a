"""Objectives of a search, as losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hiri_search.language import Net
from hiri_search.study.ledger.trial import Trial
from hiri_search.system.units import GIB, GIGA, MEGA

MAX_CACHED = 20_000  # networks whose costs are remembered; a search looks at a hundred for each that it asks for


@dataclass(frozen=True)
class Objective:
    """A number that a trial comes to."""

    up: bool  # whether more of it is better
    of: Callable[[Trial], float | None]  # of a finished trial; None where it was not measured

    def loss(self, trial: Trial) -> float | None:
        """The smaller the better."""
        value = self.of(trial)
        return None if value is None else -value if self.up else value


OBJECTIVES: Mapping[str, Objective] = {
    "top1": Objective(True, lambda trial: trial.curve[-1].top1),  # percent
    "gmacs": Objective(False, lambda trial: trial.network.macs / GIGA),
    "mparams": Objective(False, lambda trial: trial.network.params / MEGA),
    "ms_per_image": Objective(False, lambda trial: trial.network.ms_per_image),
    "memory": Objective(False, lambda trial: _scaled(trial.curve[-1].peak_memory_bytes, GIB)),  # in training
}


def losses(trials: Sequence[Trial], names: Sequence[str]) -> tuple[float, ...] | None:
    """What a network comes to: the means over the seeds it was trained with; None where one was not measured."""
    by_objective = [[OBJECTIVES[name].loss(trial) for trial in trials] for name in names]
    means = [_mean(column) for column in by_objective]
    return tuple(mean for mean in means if mean is not None) if None not in means else None


def losses_after(trial: Trial, epochs: int, names: Sequence[str]) -> tuple[float, ...] | None:
    """What a trial had come to behind an epoch."""
    return losses([replace(trial, curve=trial.curve[:epochs])], names)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def counted_at(side: int, classes: int) -> Callable[[Net], Mapping[str, float]]:
    """What is known of a network before it is trained, by objective."""
    from hiri_search.cost.flops import count  # slow

    known: dict[str, Mapping[str, float]] = {}

    def costs(net: Net) -> Mapping[str, float]:
        if net.key not in known:
            if len(known) == MAX_CACHED:
                del known[next(iter(known))]  # the oldest: it is counted again where it is wanted again
            cost = count(net, side, classes=classes)
            known[net.key] = {"gmacs": cost.macs / GIGA, "mparams": cost.params / MEGA}
        return known[net.key]

    return costs
