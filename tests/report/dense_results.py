"""Results of detection and segmentation without a run."""

from __future__ import annotations

from typing import Any

from hiri_search.report.tables.results import Results
from tests.report.examples import example_results, example_study

S = "hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9 -> t(512 e=5)*4"
DETECTION: dict[str, Any] = {
    "title": "Table 4: detection",
    "task": "detection",
    "method": "mask_rcnn",
    "counted": {"side": "1600x1200"},
    "data": {"source": "drawn"},
}
DETECTORS = {
    "S": {"spec": S, "paper": "Mask R-CNN 1x, HIRI-ViT-S"},
    "PVTv2-B3": {"spec": "timm:pvt_v2_b3", "paper": "Mask R-CNN 1x, PVTv2-B3"},
    "at 800": {"spec": S, "side": 800, "paper": "RetinaNet 1x, HIRI-ViT-S", "method": "retinanet"},
}
SEGMENTATION: dict[str, Any] = {"title": "Table 6", "task": "segmentation", "counted": {"side": "1024x1024"}}
SEGMENTERS = {"S": {"spec": S, "paper": "UPerNet, HIRI-ViT-S"}, "B": {"spec": S, "paper": "UPerNet, HIRI-ViT-B"}}


def dense_trial(number: int, name: str, side: int | str, **scores: float) -> dict[str, Any]:
    """Return the row of a finished trial; the first of its scores is the headline."""
    spec = f"upernet(norm=bn):{S}"
    facts = {"trial": number, "name": name, "key": f"key {name}", "spec": f"upernet:{S}", "side": side}
    facts |= {"params": 50_000_000, "macs": 180 * 10**9, "core_macs": 10**9, "by_part": {}}
    facts |= {"trained_spec": spec, "trained_side": 128, "trained_macs": 10**8, "seed": number % 2}
    curve = list(scores.values())[:1]
    facts |= {"state": "finished", "reason": "", "source": "", "epochs": 1, "curve": curve, "ema_curve": []}
    return facts | {"loss": 1.0, "seconds": 1.0, "device": "CPU, 2 cores", "checkpoint": None} | scores


def detection(**keys: Any) -> Results:
    """Return three detectors of two methods, one counted at another size, with two seeds each."""
    aps = {"S": 20.0, "PVTv2-B3": 25.0, "at 800": 10.0}
    trials = []
    for name, ap in aps.items():
        masks = {} if name == "at 800" else {"mask_ap": ap - 2, "mask_ap50": ap + 8}
        for seed in (0, 1):
            side = 800 if name == "at 800" else "1600x1200"
            scores = {
                "ap": ap + seed,
                "standard_error": 1.0 + seed,
                "ap50": ap + 10,
                "ap75": ap - 5,
                "ap_large": ap + 3,
                **masks,
            }
            trials.append(dense_trial(len(trials), name, side, **scores))
    return example_results(example_study(DETECTORS, seeds=2, **{"table": "4", **DETECTION, **keys}), trials)


def segmentation(**keys: Any) -> Results:
    """Return two networks for segmentation, with one seed each."""
    trials = [
        dense_trial(number, name, "1024x1024", miou=30.0 - number, pixel_accuracy=80.0)
        for number, name in enumerate(SEGMENTERS)
    ]
    return example_results(example_study(SEGMENTERS, seeds=1, **{"table": "6", **SEGMENTATION, **keys}), trials)
