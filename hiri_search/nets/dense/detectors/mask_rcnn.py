"""Mask R-CNN of torchvision on any body (Table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead

from hiri_search.nets.dense.detectors.batches import BatchTransform
from hiri_search.nets.dense.detectors.boxes import (
    RoIPool,
    StridedAnchors,
    Targets,
    in_float32,
    sampled,
    without_ignored,
)
from hiri_search.nets.dense.parts import (
    BOX_GRID,
    MASK_GRID,
    DensePart,
    Shape,
    level_shapes,
    proposal_part,
    pyramid_part,
    region_parts,
)
from hiri_search.nets.dense.pyramid import FeaturePyramid, group_norm

_RATIOS = (0.5, 1.0, 2.0)


class ClassMasks(MaskRCNNPredictor):  # type: ignore[misc]
    """Masks of the classes alone; torchvision's label 0, the background, gets logits that nothing reads."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, width, classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, width, 14, 14) -> (N, 1 + classes, 28, 28)
        return F.pad(super().forward(x), (0, 0, 0, 0, 1, 0))


class MaskRCNN(TorchvisionMaskRCNN):  # type: ignore[misc]
    """A pyramid of the last four maps with a pooled level, proposals, and heads for boxes and masks.

    `forward(images, targets)` as in torchvision, but labels are 0 to `classes` - 1. Where no target of a batch has
    `masks`, they are not trained. An image has `regions` proposals, in training twice as many, of which a step samples
    512 of 1,000.
    """

    def __init__(
        self,
        body: nn.Module,
        classes: int,
        *,
        width: int = 256,
        side: int | None = None,
        norms: bool = False,
        regions: int = 1000,
    ) -> None:
        pyramid = FeaturePyramid(body, width, more="pool", side=side, norms=norms)
        strides: tuple[int, ...] = body.strides  # type: ignore[assignment]
        super().__init__(
            pyramid,
            rpn_anchor_generator=StridedAnchors(pyramid.strides, _RATIOS),
            rpn_head=in_float32(RPNHead(width, len(_RATIOS))),
            rpn_post_nms_top_n_train=2 * regions,
            rpn_post_nms_top_n_test=regions,
            box_batch_size_per_image=sampled(regions),
            box_roi_pool=RoIPool(strides, BOX_GRID),
            box_head=TwoMLPHead(width * BOX_GRID**2, 4 * width),
            box_predictor=in_float32(FastRCNNPredictor(4 * width, 1 + classes)),
            mask_roi_pool=RoIPool(strides, MASK_GRID),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1, norm_layer=group_norm if norms else None),
            mask_predictor=in_float32(ClassMasks(width, classes)),
        )
        self.transform, self.regions = BatchTransform(), regions

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        judged = targets and without_ignored(targets)
        shifted = judged and [{**target, "labels": target["labels"] + 1} for target in judged]
        results = super().forward(images, shifted)
        return results if self.training else [{**each, "labels": each["labels"] - 1} for each in results]

    def parts(self, shapes: Sequence[Shape]) -> list[DensePart]:
        """Return the parts behind a body whose maps have these shapes; heads run on one region of interest."""
        return [
            pyramid_part(self.backbone, shapes),
            proposal_part(self.rpn.head, level_shapes(self.backbone, shapes)),
            *region_parts(self.roi_heads, self.backbone.out_channels, self.regions),
        ]
