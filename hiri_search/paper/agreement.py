"""The paper's costs next to ours, with a verdict for each row."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from hiri_search.paper.published import PAPER_SCORE, networks, published
from hiri_search.system.units import GIGA, MEGA

PARAMS_TOLERANCE, GFLOPS_TOLERANCE = 0.5, 2.0  # percent of the published number
UNEXPLAINED = "unexplained"  # verdict; a note without an explanation begins with it
TITLES = {
    "1": "Figure 1: accuracy against inference time, by resolution",
    "2": "ImageNet-1K, networks of three sizes",
    "3": "ImageNet-1K, higher resolutions",
    "4": "COCO detection with RetinaNet and Mask R-CNN",
    "5": "COCO detection with Cascade Mask R-CNN, ATSS, GFL and Sparse R-CNN",
    "6": "ADE20K segmentation with UPerNet",
    "7": "from M-ViT to HIRI-ViT-S, one change at a time",
    "8": "mixes of HR, CFFN and Transformer blocks",
    "9": "the high-resolution front on other backbones",
}

CHANGES = {  # what a published count does otherwise: hiri_search.cost.dense_changes counts so
    "proposals": "with 100 proposals",
    "deconvolution": "with the mask head's deconvolution at the resolution of its output",
    "products": "without products of two activations, which counters that hook modules do not see",
    "frozen": "without the frozen parameters of the stem and the first stage",
    "classifier": "with the parameters of the backbone's classifier",
}


class PaperNetwork(NamedTuple):
    """A network of the paper, and what its count does otherwise: names of CHANGES, joined by `+`."""

    spec: str
    side: int | str  # of detection and segmentation: width x height
    method: str = ""
    change: str = ""


Costs: TypeAlias = tuple[int, int]  # params and multiply-adds


def counted_networks(table: str) -> list[PaperNetwork]:
    """Return the networks of a table that can be counted, those with a change too."""
    rows = networks(table).query("spec != ''")
    pairs = [(_network(row), row["change"]) for row in rows.to_dict("records")]
    changed = [network._replace(change=change) for network, change in pairs if change]
    return list(dict.fromkeys([*(network for network, _ in pairs), *changed]))


def agreement(table: str, costs: Mapping[PaperNetwork, Costs]) -> pd.DataFrame:
    """Return the rows of a table of the paper next to the costs of the same networks counted here.

    params_m in millions, gflops in 10^9 multiply-adds; `params_off` and `gflops_off` are the relative differences of
    our numbers from the published ones, in percent. `verdict`: agrees (both within the tolerances), explained,
    unexplained, or no network. Where a row has a change, it is explained if the count with it agrees.
    """
    rows = networks(table).to_dict("records")
    paper = published(table).reindex([row["row"] for row in rows])
    for name in ("params_m", "gflops", PAPER_SCORE):
        paper[name] = paper.get(name, np.nan)
    lines = [_line(row, each, costs) for row, each in zip(rows, paper.to_dict("records"), strict=True)]
    return pd.DataFrame(lines).astype(dict.fromkeys(_NUMBERS, "float64"))


_NUMBERS = ("params_m", "paper_params_m", "gflops", "paper_gflops", "params_off", "gflops_off", PAPER_SCORE)


def _network(row: Mapping[Hashable, Any]) -> PaperNetwork:
    return PaperNetwork(row["spec"], row["side"], row["method"])


def _line(
    row: Mapping[Hashable, Any], paper: Mapping[Hashable, Any], costs: Mapping[PaperNetwork, Costs]
) -> dict[str, Any]:
    network = _network(row)
    ours, changed = (_Compared.of(costs.get(each), paper) for each in (network, network._replace(change=row["change"])))
    verdict, note = _verdict(ours, row["note"])
    if row["change"] and verdict == UNEXPLAINED and changed and changed.agrees:
        verdict, note = (
            "explained",
            f"{changed.params_m:.3f} M, {changed.gflops:.3f} GFLOPs if counted {_text(row['change'])}",
        )
    return {
        "row": row["row"],
        "side": row["side"],
        "params_m": ours and ours.params_m,
        "paper_params_m": paper["params_m"],
        "gflops": ours and ours.gflops,
        "paper_gflops": paper["gflops"],
        "params_off": ours and ours.params_off,
        "gflops_off": ours and ours.gflops_off,
        "verdict": verdict,
        PAPER_SCORE: paper[PAPER_SCORE],
        "note": note,
        "method": row["method"],
        "spec": row["spec"],
    }


@dataclass(frozen=True)
class _Compared:
    """Costs, and their relative differences from the published ones in percent: NaN if none is legible."""

    params_m: float
    gflops: float
    params_off: float
    gflops_off: float

    @staticmethod
    def of(costs: Costs | None, paper: Mapping[Hashable, Any]) -> _Compared | None:
        if costs is None:
            return None
        params, gflops = costs[0] / MEGA, costs[1] / GIGA
        return _Compared(params, gflops, 100 * (params / paper["params_m"] - 1), 100 * (gflops / paper["gflops"] - 1))

    @property
    def agrees(self) -> bool:
        return not (abs(self.params_off) > PARAMS_TOLERANCE or abs(self.gflops_off) > GFLOPS_TOLERANCE)


def _verdict(ours: _Compared | None, note: str) -> tuple[str, str]:
    """Return the verdict of one row, and its note."""
    if ours is None:
        return "no network", note
    if ours.agrees:
        return "agrees", note
    return "explained" if note and not note.startswith(UNEXPLAINED) else UNEXPLAINED, note


def _text(change: str) -> str:
    return " and ".join(CHANGES[name] for name in change.split("+"))


def agreement_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of `agreement` for people: our costs with three decimals, differences with one."""
    columns = {
        "row": table["row"],
        "side": table["side"].astype(str),
        "params (M)": table["params_m"].map("{:.3f}".format, na_action="ignore"),
        "paper's params": table["paper_params_m"].map("{:.1f}".format, na_action="ignore"),
        "params off (%)": table["params_off"].map("{:+.1f}".format, na_action="ignore"),
        "GFLOPs": table["gflops"].map("{:.3f}".format, na_action="ignore"),
        "paper's GFLOPs": table["paper_gflops"].map("{:.1f}".format, na_action="ignore"),
        "GFLOPs off (%)": table["gflops_off"].map("{:+.1f}".format, na_action="ignore"),
        "verdict": table["verdict"],
        "note": table["note"],
    }
    return pd.DataFrame(columns)
