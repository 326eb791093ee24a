"""Order of the networks after each epoch of a setting, and the epoch from which it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from hiri_search.report.calibration.scores import CalibrationResults, SettingScores, aligned
from hiri_search.report.tables.order import ORDER_COLUMNS, order_columns

STANDS = 0.9  # share of the final tau at or above which an order stays
EPOCH_COLUMNS = ("setting", "weights", "seeds", "epoch", "share", *ORDER_COLUMNS[:-1])
STANDING_COLUMNS = ("setting", "weights", "seeds", "epochs", "measure", "final", "stands_from", "share")


@lru_cache(1)  # of several files
def epoch_table(results: CalibrationResults) -> pd.DataFrame:
    """Return one line for each epoch of each setting: the order by the validation score then, against the reference.

    Averaged weights, which rungs compare, have lines of their own. `share` is the share of the setting's hours that a
    training has used by then. Against its own means the order of the reference would be too good: each of its seeds is
    compared with the mean of the others, and taus are averaged.
    """
    lines = [*(line for each in results.settings for line in _lines(results.reference, each)), *_own(results.reference)]
    return pd.DataFrame(lines, columns=list(EPOCH_COLUMNS))


def _lines(reference: SettingScores, setting: SettingScores) -> Iterator[dict[str, Any]]:
    gflops = reference.networks["gflops"]
    for epoch, start in _epochs(setting):
        scores, means = aligned(setting.after(epoch, setting.seeds, start["weights"]), reference.means())
        yield start | order_columns(scores, means, gflops)


def _own(reference: SettingScores) -> Iterator[dict[str, Any]]:
    gflops, seeds = reference.networks["gflops"], reference.seeds
    for epoch, start in _epochs(reference) if len(seeds) > 1 else ():
        against = []
        for seed in seeds:
            others = reference.scores.drop(columns=seed).mean(axis=1, skipna=False).dropna()
            against.append(order_columns(*aligned(reference.after(epoch, [seed], start["weights"]), others), gflops))
        means = pd.DataFrame(against).reindex(columns=["tau", "tau_beyond_cost"]).mean()
        yield start | {
            "networks": against[0]["networks"],
            "tau": means["tau"],
            "tau_beyond_cost": means["tau_beyond_cost"],
        }


def _epochs(setting: SettingScores) -> Iterator[tuple[int, dict[str, Any]]]:
    epochs, start = setting.results.study.recipe.epochs, {"setting": setting.name, "seeds": len(setting.seeds)}
    for weights in setting.curves:
        for epoch in range(1, epochs + 1):
            yield epoch, start | {"weights": weights, "epoch": epoch, "share": epoch / epochs}


def standing_table(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each setting and weights: from which epoch on tau stays at least STANDS times the final tau.

    Tau beyond cost where there is one, else tau. A rung after that epoch costs `share` of the hours. No epoch where
    the final tau is not above 0: there is no order that could stand.
    """
    return pd.DataFrame(
        [_standing(lines) for _, lines in epochs.groupby(["setting", "weights"], sort=False)],
        columns=list(STANDING_COLUMNS),
    )


def _standing(lines: pd.DataFrame) -> dict[str, Any]:
    measure = "tau_beyond_cost" if lines["tau_beyond_cost"].notna().any() else "tau"
    taus = lines[measure].tolist()
    start = standing_from(taus)
    return {
        **lines.iloc[0][["setting", "weights", "seeds"]],
        "epochs": len(lines),
        "measure": {"tau_beyond_cost": "tau beyond cost", "tau": "tau"}[measure],
        "final": taus[-1],
        "stands_from": start,
        "share": start and start / len(lines),
    }


def standing_from(taus: Sequence[float]) -> int | None:
    """Return the first epoch, counted from 1, from which no tau is below STANDS times the last; None: never."""
    final = taus[-1]
    if not final > 0:
        return None
    below = [epoch for epoch, tau in enumerate(taus, 1) if not tau >= STANDS * final]
    return max(below, default=0) + 1
