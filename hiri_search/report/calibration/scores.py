"""Scores of the networks of a calibration under one setting, by seed; larger is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.report.tables.results import Results
from hiri_search.study.calibration.record import CalibrationRecord
from hiri_search.study.calibration.zero_cost import ZeroCost
from hiri_search.study.ledger.layout import REFERENCE
from hiri_search.study.ledger.trial import CURVES, ENDED_STATES
from hiri_search.system.units import GIGA, HOUR, MEGA

WEIGHTS = ("last", "averaged")  # of the network when a score was measured; in the order of CURVES


@dataclass(frozen=True, eq=False)
class SettingScores:
    """The trainings of one setting."""

    name: str
    results: Results

    @property
    def description(self) -> str:
        """The training in words."""
        study, images = self.results.study, self.results.started.images
        training = f"{study.recipe.epochs} epochs on {images.train} images at {study.proxy.side} pixels"
        return f"{training}, {seeds_text(len(self.seeds))}"

    @cached_property
    def trials(self) -> list[Mapping[str, Any]]:
        return self.results.first_trainings

    @cached_property
    def networks(self) -> pd.DataFrame:
        """Costs of the trained networks, by name: `gflops` and `params_m` as counted, and those of the stand-ins."""
        rows = pd.DataFrame([row for row in self.results.counted if row.get("trained_spec")]).set_index("name")
        return pd.DataFrame(
            {
                "gflops": rows["macs"] / GIGA,
                "params_m": rows["params"] / MEGA,
                "trained_gflops": rows["trained_macs"] / GIGA,
                "trained_params_m": rows["trained_params"] / MEGA,
            }
        )

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds with which every training has ended, in the order of the study; at least the first one."""
        ended = {(row["name"], row["seed"]) for row in self.trials if row["state"] in ENDED_STATES}
        seeds = self.results.study.first_seeds
        complete = [seed for seed in seeds if all((name, seed) in ended for name in self.networks.index)]
        return tuple(complete) or seeds[:1]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores of the finished trainings, with the sign under which larger is better: a row for each network."""
        score = self.results.score
        finished = [row for row in self.trials if row["state"] == "finished" and row["seed"] in self.seeds]
        table = pd.DataFrame(finished, columns=["name", "seed", score.name]).astype({score.name: float})
        by_seed = table.pivot(index="name", columns="seed", values=score.name) * -score.loss_sign
        return by_seed.reindex(index=self.networks.index, columns=self.seeds)

    def means(self, seeds: int | None = None) -> pd.Series:
        """Return the mean over the first `seeds` seeds (None: all) of each network that has finished with all."""
        return self.scores.iloc[:, :seeds].mean(axis=1, skipna=False).dropna()

    def hours(self, seeds: int | None = None) -> float:
        """Return the measured hours of all trainings with the first `seeds` seeds: core-hours, or hours on a GPU.

        A training whose curve is reused counts with the time that it took.
        """
        counted = [row for row in self.trials if row["seed"] in self.seeds[:seeds]]
        return sum(float(row["seconds"]) + float(row.get("seconds_reused", 0.0)) for row in counted) / HOUR

    def work(self, seeds: int | None = None) -> float:
        """Return the multiply-adds of the forward passes of all training images, in 10⁹: on any machine the same."""
        images = self.results.study.recipe.epochs * self.results.started.images.train
        return float(self.networks["trained_gflops"].sum()) * images * len(self.seeds[:seeds])

    @cached_property
    def curves(self) -> Mapping[str, Mapping[tuple[str, int], Sequence[float]]]:
        """Validation scores after each epoch, with the sign under which larger is better, by network and seed.

        By weights: WEIGHTS; averaged ones where every epoch of every training has measured them.
        """
        sign = -self.results.curve_score.loss_sign
        by_weights = {
            weights: {(row["name"], row["seed"]): [sign * score for score in row[column]] for row in self.trials}
            for weights, column in zip(WEIGHTS, CURVES, strict=True)
        }
        epochs, averaged = (sum(map(len, curves.values())) for curves in by_weights.values())
        return by_weights if averaged == epochs else {WEIGHTS[0]: by_weights[WEIGHTS[0]]}

    def after(self, epoch: int, seeds: Sequence[int], weights: str) -> pd.Series:
        """Return the mean validation score after an epoch over some seeds, of networks that were trained so far."""
        curves = self.curves[weights]
        reached = {
            name: [curves[name, seed][epoch - 1] for seed in seeds]
            for name in self.networks.index
            if all(len(curves.get((name, seed), ())) >= epoch for seed in seeds)
        }
        return pd.Series({name: float(np.mean(scores)) for name, scores in reached.items()}, dtype="float64")


@dataclass(frozen=True)
class ZeroCostScores:
    """A zero-cost score of the networks, by name, and the hours that it took."""

    values: pd.Series
    hours: float


@dataclass(frozen=True, eq=False)
class CalibrationResults:
    """The results of a calibration, as its tables and figures need them."""

    title: str
    reference: SettingScores
    settings: Sequence[SettingScores]  # that have begun
    zero_cost: Mapping[str, ZeroCostScores]
    bands: Mapping[str, str]  # band of each drawn network, by name


def calibration_results(
    record: CalibrationRecord, results: Mapping[str, Results], zero_cost: Mapping[str, ZeroCost]
) -> CalibrationResults | None:
    """Return a calibration with the results of its settings by name, and zero-cost scores by network.

    None where the reference has not begun.
    """
    settings = {name: SettingScores(name, each) for name, each in results.items()}
    if (reference := settings.pop(REFERENCE, None)) is None:
        return None
    hours = sum(each.seconds for each in zero_cost.values()) / HOUR
    columns = pd.DataFrame({name: each.scores for name, each in zero_cost.items()}, dtype="float64").T
    return CalibrationResults(
        record.title,
        reference,
        tuple(settings.values()),
        {str(name): ZeroCostScores(columns[name], hours) for name in columns},
        {name: str(band) for band in record.bands for name in band.networks},
    )


def seeds_text(number: float) -> str:
    """Return `1 seed`, or `3 seeds`."""
    return "1 seed" if number == 1 else f"{number:.0f} seeds"


def aligned(first: pd.Series, second: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return two series over the networks that both have, in the order of the first."""
    shared = [name for name in first.index if name in second.index]
    return first[shared], second[shared]
