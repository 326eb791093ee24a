"""The classification head."""

from __future__ import annotations

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

HEAD_RATIO = 5  # hidden width / C5; inferred from the costs of Tables 2, 4 and 6


SINGLE_IMAGE = (
    "a batch of one image cannot be trained on, because the BatchNorm behind the pool would normalise one value per"
    " channel; give two images or more, or write model.eval()"
)


class Head(nn.Module):
    """LN, average pool, FC to 5*C, BN, act, FC to the classes (inferred: the paper prints no head).

    Without `pool` the same layers classify each position: the teacher's map of Eq. 4-5.
    """

    def __init__(self, width: int, classes: int, *, pool: bool = True, drop: float = 0.0) -> None:
        super().__init__()
        self.pool, self.hidden = pool, HEAD_RATIO * width
        self.norm = LayerNorm2d(width)
        self.fc1 = nn.Linear(width, self.hidden)
        self.bn = nn.BatchNorm1d(self.hidden)
        self.act = nn.GELU()
        self.drop = nn.Dropout(drop)
        self.fc = classifier(self.hidden, classes)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, C, H, W) -> (B, classes); (B, H, W, classes) without the pool."""
        if not self.pool:
            return self.everywhere(x, pre_logits=pre_logits)
        return self._classify(self.norm(x).mean((2, 3)), pre_logits)

    def everywhere(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, C, H, W) -> (B, H, W, classes): classify each position, also in a head with a pool."""
        x = self.norm(x)
        batch, _, height, width = x.shape
        x = x.permute(0, 2, 3, 1).flatten(0, 2)  # (B*H*W, C)
        return self._classify(x, pre_logits).reshape(batch, height, width, -1)

    def check_batch(self, images: Tensor) -> None:
        """Raise ValueError for a single image in training: a pass of torch.jit or torch.fx fails later, as in torch."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            alone = type(images) is Tensor and len(images) == 1
            if alone and self.pool and self.bn.training:
                raise ValueError(SINGLE_IMAGE)

    def _classify(self, x: Tensor, pre_logits: bool) -> Tensor:  # (N, C) -> (N, classes)
        x = self.drop(self.act(self.bn(self.fc1(x))))
        return x if pre_logits else self.fc(x)


class PrunedHead(nn.Module):
    """The head of a network that was cut down to its features: (B, C, H, W) unchanged; `norm` is for the features."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.pool, self.norm, self.fc = False, norm, nn.Identity()

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x

    def check_batch(self, images: Tensor) -> None:
        """Accept every batch."""


def classifier(hidden: int, classes: int) -> nn.Module:
    """Build the last layer: an identity for 0 classes, as in timm."""
    return nn.Linear(hidden, classes) if classes else nn.Identity()
