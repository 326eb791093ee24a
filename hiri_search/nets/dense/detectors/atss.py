"""ATSS: a one-stage detector whose positive anchors are chosen by the statistics of their IoU (Zhang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSRegressionHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from hiri_search.nets.dense.detectors.assignment import assign_by_statistics, centers
from hiri_search.nets.dense.detectors.boxes import Detections, StridedAnchors, Targets, best_detections, without_ignored
from hiri_search.nets.dense.parts import Called, DensePart, Shape, level_shapes, pyramid_part
from hiri_search.nets.dense.pyramid import FeaturePyramid, group_norm

_BOX_WEIGHT = 2.0  # of the loss of boxes; that of the others is 1


class ATSS(nn.Module):
    """ATSS on a body with three maps: one square anchor a position, two towers, centerness.

    `side` and `norms` are those of the pyramid. In training `forward` returns the losses `classification`, `boxes` and
    `centerness`, else the detections of each image; `head` gives the raw outputs for maps of the pyramid.
    """

    def __init__(
        self, body: nn.Module, classes: int, *, width: int = 256, side: int | None = None, norms: bool = False
    ) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(body, width, more="on_output", side=side, norms=norms)
        self.anchors = StridedAnchors(self.pyramid.strides, ratios=(1.0,))
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.classification = FCOSClassificationHead(width, 1, classes, norm_layer=group_norm)
        self.regression = FCOSRegressionHead(width, 1, norm_layer=group_norm)

    def forward(self, images: Tensor, targets: Targets | None = None) -> dict[str, Tensor] | Detections:
        maps = list(self.pyramid(images).values())
        anchors = self.anchors.levels(maps)
        outputs = [each.float() for each in self.head(maps)]
        if self.training:
            assert targets is not None
            return self.losses(outputs, anchors, without_ignored(targets))
        return self.detections(outputs, anchors, (images.shape[-2], images.shape[-1]))

    def head(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return class logits (B, P, classes), deltas of the anchors (B, P, 4), logits of centerness (B, P, 1)."""
        towers = [self.regression.conv(each) for each in maps]
        boxes, centerness = (
            by_position(conv, towers) for conv in (self.regression.bbox_reg, self.regression.bbox_ctrness)
        )
        return self.classification(maps), boxes, centerness

    def parts(self, shapes: Sequence[Shape]) -> list[DensePart]:
        """Return the parts behind a body whose maps have these shapes."""
        head = Called(lambda *levels: self.head(levels), self.classification, self.regression)
        return [pyramid_part(self.pyramid, shapes), DensePart("head", head, level_shapes(self.pyramid, shapes))]

    def losses(self, outputs: Sequence[Tensor], anchors: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        logits, deltas, centerness = outputs
        positive, boxes, labels = positives(anchors, targets)
        count = positive.sum().clamp(min=1)
        wanted = torch.zeros_like(logits)
        wanted[positive, labels] = 1
        where = torch.cat(list(anchors)).expand(len(targets), -1, -1)[positive]
        central = centerness_of(centers(where), boxes)
        far = generalized_box_iou_loss(self.coder.decode_single(deltas[positive], where), boxes)
        return {
            "classification": sigmoid_focal_loss(logits, wanted, reduction="sum") / count,
            "boxes": _BOX_WEIGHT * (far * central).sum() / central.sum().clamp(min=1),
            "centerness": binary_cross_entropy_with_logits(centerness[positive][:, 0], central, reduction="sum")
            / count,
        }

    def detections(self, outputs: Sequence[Tensor], anchors: Sequence[Tensor], size: tuple[int, int]) -> Detections:
        every, levels = torch.cat(list(anchors)), [len(each) for each in anchors]
        return [
            best_detections(
                self.coder.decode_single(deltas, every),
                logits.sigmoid(),
                size,
                levels=levels,
                quality=centerness[:, 0].sigmoid(),
            )
            for logits, deltas, centerness in zip(*outputs, strict=True)
        ]


def by_position(conv: nn.Module, maps: Sequence[Tensor]) -> Tensor:
    """Return the outputs of a convolution on all levels, as (B, positions, channels)."""
    return torch.cat([conv(each).flatten(2).transpose(1, 2) for each in maps], dim=1)


def positives(anchors: Sequence[Tensor], targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Return which anchors of each image are positive (B, P), and the boxes (N, 4) and labels (N,) of their objects."""
    objects = torch.stack([assign_by_statistics(anchors, target["boxes"]) for target in targets])
    chosen = [each[each >= 0] for each in objects]
    boxes = torch.cat([target["boxes"][each] for target, each in zip(targets, chosen, strict=True)])
    labels = torch.cat([target["labels"][each] for target, each in zip(targets, chosen, strict=True)])
    return objects >= 0, boxes, labels


def centerness_of(points: Tensor, boxes: Tensor) -> Tensor:
    """Return the centerness of points (N, 2) inside boxes (N, 4): 1 in the middle, 0 at an edge (FCOS, equation 3)."""
    low, high = points - boxes[:, :2], boxes[:, 2:] - points
    return (torch.min(low, high) / torch.max(low, high)).prod(1).sqrt()
