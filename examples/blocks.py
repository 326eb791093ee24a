"""Blocks of published networks as stage kinds of a study: `imports: [blocks.py]`. Copy one as a start for your own.

A kind is a frozen dataclass: its fields are the arguments of a spec, `mbconv(64 e=6 k=5)*2`, each with its letter, its
highest value and its default. `block` builds one block for a stage's width and grid: an `nn.Module` that keeps the
shape (B, width, grid, grid). The network initialises the weights of all Linear and Conv2d in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from hiri_search.kinds import Rule, SpecError, Stage, check_heads, number, register, word


def check_kernel(kernel: int) -> None:
    """Refuse a kernel that would change the size of the grid."""
    if kernel % 2 == 0:
        raise SpecError(f"k={kernel} is even; write an odd number, as in k={kernel + 1}")


# ---- MBConv


class InvertedResidual(nn.Module):
    """x + BN(project(act(BN(depthwise(act(BN(expand(x)))))))), with ReLU6; without `expand` if `expansion` is 1."""

    def __init__(self, width: int, expansion: int, kernel: int, drop_path: float) -> None:
        super().__init__()
        hidden = expansion * width
        expand = [nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        self.layers = nn.Sequential(
            *(expand if expansion > 1 else []),
            nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x + self.drop_path(self.layers(x))


@register
@dataclass(frozen=True, kw_only=True)
class MBConv(Stage):
    """Inverted residual blocks of MobileNetV2 (Sandler et al. 2018, section 3.3)."""

    kind = "mbconv"
    rules = (*Stage.rules, Rule(("k",), check_kernel))
    expansion: int = number("e", 64, default=6)
    kernel: int = number("k", 7, default=3)

    def block(self, grid: int, *, drop_path: float = 0.0) -> InvertedResidual:
        return InvertedResidual(self.width, self.expansion, self.kernel, drop_path)


# ---- ConvNeXt


def mlp(width: int, expansion: int) -> nn.Sequential:
    """Build FC2(GELU(FC1(x))) over the last dimension."""
    return nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))


class ConvNeXtBlock(nn.Module):
    """x + scale * MLP(LN(depthwise(x))), with one `scale` for each channel."""

    def __init__(self, width: int, expansion: int, kernel: int, drop_path: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = mlp(width, expansion)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        y = self.depthwise(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        y = self.scale * self.mlp(self.norm(y))
        return x + self.drop_path(y.permute(0, 3, 1, 2))


@register
@dataclass(frozen=True, kw_only=True)
class ConvNeXt(Stage):
    """Blocks of ConvNeXt (Liu et al. 2022, section 2 and Fig. 4)."""

    kind = "convnext"
    rules = (*Stage.rules, Rule(("k",), check_kernel))
    expansion: int = number("e", 64, default=4)
    kernel: int = number("k", 31, default=7)

    def block(self, grid: int, *, drop_path: float = 0.0) -> ConvNeXtBlock:
        return ConvNeXtBlock(self.width, self.expansion, self.kernel, drop_path)


# ---- Swin


class WindowAttention(nn.Module):
    """Self-attention inside each window of `window` x `window` positions, with a relative position bias.

    A `shift` moves the windows by that many positions to the right and down; those that leave the map come in again on
    the other side, where positions of different sides do not attend to each other.
    """

    different: Tensor

    def __init__(self, width: int, grid: int, *, head_size: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = width // head_size, window, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.empty(self.heads, 2 * window - 1, 2 * window - 1))
        nn.init.trunc_normal_(self.bias, std=0.02)
        side = (torch.arange(grid) >= grid - shift).int()  # 1 where a shifted row or column comes from the other side
        areas = self.windows((2 * side[:, None] + side).view(1, grid, grid, 1)).squeeze(-1)  # (1, windows, N)
        self.register_buffer("different", (areas[0, :, None, :, None] != areas[0, :, None, None, :]), persistent=False)

    def windows(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, windows, N, C), N = window^2."""
        x = x.unflatten(1, (-1, self.window)).unflatten(3, (-1, self.window))  # (B, H/w, w, W/w, w, C)
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def position_bias(self) -> Tensor:
        """Return (heads, N, N): for a query at (y, x) and a key at (v, u), `bias` at (y - v, x - u)."""
        w = self.window
        pairs = self.bias.unfold(1, w, 1).unfold(2, w, 1)  # (heads, y, x, w-1-v, w-1-u)
        return pairs.flip(3, 4).reshape(self.heads, w * w, w * w)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C) -> (B, H, W, C)
        shape = x.shape
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        qkv = self.qkv(self.windows(x)).unflatten(3, (3, self.heads, -1))  # (B, windows, N, 3, heads, d)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)  # (B, windows, heads, N, d) each
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1) + self.position_bias()
        if self.shift:
            scores = scores.masked_fill(self.different, -torch.inf)
        x = self.proj((scores.softmax(-1) @ v).transpose(2, 3).flatten(3))  # (B, windows, N, C)
        rows = shape[1] // self.window
        x = x.unflatten(2, (self.window, -1)).unflatten(1, (rows, -1))  # (B, H/w, W/w, w, w, C)
        x = x.transpose(2, 3).reshape(shape)
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x


