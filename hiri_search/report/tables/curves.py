"""Points and curves that the figures and the page draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hiri_search.paper.published import (
    IMAGENET,
    PAPER_SCORE,
    PaperTraining,
    paper_column,
    paper_training,
    published,
)
from hiri_search.report.tables.networks import network_table
from hiri_search.report.tables.results import Results
from hiri_search.training.score import CLASSIFICATION, Score

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")

MAX_NAMED = 10  # more trained networks than this are drawn as one cloud of points without names
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
TOP1 = CLASSIFICATION.scores[0]
_DENSE = {"ap": "4", "miou": "6"}  # the table whose points are drawn next to a study without a table, by its score


@dataclass(frozen=True)
class Paper:
    """Published points that are drawn next to a study: columns curve, label, `column` and each of `cost_columns`.

    Curves of one `group`, a column of detection and segmentation, have one colour; HIRI-ViT's are marked in it.
    """

    stem: str  # of the name of the figure's file
    title: str
    points: pd.DataFrame
    cost_columns: tuple[str, ...] = COST_AXES
    score: Score = TOP1
    training: PaperTraining = IMAGENET

    @property
    def column(self) -> str:
        """The column of the published score."""
        return paper_column(self.score.name)


def published_points(table: str, score: Score = TOP1) -> Paper:
    """Return the points for a study of this table of the paper, whose task has this score.

    Those of Figure 6 if the table has no own figure; of Table 4 or 6 if it has no such score.
    """
    if score != TOP1:
        has_score = table and paper_column(score.name) in published(table)
        return _dense_points(table if has_score else _DENSE[score.name], score)
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


def _dense_points(table: str, score: Score) -> Paper:
    """Return the points of a table of detectors or networks for segmentation: HIRI-ViT's and others of each method."""
    rows, training = published(table), paper_training(table)
    method = rows["detector" if "detector" in rows else "method"]
    curves = np.where(rows["backbone"].str.startswith("HIRI-ViT"), "HIRI-ViT, " + method, method + ", others")
    points = rows.assign(curve=curves, group=method, network=rows.index, label="")
    title = f"The paper's Table {table}: {training.data}, published"
    return Paper(f"table{table}", title, points, ("gflops", "params_m"), score, training)


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
        return table.assign(curve=table["name"] if table["trained_spec"].count() <= MAX_NAMED else CLOUD)
    return table.assign(curve=table["curve"].where(table["curve"] != "", table["name"]))
