"""Feature pyramid (FPN): the maps of a body brought to one width, and coarser levels made of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from math import gcd
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

# Coarser levels: none; one, a max pooling of the last output; two strided convolutions, the first of them on the last
# map of the body (RetinaNet), or on the last output of the pyramid (ATSS, GFL).
MoreLevels: TypeAlias = Literal["none", "pool", "on_input", "on_output"]
_COUNTS: dict[MoreLevels, int] = {"none": 0, "pool": 1, "on_input": 2, "on_output": 2}
MIN_GRID = 2  # positions along the side of the coarsest level


class FeaturePyramid(nn.Module):
    """A body and its pyramid: images (B, 3, H, W) -> maps (B, width, H/s, W/s) by name, finest first.

    torchvision's detectors take it as their backbone. `side` is the shorter side of the images: levels with a grid
    under MIN_GRID are left out; None: all levels. `norms` puts BatchNorm in front of the pyramid and behind each of
    its convolutions: ours, for networks that are trained without a pretrained body.
    """

    def __init__(
        self,
        body: nn.Module,
        width: int = 256,
        *,
        more: MoreLevels = "none",
        side: int | None = None,
        norms: bool = False,
    ) -> None:
        super().__init__()
        channels, strides = _maps(body)
        levels = _levels(strides[-1], _COUNTS[more], side)
        self.body, self.out_channels = body, width
        self.strides = (*strides, *(strides[-1] * 2**level for level in range(1, levels + 1)))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if norms else nn.Identity() for c in channels)
        extra = None
        if levels:
            on_input = more == "on_input"
            extra = LastLevelMaxPool() if more == "pool" else _Coarser(channels[-1], width, levels, on_input=on_input)
        self.fpn = FeaturePyramidNetwork(list(channels), width, extra, norm_layer=nn.BatchNorm2d if norms else None)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return self.neck(self.body(images))

    def neck(self, maps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        """Return the levels of the pyramid of these maps of the body."""
        normed = (norm(each) for norm, each in zip(self.norms, maps, strict=True))
        levels: OrderedDict[str, Tensor] = self.fpn(OrderedDict((str(n), each) for n, each in enumerate(normed)))
        return levels


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of eight channels a group, as the 32 groups of 256 channels are: for the towers of heads."""
    return nn.GroupNorm(gcd(channels, max(1, channels // 8)), channels)


def _maps(body: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    channels, strides = tuple(body.channels), tuple(body.strides)  # type: ignore[arg-type]
    if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise ValueError(f"a pyramid needs maps of strides that double; these have {', '.join(map(str, strides))}")
    return channels, strides


def _levels(stride: int, count: int, side: int | None) -> int:
    """Return how many of `count` coarser levels have a large enough grid."""
    return sum(1 for level in range(1, count + 1) if side is None or -(-side // (stride * 2**level)) >= MIN_GRID)


class _Coarser(ExtraFPNBlock):  # type: ignore[misc]
    """One or two strided convolutions, with ReLU before the second.

    torchvision's LastLevelP6P7 chooses its input by comparing widths, so that it takes the wrong one where they happen
    to be equal.
    """

    def __init__(self, channels: int, width: int, levels: int, *, on_input: bool) -> None:
        super().__init__()
        widths = (channels if on_input else width, *[width] * levels)
        self.convs = nn.ModuleList(nn.Conv2d(first, then, 3, 2, 1) for first, then in pairwise(widths))
        self.on_input = on_input
        for conv in self.convs:
            nn.init.kaiming_uniform_(conv.weight, a=1)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        last = (x if self.on_input else results)[-1]
        for number, conv in enumerate(self.convs):
            last = conv(last.relu() if number else last)
            results, names = [*results, last], [*names, f"more{number + 1}"]
        return results, names
