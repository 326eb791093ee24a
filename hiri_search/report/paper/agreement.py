"""The paper's costs beside ours, with a verdict per row."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from hiri_search.report.paper.published import networks, published

PARAMS_TOLERANCE, GFLOPS_TOLERANCE = 0.5, 2.0  # percent of the published number
UNEXPLAINED = "unexplained"  # what a note begins with where nobody knows why
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
    """Each row of a table beside the network that it is, where there is one.

    params_m in millions, gflops in 10^9 multiply-adds; `params_off` and `gflops_off` are ours over the published
    number, less one, in percent. `verdict`: agrees (both within the tolerances), explained, unexplained, or no network.
    """
    theirs, known = published(table), networks(table)
    beside = theirs.reindex(known["row"]).reset_index(drop=True)
    ours = [costs.get(each, (None, None)) for each in zip(known["spec"], known["side"], strict=True)]
    params, macs = (pd.Series(column, dtype="float64") for column in zip(*ours, strict=True))
    empty = pd.Series(index=known.index, dtype="float64")
    shown = pd.DataFrame(
        {
            "row": known["row"],
            "side": known["side"],
            "params_m": params / 1e6,
            "paper_params_m": beside.get("params_m", empty),
            "gflops": macs / 1e9,
            "paper_gflops": beside.get("gflops", empty),
        }
    )
    shown["params_off"] = 100 * (shown["params_m"] / shown["paper_params_m"] - 1)
    shown["gflops_off"] = 100 * (shown["gflops"] / shown["paper_gflops"] - 1)
    shown["verdict"] = [
        _verdict(*each)
        for each in zip(shown["gflops"], shown["params_off"], shown["gflops_off"], known["note"], strict=True)
    ]
    return shown.assign(top1=beside.get("top1", empty), note=known["note"], spec=known["spec"])


def _verdict(gflops: float, params_off: float, gflops_off: float, note: str) -> str:
    """Where nothing legible is published, the difference is not a number, and not apart."""
    if pd.isna(gflops):
        return "no network"
    if not (abs(params_off) > PARAMS_TOLERANCE or abs(gflops_off) > GFLOPS_TOLERANCE):
        return "agrees"
    return "explained" if note and not note.startswith(UNEXPLAINED) else UNEXPLAINED


def agreement_text(shown: pd.DataFrame) -> pd.DataFrame:
    """The columns and digits that people read: ours to three decimals, differences in percent to one."""
    columns = {
        "row": shown["row"],
        "side": shown["side"].astype(str),
        "params (M)": shown["params_m"].map("{:.3f}".format, na_action="ignore"),
        "paper's": shown["paper_params_m"].map("{:.1f}".format, na_action="ignore"),
        "off (%)": shown["params_off"].map("{:+.1f}".format, na_action="ignore"),
        "GFLOPs": shown["gflops"].map("{:.3f}".format, na_action="ignore"),
        "the paper's": shown["paper_gflops"].map("{:.1f}".format, na_action="ignore"),
        "off by (%)": shown["gflops_off"].map("{:+.1f}".format, na_action="ignore"),
        "verdict": shown["verdict"],
        "note": shown["note"],
    }
    return pd.DataFrame(columns)
