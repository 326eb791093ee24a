"""Meaning and unit of every column of trials.csv."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from hiri_search.report.tables.results import Results
from hiri_search.study.ledger.trial import CURVES, STANDARD_ERROR, ZERO_COST_PREFIX
from hiri_search.training.score import Score, score_columns

MEANINGS = {  # column: (meaning, unit)
    "trial": ("number of the trial in the ledger, counted from 0", ""),
    "name": ("name of the row in the study file; in a search, the spec", ""),
    "row": ("of a recipe with choices: name of the row in the study file", ""),
    "setting": ("of a recipe with choices: the values of this training", ""),
    "key": ("hash of the network; every spec of the same network has the same key", ""),
    "spec": ("the counted network, in the language of networks, or a network of timm", ""),
    "side": ("side of the square input at which the network is counted and timed", "pixels"),
    "params": ("parameters of the network, counted on the modules", ""),
    "macs": ("multiply-adds of one image, as fvcore counts them; papers print them as FLOPs", ""),
    "core_macs": ("multiply-adds of convolutions, fully connected layers and matrix products only", ""),
    "by_part": ("params and multiply-adds of each part of the network", ""),
    "ms_per_image": ("measured inference time of one image, during which other trials may run", "milliseconds"),
    "trained_spec": ("the trained network: the counted network or its stand-in", ""),
    "trained_side": ("side of the square input during training", "pixels"),
    "trained_params": ("parameters of the trained network", ""),
    "trained_macs": ("multiply-adds of the trained network, for one image at trained_side", ""),
    "trained_width_divisor": (
        "divisor of the widths of the trained network; the learning rate is times its square root",
        "",
    ),
    "merged_from": ("in a merged folder: the results folder of the trial", ""),
    "merged_trial": ("in a merged folder: the number of the trial in merged_from", ""),
    "merged_name": ("in a merged folder: the name of the row in merged_from, if it differs from name", ""),
    "seed": ("seed of all random numbers of the training", ""),
    "added_for": ("of a seed that a rule has added: the comparison that it is for", ""),
    "confirms": ("in a confirmation: the trial whose network it trains longer", ""),
    "confirm_epochs": ("in a confirmation: number of epochs", "epochs"),
    "checkpoint": (
        "file of the last checkpoint, below the results folder; empty if it was removed or is in the storage only",
        "",
    ),
    "state": ("unfinished, paused, stopped, failed or finished; tables use finished trials only", ""),
    "reason": ("reason of a failure or a stop", ""),
    "source": ("trial whose curve is reused, here or in another results folder; empty if the trial was trained", ""),
    "device": ("device of the last training", ""),
    "epochs": ("number of finished epochs", "epochs"),
    "loss": ("mean training loss of the last epoch", "nats"),
    "seconds": ("wall time of all epochs; 0 if the curve is reused from another trial", "seconds"),
    "seconds_reused": ("wall time of the epochs of a reused curve, where it was trained", "seconds"),
    "seconds_waiting": ("part of seconds that the training waited for images", "seconds"),
    "joules": ("energy of the GPU in all epochs, for all processes on it; empty if not measured", "joules"),
    "images_per_second": ("training throughput in the last epoch", "1/s"),
    "images_per_joule": (
        "training throughput in the last epoch for each watt of the whole GPU, so that trials side by side on one GPU"
        " each show only their share; empty if not measured",
        "1/J",
    ),
    "parts": ("number of parts into which each batch was split to fit into memory", ""),
    "peak_memory_bytes": ("peak GPU memory in the last epoch; empty on a CPU", "bytes"),
}
_DENSE_SIDE = ("size of the images at which the network is counted: width x height, or the side of a square", "pixels")
NOT_DESCRIBED = "not described"
_NO_UNIT = "1"  # of a score


def with_numeric_columns(table: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Make empty columns that have a unit numeric, so that the files of all studies have the same types."""
    known = _meanings(results)
    empty = [name for name in table if _meaning(str(name), known)[1] and table[name].isna().all()]
    return table.astype(dict.fromkeys(empty, "float64"))


def dictionary(table: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return one row for each column of a table of trials: column, type, unit, meaning."""
    known = _meanings(results)
    lines = [(name, str(dtype), *reversed(_meaning(str(name), known))) for name, dtype in table.dtypes.items()]
    return pd.DataFrame(lines, columns=["column", "type", "unit", "meaning"])


def _meanings(results: Results) -> dict[str, tuple[str, str]]:
    columns = score_columns(results.study.scores, test=results.has_test)
    scores = {
        score.name: (f"{score.description} on the {score.images} after the last epoch", _unit(score))
        for score in columns
    }
    headline = results.study.headline
    curves = {
        name: (f"{score.name} after each epoch, separated by spaces", _unit(headline))
        for name, score in zip(CURVES, (headline, headline.ema), strict=True)
    }
    images = f"the {results.score.images}, by a bootstrap"
    error = (f"standard error of {results.score.name} over {images}", _unit(headline))
    dense = {"side": _DENSE_SIDE, STANDARD_ERROR: error} if results.is_dense else {}
    return {**MEANINGS, **dense, **scores, **curves}


def _unit(score: Score) -> str:
    return {"%": "percent", "": _NO_UNIT}.get(score.unit, score.unit)


def _meaning(column: str, known: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if column.startswith(ZERO_COST_PREFIX):
        return f"zero-cost score {column.removeprefix(ZERO_COST_PREFIX)} of the untrained network", ""
    return known.get(column, (NOT_DESCRIBED, ""))
