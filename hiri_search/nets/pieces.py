"""A network as a list of pieces (stem, downsampling, block, head), each built and counted on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from sys import intern
from typing import ClassVar, TypeVar, cast

from torch import nn

from hiri_search.language.errors import SpecError
from hiri_search.language.net import STEM_STRIDE, Net
from hiri_search.language.stages import DOWNSAMPLINGS, OUR_KINDS, Downsampling, Part, Stage, Stem
from hiri_search.nets.head import Head

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class StemPiece:
    """The stem before a first stage of this width."""

    part: Stem
    width: int
    channels: int = IMAGE_CHANNELS
    shrinks: ClassVar[int] = STEM_STRIDE  # the side of its input by the side of its output

    def build(self, side: int) -> nn.Module:
        return _module(self.part.module(self.channels, self.width, side), self.part)


@dataclass(frozen=True)
class DownPiece:
    """The downsampling between two widths; `norm` is the norm of the next stage."""

    kind: str
    channels: int
    width: int
    stride: int
    norm: str

    @property
    def part(self) -> Downsampling:
        return cast(Downsampling, DOWNSAMPLINGS[self.kind]())

    @property
    def shrinks(self) -> int:
        return self.stride

    def build(self, side: int) -> nn.Module:
        module = self.part.module(self.channels, self.width, side, stride=self.stride, norm=self.norm)
        return _module(module, self.part)


@dataclass(frozen=True)
class BlockPiece:
    """One block of a stage; stages that differ only in depth or downsampling have equal pieces."""

    part: Stage
    shrinks: ClassVar[int] = 1

    @staticmethod
    def of(stage: Stage) -> BlockPiece:
        return BlockPiece(replace(stage, depth=1, down=None, stride=None))

    @property
    def channels(self) -> int:
        return self.part.width

    @property
    def width(self) -> int:
        return self.part.width

    def build(self, side: int, *, drop_path: float = 0.0) -> nn.Module:
        return _module(self.part.block(side, drop_path=drop_path), self.part)


@dataclass(frozen=True)
class HeadPiece:
    """The head after a last stage of this width."""

    channels: int
    classes: int

    def build(self, side: int) -> nn.Module:
        return Head(self.channels, self.classes)


Piece = StemPiece | DownPiece | BlockPiece | HeadPiece
_Size = TypeVar("_Size", int, tuple[int, int])  # a side, or height and width


def is_ours(piece: Piece) -> bool:
    """Return whether a piece is of a kind of this package, not of the user's own."""
    return isinstance(piece, HeadPiece) or type(piece.part).__module__ == OUR_KINDS


@dataclass(frozen=True)
class PlacedPiece:
    """A piece of a network: its name, the side of its square input map, and how often it occurs in a row.

    `piece.build(side)` builds its module for this side.
    """

    name: str
    piece: Piece
    side: int
    times: int = 1


def down_piece(previous: Stage, stage: Stage) -> DownPiece:
    """Return the downsampling between two stages."""
    assert stage.down is not None
    assert stage.stride is not None
    # A downsampling without a norm gives the same piece whatever the norm of the stage.
    uses_norm = cast(type[Downsampling], DOWNSAMPLINGS[stage.down]).uses_norm
    norm = "ln" if uses_norm and getattr(stage, "norm", "bn") == "ln" else "bn"
    return DownPiece(stage.down, previous.width, stage.width, stage.stride, norm)


def _module(built: object, part: Part) -> nn.Module:
    if not isinstance(built, nn.Module):
        raise SpecError(f"{part.kind} builds {type(built).__name__}; its method must return an nn.Module")
    return built


def placed_pieces(net: Net, side: int, *, classes: int = 1000) -> Iterator[PlacedPiece]:
    """Yield the pieces of a network for a square input of `side` pixels, from the stem to the head."""
    grids = net.grids(side)
    for placed in _body(net, side, grids):
        yield PlacedPiece(*placed)
    yield PlacedPiece("head", HeadPiece(net.stages[-1].width, classes), grids[-1])


def body_pieces(net: Net, height: int, width: int) -> Iterator[tuple[str, Piece, tuple[int, int], int]]:
    """Yield name, piece, size of its input map and number in a row of each piece in front of the head.

    Inputs may have any size: grids round up.
    """
    return _body(net, (height, width), net.rounded_grids(height, width))


def _body(net: Net, image: _Size, grids: Sequence[_Size]) -> Iterator[tuple[str, Piece, _Size, int]]:
    """Yield the pieces in front of the head. Names are interned, because a search keeps them for each network."""
    yield "stem", StemPiece(net.stem, net.stages[0].width), image, 1
    input_grid = grids[0]
    for index, (stage, grid) in enumerate(zip(net.stages, grids, strict=True)):
        if stage.down != "none":
            yield intern(f"down{index + 1}"), down_piece(net.stages[index - 1], stage), input_grid, 1
        yield intern(f"stage{index + 1}"), BlockPiece.of(stage), grid, stage.depth
        input_grid = grid
