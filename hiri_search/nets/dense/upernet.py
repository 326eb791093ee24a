"""UPerNet for semantic segmentation (Table 6; Xiao et al., 2018, with the auxiliary head of mmsegmentation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from hiri_search.nets.dense.detectors.boxes import Targets
from hiri_search.nets.dense.parts import DensePart, Shape

POOLED_GRIDS = (1, 2, 3, 6)
UNLABELED = 255  # of a semantic target: positions that no loss and no score takes
_AUXILIARY_SHARE = 0.4  # of its loss
_DROPOUT = 0.1


def _conv(width_in: int, width_out: int, kernel: int) -> nn.Module:
    """Build a convolution without bias, BatchNorm and ReLU."""
    return nn.Sequential(*Conv2dNormActivation(width_in, width_out, kernel))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class UPerHead(nn.Module):
    """Pyramid pooling of the last map, a top-down pyramid, a classifier: maps -> logits on the grid of the finest."""

    def __init__(self, channels: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        *finer, last = channels
        self.pools = nn.ModuleList(_conv(last, width, 1) for _ in POOLED_GRIDS)
        self.bottleneck = _conv(last + len(POOLED_GRIDS) * width, width, 3)
        self.laterals = nn.ModuleList(_conv(each, width, 1) for each in finer)
        self.outputs = nn.ModuleList(_conv(width, width, 3) for _ in finer)
        self.fuse = _conv(len(channels) * width, width, 3)
        self.dropout = nn.Dropout2d(_DROPOUT)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, *maps: Tensor) -> Tensor:
        *finer, last = maps
        pooled = [
            _resized(conv(F.adaptive_avg_pool2d(last, grid)), last)
            for grid, conv in zip(POOLED_GRIDS, self.pools, strict=True)
        ]
        top = self.bottleneck(torch.cat([last, *pooled], 1))
        levels = [lateral(each) for lateral, each in zip(self.laterals, finer, strict=True)]
        merged = top
        for index in reversed(range(len(levels))):
            merged = levels[index] = levels[index] + _resized(merged, levels[index])
        outputs = [output(level) for output, level in zip(self.outputs, levels, strict=True)]
        fused = self.fuse(
            torch.cat([each if each is outputs[0] else _resized(each, outputs[0]) for each in (*outputs, top)], 1)
        )
        return self.classifier(self.dropout(fused))  # type: ignore[no-any-return]


class AuxiliaryHead(nn.Sequential):
    """A small classifier of one map, which helps the training alone."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__(_conv(channels, width, 3), nn.Dropout2d(_DROPOUT), nn.Conv2d(width, classes, 1))


class UPerNet(nn.Module):
    """UPerNet on the last four maps of a body, with an auxiliary head on the last but one.

    `forward(images, targets)`: in training the losses by name, of `semantic` (H, W) in each target, where UNLABELED is
    left out; else logits (B, classes, H, W). `width` is that of the pyramid; that of the auxiliary head is half of it.
    `side` and `norms` are those of the detectors; BatchNorm is always there, and no level is left out.
    """

    def __init__(
        self, body: nn.Module, classes: int, *, width: int = 512, side: int | None = None, norms: bool = True
    ) -> None:
        super().__init__()
        channels: tuple[int, ...] = body.channels  # type: ignore[assignment]
        self.body = body
        self.head = UPerHead(channels, classes, width)
        self.auxiliary = AuxiliaryHead(channels[-2], classes, width // 2)

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        maps = self.body(images)
        logits = _resized(self.head(*maps), images)
        if not self.training:
            return logits
        assert targets is not None
        semantic = torch.stack([target["semantic"] for target in targets])
        auxiliary = _resized(self.auxiliary(maps[-2]), images)
        return {"pixels": _loss(logits, semantic), "auxiliary": _AUXILIARY_SHARE * _loss(auxiliary, semantic)}

    def parts(self, shapes: Sequence[Shape]) -> list[DensePart]:
        """Return the parts behind a body whose maps have these shapes."""
        return [
            DensePart("head", self.head, tuple(shapes)),
            DensePart("auxiliary", self.auxiliary, (shapes[-2],)),
        ]


def _loss(logits: Tensor, semantic: Tensor) -> Tensor:
    """Return the mean cross-entropy over the judged positions; 0 where there is none."""
    loss = F.cross_entropy(logits, semantic, ignore_index=UNLABELED, reduction="sum")
    return loss / (semantic != UNLABELED).sum().clamp(min=1)