class SwinBlock(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x))."""

    def __init__(self, width: int, expansion: int, attention: WindowAttention, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), attention
        self.norm2, self.mlp = nn.LayerNorm(width), mlp(width, expansion)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = x + self.drop_path(self.attention(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.permute(0, 3, 1, 2)


@register
@dataclass(frozen=True, kw_only=True)
class Swin(Stage):
    """Swin blocks (Liu et al. 2021, section 3.2), all with shifted windows or all without.

    The paper alternates: `swin(96) -> swin(96 shift=yes down=none)` is a pair.
    """

    kind = "swin"
    rules = (*Stage.rules, Rule(("w", "d"), check_heads))
    expansion: int = number("e", 64, default=4)
    head_size: int = number("d", 4096, default=32, scales=True)
    window: int = number("win", 64, low=2, default=7)
    shift: str = word("shift", "no", "yes", default="no")

    @property
    def grid_multiple(self) -> int:
        return self.window

    def block(self, grid: int, *, drop_path: float = 0.0) -> SwinBlock:
        # A single window covers the map: nothing to shift, as in the paper's code.
        shift = self.window // 2 if self.shift == "yes" and grid > self.window else 0
        attention = WindowAttention(self.width, grid, head_size=self.head_size, window=self.window, shift=shift)
        return SwinBlock(self.width, self.expansion, attention, drop_path)


# ---- PoolFormer


class PoolFormerBlock(nn.Module):
    """x + scale1 * (pool(y) - y) for y = norm1(x), then x + scale2 * MLP(norm2(x)); the norm is over C, H and W."""

    def __init__(self, width: int, expansion: int, pool: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, width), nn.GroupNorm(1, width)
        self.pool = pool
        hidden = expansion * width
        self.mlp = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.GELU(), nn.Conv2d(hidden, width, 1))
        self.scale1 = nn.Parameter(torch.full((width,), 1e-5))
        self.scale2 = nn.Parameter(torch.full((width,), 1e-5))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        y = self.norm1(x)
        mean = F.avg_pool2d(y, self.pool, 1, self.pool // 2, count_include_pad=False)
        x = x + self.drop_path(self.scale1[:, None, None] * (mean - y))
        return x + self.drop_path(self.scale2[:, None, None] * self.mlp(self.norm2(x)))


@register
@dataclass(frozen=True, kw_only=True)
class PoolFormer(Stage):
    """Blocks of PoolFormer, which mix positions by an average (Yu et al. 2022, section 3.2)."""

    kind = "pool"
    rules = (*Stage.rules, Rule(("k",), check_kernel))
    expansion: int = number("e", 64, default=4)
    kernel: int = number("k", 31, default=3)

    def block(self, grid: int, *, drop_path: float = 0.0) -> PoolFormerBlock:
        if grid == 1:
            raise SpecError("pool needs a grid of at least 2x2: one position minus its own average is nothing")
        return PoolFormerBlock(self.width, self.expansion, self.kernel, drop_path)
