"""Scores of dense tasks: AP of boxes and masks, mIoU and pixel accuracy of semantic maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hiri_search.training.score import CLASSIFICATION, LearningTask, Meter, Score

if TYPE_CHECKING:
    from collections.abc import Callable

AREAS = ("small", "medium", "large")  # of objects: under 32², from there, and from 96² pixels (COCO)


def _precisions(prefix: str, of: str) -> tuple[Score, ...]:
    """AP, AP50 and AP75 of boxes or masks."""
    average = "average precision of {} ({})"
    ap = Score(
        f"{prefix}ap",
        f"{of} AP",
        average.format(of, "COCO: mean over classes and IoU thresholds 0.50 to 0.95"),
        "%",
        low=0,
        high=100,
        digits=1,
    )
    at_iou = (
        replace(ap, name=f"{ap.name}{iou}", label=f"{ap.label}{iou}", description=average.format(of, f"IoU 0.{iou}"))
        for iou in (50, 75)
    )
    return ap, *at_iou


BOX_SCORES = _precisions("", "box")
MASK_SCORES = _precisions("mask_", "mask")
AREA_SCORES = tuple(
    replace(
        BOX_SCORES[0],
        name=f"ap_{area}",
        label=f"box AP, {area}",
        description=f"average precision of the boxes of {area} objects (COCO)",
    )
    for area in AREAS
)
MIOU = replace(
    BOX_SCORES[0],
    name="miou",
    label="mIoU",
    description="mean over classes of intersection over union, of all pixels of the split",
)
PIXEL_ACCURACY = replace(
    MIOU, name="pixel_accuracy", label="pixel accuracy", description="share of the pixels whose class is right"
)


def _detection_meter(*, masks: bool) -> Callable[[], Meter]:
    def open_meter() -> Meter:
        from hiri_search.training.dense.average_precision import DetectionMeter  # torch is slow to import

        return DetectionMeter(masks=masks)

    return open_meter


def _segmentation_meter() -> Meter:
    from hiri_search.training.dense.confusion import SegmentationMeter  # torch is slow to import

    return SegmentationMeter()


_BOX_ORDER = (("ap", "ap50"), ("ap75", "ap50"))
_MASK_ORDER = (("mask_ap", "mask_ap50"), ("mask_ap75", "mask_ap50"))
DETECTION = LearningTask((*BOX_SCORES, *AREA_SCORES), _detection_meter(masks=False), ordered=_BOX_ORDER)
INSTANCE_SEGMENTATION = LearningTask(
    (*BOX_SCORES, *AREA_SCORES, *MASK_SCORES), _detection_meter(masks=True), ordered=(*_BOX_ORDER, *_MASK_ORDER)
)
SEGMENTATION = LearningTask((MIOU, PIXEL_ACCURACY), _segmentation_meter)
TASKS: Mapping[str, LearningTask] = {  # by the annotations of the images
    "": CLASSIFICATION,
    "boxes": DETECTION,
    "masks": INSTANCE_SEGMENTATION,
    "semantic": SEGMENTATION,
}
