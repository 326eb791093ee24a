"""Boxes of detectors: anchors by stride, RoI pooling from a pyramid, and the detections that are kept.

Boxes are (N, 4): x1, y1, x2, y2 in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, batched_nms, clip_boxes_to_image
from torchvision.ops.poolers import initLevelMapper

Targets: TypeAlias = list[dict[str, Tensor]]
Detections: TypeAlias = list[dict[str, Tensor]]
_Head = TypeVar("_Head", bound=nn.Module)
ANCHOR_SCALE = 8  # sides of an anchor's square of equal area, in strides of its level
_MIN_SCORE = 0.05
_MOST_OF_A_LEVEL = 1000  # candidates before the suppression
_MOST = 100  # detections of an image
_MAX_IOU = 0.6  # of two detections of one class
_SAMPLED = 0.512  # of the regions of an image, those that a step is trained on: 512 of 1,000


def in_float32(head: _Head) -> _Head:
    """Let a head return float32 under autocast, and return the head.

    bfloat16 has 8 significant bits: boxes would be rounded by pixels, and torchvision's suppression, which moves the
    boxes of each class to a place of their own, would keep boxes that overlap.
    """
    head.register_forward_hook(_as_float32)
    return head


def _as_float32(head: nn.Module, inputs: Any, outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, dict):
        return {name: _as_float32(head, inputs, each) for name, each in outputs.items()}
    return type(outputs)(_as_float32(head, inputs, each) for each in outputs)


class StridedAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors of every position of a pyramid: each scale x stride, for each ratio of height to width.

    torchvision's generator divides the side of the images by that of the grid, which is not the stride where a grid
    was rounded up; and it computes in the number format of the maps, where bfloat16 has no odd pixel over 256.
    """

    def __init__(
        self, strides: Sequence[int], ratios: Sequence[float], scales: Sequence[float] = (ANCHOR_SCALE,)
    ) -> None:
        sizes = tuple(tuple(int(scale * stride) for scale in scales) for stride in strides)
        super().__init__(sizes, (tuple(ratios),) * len(strides))
        self.strides = tuple(strides)

    def levels(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the anchors of each level, row by row: (H x W x ratios, 4)."""
        self.set_cell_anchors(torch.float32, maps[0].device)
        strides = [(stride, stride) for stride in self.strides]
        anchors: list[Tensor] = self.grid_anchors([each.shape[-2:] for each in maps], strides)
        return anchors

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors of all levels, once for each image: what torchvision's RPN asks for."""
        return [torch.cat(self.levels(feature_maps))] * len(image_list.image_sizes)


class RoIPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """RoIAlign to `size` x `size` from the levels of these strides, which a pyramid names "0", "1", ...

    The scales are given: torchvision infers them from its first images, and wrongly where a small grid is rounded up.
    """

    def __init__(self, strides: Sequence[int], size: int) -> None:
        super().__init__([str(level) for level in range(len(strides))], size, sampling_ratio=2)
        self.scales = [1 / stride for stride in strides]
        self.map_levels = initLevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], image_shapes: Any = ()) -> Tensor:
        """Return the features of the boxes (N, 4) of each image: (sum of N, channels, size, size).

        torchvision's heads pass the sizes of the images too, which are not needed.
        """
        pooled: Tensor = super().forward(maps, boxes, [])
        return pooled


def sampled(regions: int) -> int:
    """Return how many regions of an image a training step samples."""
    return max(1, round(_SAMPLED * regions))


def without_ignored(targets: Targets) -> Targets:
    """Leave out the ignored objects (crowd regions): they are no object to find, and what is found there is wrong.

    So do the published detectors of ATSS, GFL, Cascade R-CNN and Sparse R-CNN.
    """
    return [
        {name: value[~target["ignored"]] for name, value in target.items() if name in ("boxes", "labels", "masks")}
        if "ignored" in target
        else target
        for target in targets
    ]


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of each box with the other of its place: (N, 4), (N, 4) -> (N,)."""
    shared = (torch.min(boxes[:, 2:], others[:, 2:]) - torch.max(boxes[:, :2], others[:, :2])).clamp(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (others[:, 2:] - others[:, :2]).prod(1)
    return shared / (areas - shared).clamp(min=1e-6)


def best_detections(
    boxes: Tensor, scores: Tensor, size: tuple[int, int], *, levels: Sequence[int], quality: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the detections of an image after non-maximum suppression.

    boxes (P, 4), scores (P, classes), height and width of the image, number of positions of each level; `quality` (P,)
    multiplies the scores of those that are chosen.
    """
    classes = scores.shape[1]
    positions = torch.arange(len(boxes), device=boxes.device)
    chosen = torch.cat([_best(part, scores) for part in torch.split(positions, list(levels))])
    where, labels = chosen // classes, chosen % classes
    boxes, scores = clip_boxes_to_image(boxes[where], size), scores[where, labels]
    if quality is not None:
        scores = scores * quality[where]
    kept = batched_nms(boxes, scores, labels, _MAX_IOU)[:_MOST]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def _best(positions: Tensor, scores: Tensor) -> Tensor:
    """Return the best pairs of these positions and a class, as position x classes + class."""
    flat = scores[positions].flatten()
    values, indices = flat.topk(min(_MOST_OF_A_LEVEL, len(flat)))
    return indices[values > _MIN_SCORE] + positions[0] * scores.shape[1]
