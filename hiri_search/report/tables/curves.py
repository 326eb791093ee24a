"""Points and curves that the figures and the page draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hiri_search.paper.published import PAPER_SCORE, published
from hiri_search.report.tables.networks import network_table
from hiri_search.report.tables.results import Results

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")

MAX_NAMED = 10  # more networks than this are drawn as one cloud of points without names
CLOUD = "networks"  # curve of the networks of a cloud

AXES = {
    "step": "Row (one change per step)",
    "side": "Side (pixels)",
    "gflops": "GFLOPs (multiply-adds)",
    "params_m": "Parameters (M)",
    "ms": "Inference (ms per image)",
    "trials": "Finished trials",
}
COST_AXES = ("gflops", "params_m", "ms")  # the panels of Figure 6

# Families of Table 2 with a small, a base and a large member: the curves of Figure 6.
FAMILIES = ("Swin", "PVTv2", "ConvNeXt", "CSWin", "DaViT", "iFormer", "Dual-ViT")


@dataclass(frozen=True)
class Paper:
    """Published points that are drawn next to a study: columns curve, label, PAPER_SCORE and each of `costs`."""

    stem: str  # of the name of the figure's file
    title: str
    points: pd.DataFrame
    cost_columns: tuple[str, ...] = COST_AXES


def published_points(table: str) -> Paper:
    """Return the points for a study of this table of the paper; those of Figure 6 if the table has no own figure."""
    match table:
        case "1":
            points = published("1").rename(columns={"resolution": "side", "inference_ms": "ms"})
            points = points.assign(curve=points["network"], label="")
            return Paper("figure1", "The paper's Figure 1: ImageNet-1K, published", points, ("side", "gflops", "ms"))
        case "7":
            points = published("7").assign(curve="Table 7, row by row", ms=np.nan)
            points = points.assign(label=points.index, step=points["row"])
            return Paper("table7", "The paper's Table 7, published", points, ("step", "gflops", "ms"))
        case "9":
            points = published("9")
            points = points.assign(curve=points["network"], label="", ms=np.nan, side=points["resolution"])
            title = "The paper's Table 9, published: without the high-resolution front at 224, with it at 448"
            return Paper("table9", title, points, ("side", "gflops", "ms"))
    return Paper("figure6", "The paper's Figure 6: ImageNet-1K, published", figure6_points())


def figure6_points() -> pd.DataFrame:
    """Return the paper's points of Figure 6: curve, gflops, params_m, ms (from images per second), PAPER_SCORE."""
    table = published("2")
    table = table.assign(
        family=[name.rpartition("-")[0] for name in table["network"]], ms=1000 / table["throughput_img_s"]
    )
    hirivit = table["family"] == "HIRI-ViT"
    labels = table["family"].where(~hirivit, "HIRI-ViT @ " + table["resolution"].astype(str))
    chosen = table.assign(curve=labels, label="")[hirivit | table["family"].isin(FAMILIES)]
    return chosen[["curve", "network", "label", *COST_AXES, PAPER_SCORE]]


def network_points(results: Results) -> pd.DataFrame:
    """Return the networks with a label and a curve: the study's, else one for each network, or one cloud of many."""
    table, rows = network_table(results), results.rows
    table = table.assign(
        step=range(1, len(table) + 1),
        label=[(rows[name].paper or "") if name in rows else "" for name in table["name"]],
    )
    if (table["curve"] == "").all():
        return table.assign(curve=table["name"] if len(table) <= MAX_NAMED else CLOUD)
    return table.assign(curve=table["curve"].where(table["curve"] != "", table["name"]))
