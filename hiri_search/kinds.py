"""The kinds of stages, stems and downsamplings of the paper, and what is needed to add one's own.

A kind is a frozen dataclass with its arguments, and the method that builds its `nn.Module`; `@register` makes it part
of the language. Modules are imported when they are built: parsing a spec needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hiri_search.language.errors import SpecError
from hiri_search.language.stages import Downsampling, Rule, Stage, Stem, number, register, word

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Downsampling", "Rule", "SpecError", "Stage", "Stem", "number", "register", "word"]


@register
@dataclass(frozen=True, kw_only=True)
class Hr(Stage):
    """High Resolution blocks (section 4.2); `reduction` is the spatial reduction of the low-resolution branch."""

    kind = "hr"
    expansion: int = number("e", 64)
    reduction: int = number("r", 2, default=2)
    norm: str = word("norm", "bn", default="bn")

    @property
    def grid_multiple(self) -> int:
        return self.reduction

    def block(self, grid: int, *, drop_path: float = 0.0) -> nn.Module:
        from hiri_search.nets.blocks import HighResolutionBlock

        return HighResolutionBlock(self.width, self.expansion, reduction=self.reduction, drop_path=drop_path)


@register
@dataclass(frozen=True, kw_only=True)
class Cffn(Stage):
    """Convolutional feed-forward blocks (Eq. 3)."""

    kind = "cffn"
    expansion: int = number("e", 64)
    norm: str = word("norm", "bn", "ln", default="bn")

    def block(self, grid: int, *, drop_path: float = 0.0) -> nn.Module:
        from hiri_search.nets.blocks import CffnBlock

        return CffnBlock(self.width, self.expansion, norm=self.norm, drop_path=drop_path)


def check_heads(width: int, head_size: int) -> None:
    """Raise SpecError where a width is no whole number of attention heads."""
    if width % head_size:
        divisor = min((d for d in range(1, width + 1) if width % d == 0), key=lambda d: abs(d - head_size))
        problem = f"width {width} is not a multiple of the head size {head_size}"
        raise SpecError(f"{problem}; write d={divisor}, or another width")


@register
@dataclass(frozen=True, kw_only=True)
class Transformer(Stage):
    """Transformer blocks: attention with heads of `head_size` channels, followed by a feed-forward layer."""

    kind = "t"
    rules = (*Stage.rules, Rule(("w", "d"), check_heads))
    expansion: int = number("e", 64)
    head_size: int = number("d", 4096, scales=True, default=64)
    spatial_reduction: int = number("sr", 64, default=1)
    ffn: str = word("ffn", "conv", "plain", default="conv")
    norm: str = word("norm", "mix", "ln", "bn", default="mix")

    @property
    def heads(self) -> int:
        return self.width // self.head_size

    @property
    def grid_multiple(self) -> int:
        return self.spatial_reduction

    def block(self, grid: int, *, drop_path: float = 0.0) -> nn.Module:
        from hiri_search.nets.blocks import TransformerBlock

        return TransformerBlock(
            self.width,
            self.expansion,
            head_size=self.head_size,
            reduction=self.spatial_reduction,
            plain_ffn=self.ffn == "plain",
            norm=self.norm,
            drop_path=drop_path,
        )


@register
@dataclass(frozen=True, kw_only=True)
class HrStem(Stem):
    """The two-branch stem with stride 4 (section 4.2), with `hidden` channels at half resolution (inferred)."""

    kind = "hrstem"
    hidden: int = number("hs", 4096, scales=True, default=32)

    def module(self, channels: int, width: int, side: int) -> nn.Module:
        from hiri_search.nets.stems import HighResolutionStem

        return HighResolutionStem(channels, self.hidden, width)


@register
@dataclass(frozen=True, kw_only=True)
class ConvStem(Stem):
    """The plain convolutional stem (Table 7, rows 5 to 8)."""

    kind = "convstem"
    hidden: int = number("hs", 4096, scales=True, default=32)

    def module(self, channels: int, width: int, side: int) -> nn.Module:
        from hiri_search.nets.stems import conv_stem

        return conv_stem(channels, self.hidden, width)


@register
@dataclass(frozen=True, kw_only=True)
class VitStem(Stem):
    """The stem of a 7x7 convolution with stride 4 and a LayerNorm (Table 7, rows 1 to 4)."""

    kind = "vitstem"

    def module(self, channels: int, width: int, side: int) -> nn.Module:
        from hiri_search.nets.stems import vit_stem

        return vit_stem(channels, width)


@register
@dataclass(frozen=True, kw_only=True)
class IrdsA(Downsampling):
    """Inverted residual downsampling for high resolutions (IRDS-a, section 4.3)."""

    kind = "a"

    def module(self, channels: int, width: int, grid: int, *, stride: int, norm: str) -> nn.Module:
        from hiri_search.nets.downsample import irds

        return irds(channels, width, stride=stride, dense=True)


@register
@dataclass(frozen=True, kw_only=True)
class IrdsB(Downsampling):
    """Inverted residual downsampling for low resolutions (IRDS-b, section 4.3)."""

    kind = "b"

    def module(self, channels: int, width: int, grid: int, *, stride: int, norm: str) -> nn.Module:
        from hiri_search.nets.downsample import irds

        return irds(channels, width, stride=stride, dense=False)


@register
@dataclass(frozen=True, kw_only=True)
class ConvDownsampling(Downsampling):
    """A strided 3x3 convolution and a norm (DS, Table 7)."""

    kind = "conv"
    uses_norm = True

    def module(self, channels: int, width: int, grid: int, *, stride: int, norm: str) -> nn.Module:
        from hiri_search.nets.downsample import conv_downsampling

        return conv_downsampling(channels, width, stride=stride, norm=norm)


@register
@dataclass(frozen=True, kw_only=True)
class NoDownsampling(Downsampling):
    """The stage before goes on with the same width and grid."""

    kind = "none"

    def module(self, channels: int, width: int, grid: int, *, stride: int, norm: str) -> nn.Module:
        from torch import nn

        return nn.Identity()
