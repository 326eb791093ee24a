"""The high-resolution front on other backbones (Table 9)."""

from __future__ import annotations

from typing import Any

from timm.layers import get_device_dtype
from timm.models import named_apply
from timm.models.davit import DaVit
from timm.models.hrnet import HighResolutionNet
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from torch import Tensor, nn

from hiri_search.nets.blocks import HighResolutionBlock
from hiri_search.nets.downsample import irds
from hiri_search.nets.hirivit import initialise
from hiri_search.nets.stems import HighResolutionStem

_BLOCKS, _EXPANSION = 2, 4  # as in stage 1 of HIRI-ViT-S (Table 1)


class HighResolutionFront(nn.Module):
    """HR stem, two HR blocks and IRDS-a: replaces a stem of stride 4, for inputs of twice the side (Table 9).

    (B, 3, H, W) -> (B, `width_out`, H/8, W/8). `hidden` and `width` are inferred from the costs of Table 9.
    """

    def __init__(self, channels: int, width_out: int, *, hidden: int, width: int) -> None:
        super().__init__()
        blocks = [HighResolutionBlock(width, _EXPANSION) for _ in range(_BLOCKS)]
        self.early = nn.Sequential(HighResolutionStem(channels, hidden, width), *blocks)
        self.down = irds(width, width_out, stride=2, dense=True)
        named_apply(initialise, self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.early(x)  # (B, width, H/4, W/4)
        return self.down(x)  # type: ignore[no-any-return]


class HrFrontPvt(PyramidVisionTransformerV2):  # type: ignore[misc]
    """PVTv2 with the front in place of the patch convolution; the LN after it stays. `kwargs` are those of timm."""

    def __init__(self, *, in_chans: int = 3, front_hidden: int = 16, front_width: int = 32, **kwargs: Any) -> None:
        super().__init__(in_chans=in_chans, **kwargs)
        width = self.patch_embed.proj.out_channels
        front = HighResolutionFront(in_chans, width, hidden=front_hidden, width=front_width)
        self.patch_embed.proj = front.to(**get_device_dtype(self))
        _halve_grids(self.feature_info)


class HrFrontDavit(DaVit):  # type: ignore[misc]
    """DaViT with the front in place of the stem's convolution; the LN after it stays. `kwargs` are those of timm."""

    def __init__(self, *, in_chans: int = 3, front_hidden: int = 16, front_width: int = 32, **kwargs: Any) -> None:
        super().__init__(in_chans=in_chans, **kwargs)
        width = self.stem.conv.out_channels
        front = HighResolutionFront(in_chans, width, hidden=front_hidden, width=front_width)
        self.stem.conv = front.to(**get_device_dtype(self))
        _halve_grids(self.feature_info)


class HrFrontHrnet(HighResolutionNet):  # type: ignore[misc]
    """HRNet with the front in place of both convolutions of the stem, their norms and activations.

    timm's first feature map lies between the two convolutions; here it is the input of the IRDS. `kwargs` are timm's.
    """

    def __init__(self, *, in_chans: int = 3, front_hidden: int = 16, front_width: int = 32, **kwargs: Any) -> None:
        super().__init__(in_chans=in_chans, **kwargs)
        front = HighResolutionFront(in_chans, self.layer1[0].conv1.in_channels, hidden=front_hidden, width=front_width)
        front = front.to(**get_device_dtype(self))
        self.conv1, self.conv2 = front.early, front.down
        self.bn1, self.act1, self.bn2, self.act2 = (nn.Identity() for _ in range(4))
        self.feature_info[0]["num_chs"] = front_width
        _halve_grids(self.feature_info)


def _halve_grids(feature_info: list[dict[str, Any]]) -> None:
    """Double the stride of each feature map in timm's list."""
    for info in feature_info:
        info["reduction"] *= 2
