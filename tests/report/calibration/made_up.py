"""Calibrations without trainings: scores that a test makes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hiri_search.report.calibration.scores import CalibrationResults, SettingScores, ZeroCostScores
from hiri_search.report.tables.results import Results
from hiri_search.study.ledger.events import StudyStarted
from hiri_search.study.ledger.values import ImageSet
from tests.report.examples import STARTED, example_study

Curves = Mapping[str, Sequence[Sequence[float]]]  # by network: a curve for each seed
BANDS = {  # GFLOPs of five networks in each of three bands
    f"b{band}-{number}": 2.0 * 1.5**band * (1 + 0.01 * number) for band in range(3) for number in range(5)
}


def setting(
    name: str,
    curves: Curves,
    *,
    averaged: Curves | None = None,
    seconds: float = 10.0,
    gflops: Mapping[str, float] = BANDS,
) -> SettingScores:
    """Return a setting with these validation scores, `averaged` of averaged weights; a training takes `seconds`."""
    epochs = max(len(curve) for seeds in curves.values() for curve in seeds)
    seeds = max(map(len, curves.values()))
    study = example_study(list(curves), recipe={"epochs": epochs, "warmup_epochs": 0}, seeds=seeds)
    started = StudyStarted(file={}, images=ImageSet(train=100, val=50, classes=8, fingerprints={}), **STARTED)
    counted = [_network(network, gflops[network]) for network in curves]
    trials = [
        _trial(number, row, seed, curve, seconds, epochs)
        | {"ema_curve": averaged[row["name"]][seed] if averaged else []}
        for number, (row, seed, curve) in enumerate(
            (row, seed, curve) for row in counted for seed, curve in enumerate(curves[row["name"]])
        )
    ]
    return SettingScores(name, Results(study, started, trials, counted, times=(0.0, 86_400.0)))


def _network(name: str, gflops: float) -> dict[str, Any]:
    macs = int(gflops * 1e9)
    trained = {"trained_spec": name, "trained_side": 64, "trained_macs": macs // 100, "trained_params": 10_000}
    return {"name": name, "key": name, "spec": f"spec {name}", "side": 448, "macs": macs, "params": 10**6, **trained}


def _trial(
    number: int, row: Mapping[str, Any], seed: int, curve: Sequence[float], seconds: float, epochs: int
) -> dict[str, Any]:
    state = "finished" if len(curve) == epochs else "unfinished"
    score = {"top1": curve[-1] if curve else None, "epochs": len(curve), "seconds": seconds, "curve": list(curve)}
    return {**row, "trial": number, "seed": seed, "state": state, **score}


def calibration(
    reference: SettingScores, *settings: SettingScores, zero_cost: Mapping[str, ZeroCostScores] | None = None
) -> CalibrationResults:
    """Return a calibration of these settings."""
    bands = {name: f"band {name[1]}" for name in BANDS}
    return CalibrationResults("Made up", reference, settings, zero_cost or {}, bands)
