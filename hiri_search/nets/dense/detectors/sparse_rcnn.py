"""Sparse R-CNN: learned proposals, refined by heads of dynamic convolutions, matched one to one (Sun et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import (
    box_convert,
    clip_boxes_to_image,
    generalized_box_iou,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

from hiri_search.nets.dense.detectors.assignment import match_by_cost
from hiri_search.nets.dense.detectors.boxes import Detections, RoIPool, Targets, without_ignored
from hiri_search.nets.dense.parts import Called, DensePart, Shape, pyramid_part
from hiri_search.nets.dense.pyramid import FeaturePyramid

_GRID = 7
_CLASS_WEIGHT, _L1_WEIGHT, _GIOU_WEIGHT = 2.0, 5.0, 2.0  # of the losses, and of the costs of a match
_ALPHA, _GAMMA = 0.25, 2.0  # of the focal loss
_PRIOR = 0.01  # score of a class before the training
_MOST = 100  # detections of an image


class SparseRCNN(nn.Module):
    """Sparse R-CNN on a body with four maps: `regions` learned boxes with features, which `heads` heads refine.

    In training `forward` returns the losses `classification`, `l1` and `giou` of each head, else the best detections
    of each image; there is no suppression. `side` and `norms` are those of the pyramid, which has no coarser levels.
    """

    def __init__(
        self,
        body: nn.Module,
        classes: int,
        *,
        width: int = 256,
        side: int | None = None,
        norms: bool = False,
        regions: int = 300,
        heads: int = 6,
    ) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(body, width, more="none", side=side, norms=norms)
        self.pool = RoIPool(self.pyramid.strides, _GRID)
        self.coder = BoxCoder((2.0, 2.0, 1.0, 1.0), math.log(100_000 / 16))
        self.boxes, self.features = nn.Embedding(regions, 4), nn.Embedding(regions, width)
        self.heads = nn.ModuleList(DynamicHead(width, classes) for _ in range(heads))
        with torch.no_grad():  # centre and size as shares of the image: all proposals begin as the whole of it
            self.boxes.weight.copy_(torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(regions, 4))

    def forward(self, images: Tensor, targets: Targets | None = None) -> dict[str, Tensor] | Detections:
        size = (images.shape[-2], images.shape[-1])
        outputs = self._refined(images)
        if not self.training:
            return [best_of_set(*one, size) for one in zip(*outputs[-1], strict=True)]
        assert targets is not None
        targets = without_ignored(targets)
        return {
            f"head{number}_{name}": loss
            for number, (logits, boxes) in enumerate(outputs, start=1)
            for name, loss in set_losses(logits, boxes, targets, size).items()
        }

    def parts(self, shapes: Sequence[Shape]) -> list[DensePart]:
        """Return the parts behind a body whose maps have these shapes; learned boxes and features are of the first."""
        count, width = self.features.weight.shape
        inputs = ((count, width, _GRID, _GRID), (1, count, width))
        first = Called(self.heads[0], self.heads[0], self.boxes, self.features)
        heads = [first, *self.heads[1:]]
        return [
            pyramid_part(self.pyramid, shapes),
            *(DensePart(f"head{number}", head, inputs) for number, head in enumerate(heads, start=1)),
        ]

    def _refined(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return class logits (B, P, classes) and boxes (B, P, 4) of each head."""
        maps = {name: each.float() for name, each in self.pyramid(images).items()}
        boxes = box_convert(self.boxes.weight, "cxcywh", "xyxy") * _sides(images, (images.shape[-2], images.shape[-1]))
        boxes, features = (each.expand(len(images), -1, -1) for each in (boxes, self.features.weight))
        outputs = []
        for head in self.heads:
            logits, deltas, features = head(self.pool(maps, list(boxes.detach())), features)
            boxes = self.coder.decode_single(deltas.float().flatten(0, 1), boxes.flatten(0, 1)).view_as(deltas)
            outputs.append((logits.float(), boxes))
            boxes = boxes.detach()  # each head learns to refine its own boxes only
        return outputs


