"""A network as a list of pieces (stem, downsampling, block, head), each built and counted on its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from sys import intern

from torch import nn

from hiri_search.language.net import STEM_STRIDE, Net
from hiri_search.language.stages import Part, Stage
from hiri_search.nets.blocks import block
from hiri_search.nets.downsample import downsampling
from hiri_search.nets.head import Head
from hiri_search.nets.stems import stem

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class StemPiece:
    """The stem before a first stage of this width."""

    part: Part
    width: int
    channels: int = IMAGE_CHANNELS

    def build(self) -> nn.Module:
        return stem(self.part, self.width, channels=self.channels)


@dataclass(frozen=True)
class DownPiece:
    """The downsampling between two widths; `norm` is the norm of the next stage."""

    kind: str
    channels: int
    width: int
    stride: int
    norm: str

    def build(self) -> nn.Module:
        return downsampling(self.kind, self.channels, self.width, stride=self.stride, norm=self.norm)


@dataclass(frozen=True)
class BlockPiece:
    """One block of a stage; stages that differ only in depth or downsampling have equal pieces."""

    stage: Stage

    @staticmethod
    def of(stage: Stage) -> BlockPiece:
        return BlockPiece(replace(stage, depth=1, down=None, stride=None))

    @property
    def channels(self) -> int:
        return self.stage.width

    def build(self, *, drop_path: float = 0.0) -> nn.Module:
        return block(self.stage, drop_path=drop_path)


@dataclass(frozen=True)
class HeadPiece:
    """The head after a last stage of this width."""

    channels: int
    classes: int

    def build(self) -> nn.Module:
        return Head(self.channels, self.classes)


Piece = StemPiece | DownPiece | BlockPiece | HeadPiece


@dataclass(frozen=True)
class PlacedPiece:
    """A piece of a network: its name, the side of its square input map, and how often it occurs in a row."""

    name: str
    piece: Piece
    side: int
    times: int = 1


def down_piece(previous: Stage, stage: Stage) -> DownPiece:
    """Return the downsampling between two stages."""
    assert stage.down is not None
    assert stage.stride is not None
    # IRDS has no norm, so its piece is the same whatever the norm of the stage.
    norm = "ln" if stage.down == "conv" and getattr(stage, "norm", "bn") == "ln" else "bn"
    return DownPiece(stage.down, previous.width, stage.width, stage.stride, norm)


def placed_pieces(net: Net, side: int, *, classes: int = 1000) -> Iterator[PlacedPiece]:
    """Yield the pieces of a network for a square input of `side` pixels, from the stem to the head.

    Names are interned, because a search keeps them for each of its networks.
    """
    grids = net.grids(side)
    yield PlacedPiece("stem", StemPiece(net.stem, net.stages[0].width), side)
    input_grid = side // STEM_STRIDE
    for index, (stage, grid) in enumerate(zip(net.stages, grids, strict=True)):
        if stage.down != "none":
            yield PlacedPiece(intern(f"down{index + 1}"), down_piece(net.stages[index - 1], stage), input_grid)
        yield PlacedPiece(intern(f"stage{index + 1}"), BlockPiece.of(stage), grid, stage.depth)
        input_grid = grid
    yield PlacedPiece("head", HeadPiece(net.stages[-1].width, classes), input_grid)
