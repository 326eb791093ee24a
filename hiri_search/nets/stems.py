"""The three stems, all of stride 4 (section 4.2; Table 7)."""

from __future__ import annotations

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from hiri_search.language.net import STEM_STRIDE
from hiri_search.nets.depthwise import DepthwiseConv2d


def conv_bn_act(width_in: int, width_out: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Build a convolution without bias, BatchNorm and GELU."""
    conv = nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width_out), nn.GELU())


class HighResolutionStem(nn.Module):
    """HR stem: two branches from 1/2 to 1/4 of the resolution, one thin and high, one deeper and low (section 4.2)."""

    def __init__(self, channels: int, hidden: int, width: int) -> None:
        super().__init__()
        self.entry = conv_bn_act(channels, hidden, stride=2)
        self.high = nn.Sequential(DepthwiseConv2d(hidden, bias=False), nn.Conv2d(hidden, width, 3, 2, 1))
        self.low = nn.Sequential(
            conv_bn_act(hidden, hidden, stride=2), conv_bn_act(hidden, hidden), nn.Conv2d(hidden, width, 1)
        )
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, C1, H/4, W/4)
        x = self.entry(x)  # (B, hs, H/2, W/2)
        return self.norm(self.high(x) + self.low(x))  # type: ignore[no-any-return]


def conv_stem(channels: int, hidden: int, width: int) -> nn.Sequential:
    """Build four 3x3 convolutions, the first and the last of stride 2 (Table 7, rows 5 to 8; width 32 inferred)."""
    return nn.Sequential(
        conv_bn_act(channels, hidden, stride=2),
        conv_bn_act(hidden, hidden),
        conv_bn_act(hidden, hidden),
        nn.Conv2d(hidden, width, 3, 2, 1),
        nn.BatchNorm2d(width),
    )


def vit_stem(channels: int, width: int) -> nn.Sequential:
    """Build a 7x7 convolution of stride 4 and a LayerNorm (Table 7, rows 1 to 4)."""
    return nn.Sequential(nn.Conv2d(channels, width, 7, STEM_STRIDE, 3), LayerNorm2d(width))
