"""Table of a calibration: how well each setting, cost and zero-cost score orders the networks, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.report.calibration.scores import CalibrationResults, SettingScores, aligned
from hiri_search.report.tables.order import ORDER_COLUMNS, order_columns
from hiri_search.stats.rank_correlation import s_beyond_cost
from hiri_search.stats.signal_to_noise import signal_to_noise

SETTING, ALONE, CEILING = "setting", "alone", "ceiling"  # kinds of lines
COST_LINES = {
    "gflops": "GFLOPs",
    "params_m": "params",
    "trained_gflops": "GFLOPs of the stand-in",
    "trained_params_m": "params of the stand-in",
}
COLUMNS = (
    *("kind", "setting", "seeds", "side", "width", "depth", "epochs", "batch", "train_images", "val_images"),
    *("hours", "of_reference", "work_of_reference", *ORDER_COLUMNS, "signal_to_noise", "pairs_per_hour"),
)


@lru_cache(1)  # of several files
def calibration_table(results: CalibrationResults) -> pd.DataFrame:
    """Return one line for each setting and number of its seeds, then the costs and zero-cost scores, then the ceiling.

    `tau` is Kendall's tau with the means of the reference, `tau_beyond_cost` that over the `pairs` of like GFLOPs.
    `pairs_per_hour` is the number of these pairs that are in the order of the reference, minus those in the other
    order, for each hour of training. `of_reference` is the share of the hours of the reference, `work_of_reference`
    that of its multiply-adds, which no busy machine changes. `signal_to_noise` belongs to the setting, not to a number
    of seeds. The ceiling is the reference, one seed against another.
    """
    reference = results.reference
    lines = [
        _setting_line(reference, setting, number)
        for setting in results.settings
        for number in range(1, len(setting.seeds) + 1)
        if len(setting.means(number))
    ]
    lines += [_alone(reference, label, reference.networks[name]) for name, label in COST_LINES.items()]
    lines += [_alone(reference, name, score.values, score.hours) for name, score in results.zero_cost.items()]
    return pd.DataFrame([*lines, *_ceiling(reference)], columns=list(COLUMNS))


def _setting_line(reference: SettingScores, setting: SettingScores, seeds: int) -> dict[str, Any]:
    study, images, hours = setting.results.study, setting.results.started.images, setting.hours(seeds)
    means = setting.means(seeds)
    return {
        "kind": SETTING,
        "setting": setting.name,
        "seeds": seeds,
        **{name: getattr(study.proxy, name) for name in ("side", "width", "depth")},
        "epochs": study.recipe.epochs,
        "batch": study.recipe.batch,
        "train_images": images.train,
        "val_images": images.val,
        "hours": hours,
        **_agreement(reference, means, hours),
        "of_reference": hours / reference.hours() if reference.hours() else np.nan,
        "work_of_reference": setting.work(seeds) / reference.work(),
        "signal_to_noise": signal_to_noise([row.dropna().tolist() for _, row in setting.scores.iterrows()]),
    }


def _alone(reference: SettingScores, label: str, values: pd.Series, hours: float = 0.0) -> dict[str, Any]:
    return {"kind": ALONE, "setting": label, "hours": hours, **_agreement(reference, values.dropna(), hours)}


def _ceiling(reference: SettingScores) -> Iterator[dict[str, Any]]:
    """Yield the order of each seed of the reference against each other seed."""
    for first, second in combinations(reference.seeds, 2):
        one, other = aligned(reference.scores[first].dropna(), reference.scores[second].dropna())
        label = f"reference: seed {first} against seed {second}"
        yield {"kind": CEILING, "setting": label, **order_columns(one, other, reference.networks["gflops"])}


def _agreement(reference: SettingScores, values: pd.Series, hours: float) -> dict[str, Any]:
    values, means = aligned(values, reference.means())
    gflops = reference.networks["gflops"]
    ordered = s_beyond_cost(values, means, gflops[values.index])
    return order_columns(values, means, gflops) | {"pairs_per_hour": ordered / hours if hours else np.nan}