class DynamicHead(nn.Module):
    """One head: attention among proposals, a convolution made of each one's features, a feed-forward layer, two towers.

    forward: features of the boxes (B x P, width, 7, 7) and of the proposals (B, P, width) -> class logits
    (B, P, classes), deltas of the boxes (B, P, 4), new features of the proposals.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, math.gcd(8, width))
        self.convolution = DynamicConvolution(width)
        self.feedforward = nn.Sequential(nn.Linear(width, 8 * width), nn.ReLU(), nn.Linear(8 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.classification = nn.Sequential(*_tower(width, 1), nn.Linear(width, classes))
        self.regression = nn.Sequential(*_tower(width, 3), nn.Linear(width, 4))
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        nn.init.constant_(self.classification[-1].bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]

    def forward(self, pooled: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        after_attention, after_convolution, after_feedforward = self.norms
        across = features.transpose(0, 1)  # (P, B, width)
        attended = self.attention(across, across, across, need_weights=False)[0].transpose(0, 1)
        features = after_attention(features + attended)
        merged = self.convolution(pooled, features.flatten(0, 1)).unflatten(0, features.shape[:2])
        features = after_convolution(features + merged)
        features = after_feedforward(features + self.feedforward(features))
        return self.classification(features), self.regression(features), features


class DynamicConvolution(nn.Module):
    """Two 1x1 convolutions of a box's features, whose weights are made of its proposal's, and a linear layer of all.

    forward: (N, width, 7, 7), (N, width) -> (N, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = max(1, width // 4)
        self.weights = nn.Linear(width, 2 * width * self.hidden)
        self.out = nn.Linear(width * _GRID**2, width)
        self.norms = nn.ModuleList(nn.LayerNorm(each) for each in (self.hidden, width, width))

    def forward(self, pooled: Tensor, features: Tensor) -> Tensor:
        count, width = features.shape
        first, second = self.weights(features).split(width * self.hidden, dim=1)
        after_first, after_second, after_out = self.norms
        values = pooled.flatten(2).transpose(1, 2)  # (N, 49, width)
        values = after_first(values @ first.view(count, width, self.hidden)).relu()
        values = after_second(values @ second.view(count, self.hidden, width)).relu()
        merged: Tensor = after_out(self.out(values.flatten(1))).relu()
        return merged


def set_losses(logits: Tensor, boxes: Tensor, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return the losses of one head after matching each object with one proposal: sums over the number of objects.

    logits (B, P, classes), boxes (B, P, 4), height and width of the images. L1 is that of boxes as shares of the image.
    """
    matches = [
        match_by_cost(match_costs(logit, box, target, size))
        for logit, box, target in zip(logits, boxes, targets, strict=True)
    ]
    wanted = torch.zeros_like(logits)
    for one, target, (proposals, objects) in zip(wanted, targets, matches, strict=True):
        one[proposals, target["labels"][objects]] = 1
    found = torch.cat([box[proposals] for box, (proposals, _) in zip(boxes, matches, strict=True)])
    true = torch.cat([target["boxes"][objects] for target, (_, objects) in zip(targets, matches, strict=True)])
    count, sides = max(1, sum(len(target["boxes"]) for target in targets)), _sides(boxes, size)
    focal = sigmoid_focal_loss(logits, wanted, _ALPHA, _GAMMA, reduction="sum")
    return {
        "classification": _CLASS_WEIGHT * focal / count,
        "l1": _L1_WEIGHT * l1_loss(found / sides, true / sides, reduction="sum") / count,
        "giou": _GIOU_WEIGHT * generalized_box_iou_loss(found, true, reduction="sum") / count,
    }


def match_costs(logits: Tensor, boxes: Tensor, target: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Return what a match of each proposal with each object costs: (P, N), of class, L1 and GIoU."""
    logits, boxes, sides = logits.detach(), boxes.detach(), _sides(boxes, size)
    positive, negative = (
        sigmoid_focal_loss(logits, torch.full_like(logits, wanted), _ALPHA, _GAMMA) for wanted in (1.0, 0.0)
    )
    classification = (positive - negative)[:, target["labels"]]
    distance = (boxes[:, None] / sides - target["boxes"][None] / sides).abs().sum(2)
    overlap = generalized_box_iou(boxes, target["boxes"])
    costs: Tensor = _CLASS_WEIGHT * classification + _L1_WEIGHT * distance - _GIOU_WEIGHT * overlap
    return costs


def best_of_set(logits: Tensor, boxes: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return the best detections of an image: logits (P, classes), boxes (P, 4)."""
    scores, order = logits.sigmoid().flatten().topk(min(_MOST, logits.numel()))
    where, labels = order // logits.shape[1], order % logits.shape[1]
    return {"boxes": clip_boxes_to_image(boxes[where], size), "scores": scores, "labels": labels}


def _sides(like: Tensor, size: tuple[int, int]) -> Tensor:
    """Return width, height, width, height of an image."""
    return torch.tensor([size[1], size[0]] * 2, dtype=torch.float32, device=like.device)


def _tower(width: int, layers: int) -> list[nn.Module]:
    return [
        part for _ in range(layers) for part in (nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU())
    ]
