"""Which points and curves the figures and the page draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hiri_search.report.paper.published import published
from hiri_search.report.tables.networks import network_table
from hiri_search.report.tables.results import Results

# Okabe and Ito's colours: told apart by colour-blind readers; markers tell the rest.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


NAMED = 10  # more networks than this are drawn as a cloud with its front, without names


CLOUD = "networks"


AXES = {
    "step": "Row, one change after the other",
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
    """What of the paper a study is drawn beside: points with curve, label, top1 and each of `costs`."""

    stem: str  # of the file's name
    title: str
    points: pd.DataFrame
    costs: tuple[str, ...] = COST_AXES


def published_points(table: str) -> Paper:
    """What belongs beside a study of this table; Figure 6 where it has no image of its own."""
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
            title = "The paper's Table 9, published: without the front at 224, with it at 448"
            return Paper("table9", title, points, ("side", "gflops", "ms"))
    return Paper("figure6", "The paper's Figure 6: ImageNet-1K, published", families())


def families() -> pd.DataFrame:
    """The paper's points of Figure 6: curve, gflops, params_m, ms (from images per second), top1."""
    table = published("2")
    table = table.assign(
        family=[name.rpartition("-")[0] for name in table["network"]], ms=1000 / table["throughput_img_s"]
    )
    ours = table["family"] == "HIRI-ViT"
    labels = [
        f"HIRI-ViT @ {side}" if own else family
        for own, family, side in zip(ours, table["family"], table["resolution"], strict=True)
    ]
    chosen = table.assign(curve=labels, label="")[ours | table["family"].isin(FAMILIES)]
    return chosen[["curve", "network", "label", *COST_AXES, "top1"]]


def drawable(results: Results) -> pd.DataFrame:
    """The networks with a curve each (a few without one are one of their own; many are a cloud) and a label."""
    table, rows = network_table(results), results.rows
    table = table.assign(
        step=range(1, len(table) + 1),
        label=[(rows[name].paper or "") if name in rows else "" for name in table["name"]],
    )
    if (table["curve"] == "").all():
        return table.assign(curve=table["name"] if len(table) <= NAMED else CLOUD)
    return table.assign(curve=table["curve"].where(table["curve"] != "", table["name"]))
