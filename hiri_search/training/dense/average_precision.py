"""AP of boxes and masks by faster-coco-eval, with standard errors."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hiri_search.training.dense.bootstrap import RESAMPLES, bootstrap_errors
from hiri_search.training.dense.scores import AREA_SCORES, BOX_SCORES, MASK_SCORES
from hiri_search.training.dense.sources.annotated_source import DenseTarget
from hiri_search.training.dense.sources.run_lengths import coco_library
from hiri_search.training.dense.transforms import MASK_THRESHOLD

MAX_DETECTIONS = 100  # of one image, those with the best scores (COCO)
IOU_50, IOU_75 = 0, 5  # positions of these thresholds among COCO's ten


class DetectionMeter:
    """Box AP, and with `masks` mask AP, over all images of a split, as COCO defines them.

    A score that the annotations do not allow, such as AP of small objects where there is none, is left out.
    """

    def __init__(self, *, masks: bool) -> None:
        self._kinds = {"bbox": (*BOX_SCORES, *AREA_SCORES)} | ({"segm": MASK_SCORES} if masks else {})
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(self, outputs: Iterable[DenseTarget], targets: Iterable[DenseTarget]) -> None:
        """Take detections of each image: `boxes`, `scores`, `labels`, and `masks` (N, 1, H, W) from 0 to 1.

        They and the targets are in pixels of the original image. Detections that are not finite do not count.
        """
        for detections, target in zip(outputs, targets, strict=True):
            image = len(self._images) + 1
            self._images.append({"id": image})
            best = _best(detections)
            crowds, areas = target["ignored"].tolist(), target["area"].tolist()
            for entry, crowd, area in zip(self._entries(image, target), crowds, areas, strict=True):
                self._truth.append(entry | {"id": len(self._truth) + 1, "iscrowd": int(crowd), "area": area})
            for entry, score in zip(self._entries(image, best), best["scores"].tolist(), strict=True):
                area = entry["bbox"][2] * entry["bbox"][3]
                self._found.append(entry | {"id": len(self._found) + 1, "score": score, "iscrowd": 0, "area": area})

    def _entries(self, image: int, objects: DenseTarget) -> list[dict[str, Any]]:
        """The objects of an image in COCO's format; classes count from 1."""
        corners = objects["boxes"].double().cpu()
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
        entries = [
            {"image_id": image, "category_id": label + 1, "bbox": box}
            for label, box in zip(objects["labels"].tolist(), boxes, strict=True)
        ]
        if "segm" in self._kinds:
            if entries:
                self._images[-1] |= dict(zip(("height", "width"), objects["masks"].shape[-2:], strict=True))
            for entry, mask in zip(entries, objects["masks"], strict=True):
                entry["segmentation"] = _encoded(mask)
        return entries

    def scores(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for kind in self._kinds:
            found |= self._of_kind(kind, self._evaluated(kind))
        return found

    def standard_errors(self, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, float]:
        """The standard error of each score, by a bootstrap over images: matches are found once, and added up anew."""
        errors: dict[str, float] = {}
        for kind in self._kinds:
            errors |= self._errors_of_kind(kind, resamples, seed)
        return errors

    def _errors_of_kind(self, kind: str, resamples: int, seed: int) -> dict[str, float]:
        evaluation, images = self._evaluated(kind), len(self._images)
        matches = evaluation._evalImgs_cpp  # one for each class, range of areas and image, in this order
        positions = np.arange(len(matches)).reshape(-1, images)

        def score(chosen: NDArray[np.int64]) -> dict[str, float]:
            evaluation._evalImgs_cpp = [matches[position] for position in positions[:, chosen].ravel()]
            return self._of_kind(kind, evaluation)

        return bootstrap_errors(score, images, resamples, seed)

    def _evaluated(self, kind: str) -> Any:
        """The evaluation of boxes or masks, with the matches of each image."""
        classes = sorted({entry["category_id"] for entry in (*self._truth, *self._found)}) or [1]
        everything = {"images": self._images, "categories": [{"id": number} for number in classes]}
        truth, found = coco_library("coco").COCO(), coco_library("coco").COCO()
        for dataset, objects in ((truth, self._truth), (found, self._found)):
            dataset.dataset = everything | {"annotations": [copy(entry) for entry in objects]}
            dataset.createIndex()
        evaluation = coco_library("faster_eval_api").COCOeval_faster(truth, found, kind, separate_eval=True)
        evaluation.evaluate()
        return evaluation

    def _of_kind(self, kind: str, evaluation: Any) -> dict[str, float]:
        evaluation.accumulate()
        precision = evaluation.eval["precision"][..., -1]  # (IoUs, recalls, classes, ranges of areas)
        at_all = precision[..., 0]
        parts = [at_all, at_all[IOU_50], at_all[IOU_75], *(precision[..., area] for area in (1, 2, 3))]
        # A class without objects has -1 everywhere.
        names = [score.name for score in self._kinds[kind]]
        values = zip(names, parts, strict=False)
        return {name: 100 * float(part[part > -1].mean()) for name, part in values if (part > -1).any()}


def _best(detections: DenseTarget) -> DenseTarget:
    """The finite detections with the highest scores, in this order."""
    finite = detections["scores"].isfinite() & detections["boxes"].isfinite().all(1)
    order = detections["scores"].argsort(descending=True, stable=True)
    kept = order[finite[order]][:MAX_DETECTIONS]
    return {name: values[kept] for name, values in detections.items()}


def _encoded(mask: Tensor) -> dict[str, Any]:
    """A mask (H, W) or (1, H, W), 0 or 1 or in between, as COCO's run lengths."""
    binary = (mask.reshape(mask.shape[-2:]) >= MASK_THRESHOLD).to(torch.uint8).cpu().numpy()
    encoded: dict[str, Any] = coco_library("mask").encode(np.asfortranarray(binary))
    return encoded
