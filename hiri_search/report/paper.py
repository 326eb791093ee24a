"""The paper's published numbers: the one place that reads them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

FOLDER = files("hiri_search.report") / "paper"

# The tables of the paper by their number there, and figure 1, whose points are printed.
NAMES = {
    "1": "figure1_resolution",
    "2": "table2_imagenet",
    "3": "table3_higher_resolution",
    "4": "table4_5_detection",
    "6": "table6_segmentation",
    "7": "table7_ablation",
    "8": "table8_block_mix",
    "9": "table9_other_backbones",
}


@cache
def _read(name: str) -> pd.DataFrame:
    with (FOLDER / f"{NAMES[name]}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def published(table: str) -> pd.DataFrame:
    """The rows of a table, as printed: params_m in millions, gflops in 10^9 multiply-adds, top1 in percent."""
    return _read(table).copy()
