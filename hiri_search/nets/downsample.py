"""Downsampling between stages: inverted residual (IRDS, section 4.3) and plain convolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, fx, nn

from hiri_search.nets.blocks import norm_layer
from hiri_search.nets.depthwise import DepthwiseConv2d
from hiri_search.nets.stems import conv_bn_act

IRDS_RATIO = 4  # hidden width / input width; inferred from the costs of Tables 2 and 7


@fx.wrap  # a condition on the size of the input, which fx cannot trace
def padded_to_even(x: Tensor) -> Tensor:
    """Pad the right and the bottom of a map (B, C, H, W) by one where its height or width is odd (inferred)."""
    odd = [0, x.shape[3] % 2, 0, x.shape[2] % 2]
    return F.pad(x, odd) if sum(odd) else x


class Shortcut(nn.Module):
    """2x2 convolution without bias (inferred); stride 1 pads the right and the bottom, so that the grid stays.

    With stride 2 an odd grid is padded too: it rounds up, as the strided 3x3 convolutions beside it do.
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 2, stride, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:  # (B, Ci, H, W) -> (B, Co, H/s, W/s)
        return self.conv(padded_to_even(x) if self.stride == 2 else F.pad(x, (0, 1, 0, 1)))  # type: ignore[no-any-return]


class InvertedResidualDownsampling(nn.Module):
    """IRDS: main(x) + shortcut(x), without a norm after the sum (section 4.3)."""

    def __init__(self, main: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:  # (B, Ci, H, W) -> (B, Co, H/s, W/s)
        return self.main(x) + self.shortcut(x)  # type: ignore[no-any-return]


def irds(width_in: int, width_out: int, *, stride: int, dense: bool) -> nn.Module:
    """Build IRDS: (B, Ci, H, W) -> (B, Co, H/s, W/s).

    `dense`: IRDS-a, where a dense 3x3 convolution widens and strides. Else IRDS-b, for low resolutions: a pointwise
    convolution widens, a depthwise one strides.
    """
    hidden = IRDS_RATIO * width_in
    widen: list[nn.Module]
    if dense:
        widen = [conv_bn_act(width_in, hidden, stride=stride)]
    else:
        widen = [conv_bn_act(width_in, hidden, kernel=1), DepthwiseConv2d(hidden, stride=stride)]
    main = nn.Sequential(*widen, nn.Conv2d(hidden, width_out, 1))
    return InvertedResidualDownsampling(main, Shortcut(width_in, width_out, stride))


def conv_downsampling(width_in: int, width_out: int, *, stride: int, norm: str) -> nn.Module:
    """Build DS, a 3x3 convolution and `norm`: (B, Ci, H, W) -> (B, Co, H/s, W/s)."""
    return nn.Sequential(nn.Conv2d(width_in, width_out, 3, stride, 1), norm_layer(norm, width_out))
