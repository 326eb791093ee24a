"""HR, CFFN and Transformer blocks (sections 4.2 and 4.3, Eq. 3)."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d, use_fused_attn
from torch import Tensor, nn

from hiri_search.nets.depthwise import DepthwiseConv2d


def norm_layer(kind: str, width: int) -> nn.Module:
    """Build the norm of a (B, C, H, W) map: LayerNorm over C at each position for `ln`, else BatchNorm."""
    return LayerNorm2d(width) if kind == "ln" else nn.BatchNorm2d(width)


class HighResolutionBlock(nn.Module):
    """HR block: x + DW(x) + Up(FC(act(FC(BN(DW_s(x)))))), with the FCs at 1/`reduction` of the resolution.

    Upsampling repeats pixels (section 4.2); the position of the norm is inferred.
    """

    def __init__(self, width: int, expansion: int, *, reduction: int = 2, drop_path: float = 0.0) -> None:
        super().__init__()
        hidden = expansion * width
        self.high = DepthwiseConv2d(width)
        self.reduce = DepthwiseConv2d(width, stride=reduction, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, width, 1)
        self.drop_path = DropPath(drop_path)
        self.reduction = reduction

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        low = self.norm(self.reduce(x))  # (B, C, H/r, W/r)
        low = self.fc2(self.act(self.fc1(low)))
        if self.reduction > 1:
            low = F.interpolate(low, scale_factor=float(self.reduction), mode="nearest")
            low = low[..., : x.shape[2], : x.shape[3]]  # of an odd grid it is too large
        return x + self.drop_path(self.high(x) + low)  # type: ignore[no-any-return]


class ConvFeedForward(nn.Module):
    """CFFN (Eq. 3): z = act(BN(FC1(x))); FC2(DW(z) + z). The BN after FC1 is inferred."""

    def __init__(self, width: int, expansion: int, *, inner_norm: bool = True) -> None:
        super().__init__()
        hidden = expansion * width
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden) if inner_norm else nn.Identity()
        self.act = nn.GELU()
        self.conv = DepthwiseConv2d(hidden)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        z = self.act(self.norm(self.fc1(x)))  # (B, E*C, H, W)
        return self.fc2(self.conv(z) + z)  # type: ignore[no-any-return]


class PlainFeedForward(nn.Module):
    """Feed-forward layer without convolution: FC2(act(FC1(x))) (Table 7, row 1)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, expansion * width, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(expansion * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class CffnBlock(nn.Module):
    """CFFN block: x + CFFN(norm(x)) (section 4.3)."""

    def __init__(self, width: int, expansion: int, *, norm: str = "bn", drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm = norm_layer(norm, width)
        self.ffn = ConvFeedForward(width, expansion, inner_norm=norm != "ln")
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x + self.drop_path(self.ffn(self.norm(x)))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention over all positions, without position embedding (section 3).

    With `reduction` > 1 a strided convolution shrinks the map of keys and values (M-ViT rows of Table 7). As in timm,
    `fused_attn` chooses torch's fused operator, which has no second derivative and no forward-mode derivative.
    """

    def __init__(self, width: int, head_size: int, *, reduction: int = 1) -> None:
        super().__init__()
        self.head_size, self.fused_attn = head_size, use_fused_attn()
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.reduce = _shrinking(width, reduction)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        shape = x.shape
        keys = self.reduce(x).flatten(2).transpose(1, 2)  # (B, M, C), M = N / reduction^2
        x = x.flatten(2).transpose(1, 2)  # (B, N, C), N = H * W: no copy in channels-last
        q = self.q(x).unflatten(2, [-1, self.head_size]).transpose(1, 2)  # (B, heads, N, d)
        kv = self.kv(keys).unflatten(2, [2, -1, self.head_size])  # (B, M, 2, heads, d)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, M, d) each
        if self.fused_attn:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * self.head_size**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, N, C)
        return x.transpose(1, 2).reshape(shape)


def _shrinking(width: int, reduction: int) -> nn.Module:
    if reduction == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(width, width, reduction, reduction), LayerNorm2d(width))


class TransformerBlock(nn.Module):
    """Transformer block: x + MHA(norm(x)), then x + FFN(norm(x)).

    The norm `mix`, the paper's choice, is LN before attention and BN before the feed-forward layer.
    """

    def __init__(
        self,
        width: int,
        expansion: int,
        *,
        head_size: int = 64,
        reduction: int = 1,
        plain_ffn: bool = False,
        norm: str = "mix",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        attention_norm, ffn_norm = ("ln", "bn") if norm == "mix" else (norm, norm)
        self.norm1 = norm_layer(attention_norm, width)
        self.attention = Attention(width, head_size, reduction=reduction)
        self.norm2 = norm_layer(ffn_norm, width)
        inner_norm = ffn_norm != "ln"
        self.ffn = (
            PlainFeedForward(width, expansion)
            if plain_ffn
            else ConvFeedForward(width, expansion, inner_norm=inner_norm)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.ffn(self.norm2(x)))  # type: ignore[no-any-return]
