"""Small things for the tests of dense methods: a body, drawn images with boxes and masks, average precision."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

CLASSES = 3


class SmallBody(nn.Module):
    """Strided convolutions with BatchNorm, whose last maps are given: three from stride 8 on, or four from 4 on."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 64, 64)
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        )
        self.channels, self.strides = widths[-maps:], (4, 8, 16, 32)[-maps:]

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [images]
        for conv in self.convs:
            maps.append(conv(maps[-1]))
        return maps[-len(self.channels) :]


def drawn_images(count: int, *, side: int = 128, seed: int = 0) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Draw one to three shapes an image, apart from each other: rectangles, ellipses and frames of three colors."""
    random = torch.Generator().manual_seed(seed)
    images, targets = torch.randn(count, 3, side, side, generator=random) * 0.2, []
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    for image in images:
        boxes, masks, labels = torch.zeros(0, 4), [], []
        while len(labels) < 1 + len(targets) % 3:
            size = torch.rand(2, generator=random) * side * 0.25 + side * 0.2
            corner = (torch.rand(2, generator=random) * (side - size)).round()
            box = torch.cat([corner, (corner + size).round()])
            if box_iou(box[None], boxes).sum():
                continue
            middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
            across, along = (x - middle[0]).abs() / half[0], (y - middle[1]).abs() / half[1]
            label = int(torch.randint(CLASSES, (), generator=random))
            edge = torch.maximum(across, along)
            mask = (edge < 1, across**2 + along**2 < 1, (edge < 1) & (edge > 0.5))[label]
            image[label] = torch.where(mask, 2.0, image[label])
            boxes, masks, labels = torch.cat([boxes, box[None]]), [*masks, mask], [*labels, label]
        targets.append({"boxes": boxes, "labels": torch.tensor(labels), "masks": torch.stack(masks).to(torch.uint8)})
    return images, targets


def mask_iou(masks: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of all pairs: (N, H, W) and (M, H, W) of 0 and 1 -> (N, M)."""
    first, second = masks.flatten(1).float(), others.flatten(1).float()
    shared = first @ second.T
    return shared / (first.sum(1)[:, None] + second.sum(1) - shared).clamp(min=1)


def ap50(found: list[dict[str, Tensor]], targets: list[dict[str, Tensor]], part: str = "boxes") -> float:
    """Return the average precision at IoU 0.5, the mean of all classes that are there: every point of the curve."""
    iou: Callable[[Tensor, Tensor], Tensor] = box_iou if part == "boxes" else mask_iou
    precisions = []
    for label in range(CLASSES):
        hits, objects = [], 0
        for one, target in zip(found, targets, strict=True):
            mine, true = one["labels"] == label, target["labels"] == label
            objects += int(true.sum())
            order = one["scores"][mine].argsort(descending=True)
            shapes = one[part][mine][order]
            overlaps = iou(shapes if part == "boxes" else shapes[:, 0] > 0.5, target[part][true])
            taken: set[int] = set()
            for score, row in zip(one["scores"][mine][order].tolist(), overlaps.tolist(), strict=True):
                free = [(value, n) for n, value in enumerate(row) if n not in taken and value >= 0.5]
                taken |= {max(free)[1]} if free else set()
                hits.append((score, bool(free)))
        if objects:
            right = torch.tensor([hit for _, hit in sorted(hits, reverse=True)], dtype=torch.float32).cumsum(0)
            precision = right / torch.arange(1, len(right) + 1)
            best = precision.flip(0).cummax(0).values.flip(0) if len(right) else precision
            precisions.append(float((right.diff(prepend=torch.zeros(1)) * best).sum()) / objects)
    return sum(precisions) / len(precisions)
