"""GFL: ATSS with one score for class and quality of a box, and edges as distributions (Li et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchvision.ops import generalized_box_iou_loss

from hiri_search.nets.dense.detectors.assignment import centers
from hiri_search.nets.dense.detectors.atss import ATSS, by_position, positives
from hiri_search.nets.dense.detectors.boxes import ANCHOR_SCALE, Detections, Targets, best_detections, paired_iou

_FARTHEST = 16  # strides from a position to an edge of its object
_BETA = 2.0  # exponent of the quality focal loss
_BOX_WEIGHT, _EDGE_WEIGHT = 2.0, 0.25  # of the losses of boxes and of the distributions of edges


class GFL(ATSS):
    """GFL on a body with three maps; everything that is not named here is as in ATSS.

    The class logits are trained to give the IoU of the box. Each edge is a distribution over the distances of 0, 1 ..
    16 strides, and the box is made of their means. Losses: `classification`, `boxes`, `edges`.
    """

    def __init__(
        self, body: nn.Module, classes: int, *, width: int = 256, side: int | None = None, norms: bool = False
    ) -> None:
        super().__init__(body, classes, width=width, side=side, norms=norms)
        edges = nn.Conv2d(width, 4 * (_FARTHEST + 1), 3, padding=1)
        nn.init.normal_(edges.weight, std=0.01)
        nn.init.zeros_(edges.bias)  # type: ignore[arg-type]
        self.regression.bbox_reg, self.regression.bbox_ctrness = edges, nn.Identity()

    def head(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return class logits (B, P, classes) and logits of the distances (B, P, 4 x 17)."""
        towers = [self.regression.conv(each) for each in maps]
        return self.classification(maps), by_position(self.regression.bbox_reg, towers)

    def losses(self, outputs: Sequence[Tensor], anchors: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        logits, edges = outputs
        positive, boxes, labels = positives(anchors, targets)
        where, edges = torch.cat(list(anchors)).expand(len(targets), -1, -1)[positive], edges[positive]
        found = boxes_of(edges, where)
        quality = torch.zeros_like(logits)
        quality[positive, labels] = paired_iou(found.detach(), boxes)
        weight = logits.detach()[positive].sigmoid().amax(1)  # sure positions count for more
        total = weight.sum().clamp(min=1)
        by_edge = distribution_focal_loss(edges, distances_of(where, boxes)).mean(1)
        return {
            "classification": quality_focal_loss(logits, quality).sum() / positive.sum().clamp(min=1),
            "boxes": _BOX_WEIGHT * (generalized_box_iou_loss(found, boxes) * weight).sum() / total,
            "edges": _EDGE_WEIGHT * (by_edge * weight).sum() / total,
        }

    def detections(self, outputs: Sequence[Tensor], anchors: Sequence[Tensor], size: tuple[int, int]) -> Detections:
        every, levels = torch.cat(list(anchors)), [len(each) for each in anchors]
        return [
            best_detections(boxes_of(edges, every), logits.sigmoid(), size, levels=levels)
            for logits, edges in zip(*outputs, strict=True)
        ]


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Return the loss of each score: cross-entropy with a quality of 0..1, times |quality - score|^2 (equation 5)."""
    weight = (quality - logits.sigmoid()).abs().pow(_BETA)
    return binary_cross_entropy_with_logits(logits, quality, reduction="none") * weight


def distribution_focal_loss(edges: Tensor, distances: Tensor) -> Tensor:
    """Return the loss of each edge: (N, 4 x 17) logits, (N, 4) distances in strides -> (N, 4) (equation 6).

    It is the cross-entropy with the two whole distances on both sides of the true one, each by its nearness.
    """
    near = distances.floor().long()
    logits = edges.view(-1, _FARTHEST + 1)

    def entropy(whole: Tensor) -> Tensor:
        return cross_entropy(logits, whole.flatten(), reduction="none").view_as(distances)

    return entropy(near) * (near + 1 - distances) + entropy(near + 1) * (distances - near)


def distances_of(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return how far the edges of boxes are from the centres of anchors, in strides: left, top, right, bottom (N, 4).

    Those out of reach are cut to a little under the farthest, so that there is a whole distance on both sides.
    """
    points = centers(anchors)
    distances = torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], dim=1) / _strides(anchors)
    return distances.clamp(0, _FARTHEST - 0.1)


def boxes_of(edges: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes of mean distances: (N, 4 x 17) logits, (N, 4) anchors -> (N, 4)."""
    shares = edges.view(-1, 4, _FARTHEST + 1).softmax(2)
    distances = (shares * torch.arange(_FARTHEST + 1, device=edges.device)).sum(2) * _strides(anchors)
    points = centers(anchors)
    return torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1)


def _strides(anchors: Tensor) -> Tensor:
    """Return the strides of the levels of square anchors: (N, 1)."""
    return (anchors[:, 2:3] - anchors[:, 0:1]) / ANCHOR_SCALE
