"""The paper's published numbers."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

TABLE_FOLDER = files("hiri_search") / "paper"

# Tables of the paper by number, and Figure 1, whose points are printed.
TABLE_FILES = {
    "1": "figure1_resolution",
    "2": "table2_imagenet",
    "3": "table3_higher_resolution",
    "4": "table4_5_detection",
    "5": "table4_5_detection",
    "6": "table6_segmentation",
    "7": "table7_ablation",
    "8": "table8_block_mix",
    "9": "table9_other_backbones",
}


_SCHEDULES = {"4": "1x", "5": "3x"}  # how long the detectors of these tables were trained: the end of their names
DENSE_TABLES = ("4", "5", "6")  # detection and segmentation
_NETWORK_COLUMNS = ("row", "side", "spec", "method", "change", "note")
PAPER_SCORES = {"top1": "top1", "ap": "box_ap", "mask_ap": "mask_ap", "miou": "miou"}  # columns of files, by our scores


class PaperTraining(NamedTuple):
    """Data and length of the trainings of a table of the paper."""

    data: str
    length: str


IMAGENET = PaperTraining("ImageNet-1K", "300 epochs")
_DENSE_TRAINING = {
    "4": PaperTraining("COCO", "12 epochs"),
    "5": PaperTraining("COCO", "36 epochs"),
    "6": PaperTraining("ADE20K", "160,000 iterations"),
}


def paper_training(table: str) -> PaperTraining:
    """Return how the networks of a table were trained."""
    return _DENSE_TRAINING.get(table, IMAGENET)


def paper_column(score: str) -> str:
    """Return the column of `published` with the values of our score of this name: `paper_miou`."""
    return f"paper_{score}"


PAPER_SCORE = paper_column("top1")  # in percent, on ImageNet-1K


@cache
def _read(table: str) -> pd.DataFrame:
    with (TABLE_FOLDER / f"{TABLE_FILES[table]}.csv").open(encoding="utf-8") as file:
        rows = pd.read_csv(file).rename(columns={name: paper_column(score) for score, name in PAPER_SCORES.items()})
    if table in _SCHEDULES:
        rows = rows[rows["detector"].str.endswith(_SCHEDULES[table])].reset_index(drop=True)
    return rows


def published(table: str) -> pd.DataFrame:
    """Return the rows of a table as printed: params_m in millions, gflops in 10^9 multiply-adds, scores in %.

    Scores are paper_top1, or paper_ap, paper_mask_ap and paper_miou. The index, `row`, is the network or first column,
    with the side (`Swin-B @ 384`) or the backbone (`ATSS 3x, Swin-T`) if the names are not unique.
    """
    rows = _read(table)
    names = rows["network" if "network" in rows else rows.columns[0]].astype(str)
    if "backbone" in rows:
        names = names + ", " + rows["backbone"]
    if names.duplicated().any() and "resolution" in rows:
        names = names + " @ " + rows["resolution"].astype(str)
    return rows.set_axis(pd.Index(names, name="row"))


def networks(table: str) -> pd.DataFrame:
    """Return the network of each row of a table: row (as in `published`), side, spec, method, change, note.

    `spec` is in our language or of timm; it is empty, with the reason in `note`, if neither has the network. A row
    occurs twice if its published cost can be read in two ways. For detection and segmentation `side` is width x height,
    `method` the network around the backbone, and `change` names what the published count does otherwise.
    """
    if table in DENSE_TABLES:
        return _rows("dense_networks", table).rename(columns={"size": "side"})[list(_NETWORK_COLUMNS)]
    rows = _rows("networks", table)
    with_sides = rows["network"] + " @ " + rows["resolution"].astype(str)
    names = rows["network"].where(rows["network"].isin(published(table).index), with_sides)
    rows = rows.assign(row=names, side=rows["resolution"], method="", change="")
    return rows[list(_NETWORK_COLUMNS)]


def _rows(file_name: str, table: str) -> pd.DataFrame:
    with (TABLE_FOLDER / f"{file_name}.csv").open(encoding="utf-8") as file:
        rows = pd.read_csv(file, dtype={"table": str, "network": str}, keep_default_na=False)
    return rows[rows["table"] == table].reset_index(drop=True)


def relative_throughput(name: str, side: int, base: str) -> float | None:
    """Return the published throughput of a network of Table 2 over that of `base` at 224; None where not printed."""
    speeds = _read("2").set_index(["network", "resolution"])["throughput_img_s"]
    ratio = speeds.get((name, side), float("nan")) / speeds[base, 224]
    return None if pd.isna(ratio) else float(ratio)
