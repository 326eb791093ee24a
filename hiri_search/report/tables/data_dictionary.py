"""Meaning and unit of every column of trials.csv."""

from __future__ import annotations

import pandas as pd

from hiri_search.report.tables.search import ZERO_COST_PREFIX

MEANINGS = {  # column: (meaning, unit)
    "trial": ("number of the trial in the ledger, counted from 0", ""),
    "name": ("the row's name in the study file; of a search its spec", ""),
    "key": ("hash of the network: the same for the same network, however it is written", ""),
    "spec": ("the network that is counted, in the language of networks, or a network of timm", ""),
    "side": ("side of the square input at which the network is counted and timed", "pixels"),
    "params": ("parameters of the network, counted on the modules", ""),
    "macs": ("multiply-adds of one forward pass of one image, as fvcore counts them: what papers print as FLOPs", ""),
    "core_macs": ("multiply-adds of convolutions, fully connected layers and matrix products alone", ""),
    "by_part": ("params and multiply-adds of each part of the network", ""),
    "ms_per_image": ("measured inference of one image, disturbed by trials beside it", "milliseconds"),
    "trained_spec": ("the network that is trained: the one that is counted, or a smaller one in its place", ""),
    "trained_side": ("side of the square input at which it is trained", "pixels"),
    "trained_params": ("parameters of the network that is trained", ""),
    "trained_macs": ("multiply-adds of the network that is trained, of one image at trained_side", ""),
    "merged_from": ("of a merged folder: the results folder that the trial is from", ""),
    "merged_trial": ("its number there", ""),
    "merged_name": ("the row's name there, where it is another one here", ""),
    "seed": ("what all random numbers of the training follow from", ""),
    "confirms": ("of a second look: the trial of the first look that it trains again", ""),
    "confirm_epochs": ("of a second look: how long it trains", "epochs"),
    "checkpoint": (
        "file of the last weights, from the results folder; empty where it was removed, or lies in the storage alone",
        "",
    ),
    "state": ("unfinished, paused, stopped, failed or finished; only finished trials have a part in tables", ""),
    "reason": ("why it failed or was stopped", ""),
    "source": (
        "where its curve was taken from, if it was not trained: another trial, or one of another results folder",
        "",
    ),
    "device": ("what it was last trained on", ""),
    "epochs": ("epochs that it has done", "epochs"),
    "top1": ("share of validation images whose class it names first, behind the last epoch", "percent"),
    "top5": ("share of validation images whose class is among the five it names first", "percent"),
    "ema_top1": ("top1 of the averaged weights", "percent"),
    "ema_top5": ("top5 of the averaged weights", "percent"),
    "loss": ("mean training loss of the last epoch", "nats"),
    "seconds": (
        "time spent in all of its epochs, by the clock; nothing where it was taken from another study",
        "seconds",
    ),
    "seconds_waiting": ("the part of seconds in which it waited for images", "seconds"),
    "joules": ("energy of its card in all of its epochs, with others' there; empty where not told", "joules"),
    "images_per_second": ("training images in a second, in the last epoch", "1/s"),
    "parts": ("in how many parts a batch was computed, to fit into memory", ""),
    "peak_memory_bytes": ("the most memory that it held on a GPU, in the last epoch; empty on a CPU", "bytes"),
    "curve": ("top1 behind each epoch, separated by spaces", "percent"),
}
NOT_DESCRIBED = "not described"


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """What was never measured is a number all the same, not an empty text: files of all studies have the same types."""
    empty = [name for name in table if _meaning(str(name))[1] and table[name].isna().all()]
    return table.astype(dict.fromkeys(empty, "float64"))


def dictionary(table: pd.DataFrame) -> pd.DataFrame:
    """One line for each column of a table of trials: column, type, unit, meaning."""
    lines = [(name, str(kind), *reversed(_meaning(str(name)))) for name, kind in table.dtypes.items()]
    return pd.DataFrame(lines, columns=["column", "type", "unit", "meaning"])


def _meaning(column: str) -> tuple[str, str]:
    if column.startswith(ZERO_COST_PREFIX):
        return f"score by the zero-cost proxy {column.removeprefix(ZERO_COST_PREFIX)}, without a training", ""
    return MEANINGS.get(column, (NOT_DESCRIBED, ""))
