"""The paper's costs next to ours, with a verdict for each row."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from hiri_search.paper.published import PAPER_SCORE, networks, published
from hiri_search.system.units import GIGA, MEGA

PARAMS_TOLERANCE, GFLOPS_TOLERANCE = 0.5, 2.0  # percent of the published number
UNEXPLAINED = "unexplained"  # verdict; a note without an explanation begins with it
TITLES = {
    "1": "Figure 1: accuracy against inference time, by resolution",
    "2": "ImageNet-1K, networks of three sizes",
    "3": "ImageNet-1K, higher resolutions",
    "4": "COCO detection, Tables 4 and 5: published numbers only",
    "6": "ADE20K segmentation: published numbers only",
    "7": "from M-ViT to HIRI-ViT-S, one change at a time",
    "8": "mixes of HR, CFFN and Transformer blocks",
    "9": "the high-resolution front on other backbones",
}

CountedCosts = Mapping[tuple[str, int], tuple[int, int]]  # params and multiply-adds, by spec and side


def agreement(table: str, costs: CountedCosts) -> pd.DataFrame:
    """Return the rows of a table of the paper next to the costs of the same networks counted here.

    params_m in millions, gflops in 10^9 multiply-adds; `params_off` and `gflops_off` are the relative differences of
    our numbers from the published ones, in percent. `verdict`: agrees (both within the tolerances), explained,
    unexplained, or no network.
    """
    rows = networks(table)
    paper = published(table).reindex(rows["row"]).reset_index(drop=True)
    counted = [costs.get(pair, (None, None)) for pair in zip(rows["spec"], rows["side"], strict=True)]
    params, macs = (pd.Series(column, dtype="float64") for column in zip(*counted, strict=True))
    empty = pd.Series(index=rows.index, dtype="float64")
    result = pd.DataFrame(
        {
            "row": rows["row"],
            "side": rows["side"],
            "params_m": params / MEGA,
            "paper_params_m": paper.get("params_m", empty),
            "gflops": macs / GIGA,
            "paper_gflops": paper.get("gflops", empty),
        }
    )
    result["params_off"] = 100 * (result["params_m"] / result["paper_params_m"] - 1)
    result["gflops_off"] = 100 * (result["gflops"] / result["paper_gflops"] - 1)
    compared = zip(result["gflops"], result["params_off"], result["gflops_off"], rows["note"], strict=True)
    result["verdict"] = [_verdict(*values) for values in compared]
    return result.assign(**{PAPER_SCORE: paper.get(PAPER_SCORE, empty)}, note=rows["note"], spec=rows["spec"])


def _verdict(gflops: float, params_off: float, gflops_off: float, note: str) -> str:
    """Return the verdict of one row; a difference is NaN, and agrees, if the paper prints no legible number."""
    if pd.isna(gflops):
        return "no network"
    if not (abs(params_off) > PARAMS_TOLERANCE or abs(gflops_off) > GFLOPS_TOLERANCE):
        return "agrees"
    return "explained" if note and not note.startswith(UNEXPLAINED) else UNEXPLAINED


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
