"""Parts of a dense network behind its body, as they are counted: each with the shapes of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

Shape: TypeAlias = tuple[int, ...]
BOX_GRID, MASK_GRID = 7, 14  # side of the maps that are cut out for a box, and for a mask
MASK_ROIS = 100  # masks that are counted for one image, as many as detections: fixed by the costs of Table 4


@dataclass(frozen=True)
class DensePart:
    """A part with the shapes of its inputs (with the batch), and how often it runs for one image."""

    name: str
    module: nn.Module  # returns all outputs: what it does not return is not counted
    shapes: tuple[Shape, ...]
    times: int = 1


class Called(nn.Module):
    """A module, or several, called by a function of plain tensors."""

    def __init__(self, call: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.call, self.modules_called = call, nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> Any:
        return self.call(*inputs)


def pyramid_part(pyramid: Any, shapes: Sequence[Shape]) -> DensePart:
    """Return the pyramid behind maps of these shapes."""
    neck = Called(lambda *maps: list(pyramid.neck(maps).values()), pyramid.norms, pyramid.fpn)
    return DensePart("pyramid", neck, tuple(shapes))


def level_shapes(pyramid: Any, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Return the shapes of all levels of a pyramid of maps of these shapes."""
    sizes = [shape[-2:] for shape in shapes]
    while len(sizes) < len(pyramid.strides):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return tuple((1, pyramid.out_channels, *size) for size in sizes)


def proposal_part(head: nn.Module, levels: tuple[Shape, ...]) -> DensePart:
    """Return the head of a region proposal network on these levels."""
    return DensePart("proposals", Called(lambda *maps: head(list(maps)), head), levels)


def region_parts(heads: Any, width: int, regions: int, number: str = "") -> list[DensePart]:
    """Return the box head and the mask head of torchvision's `RoIHeads` on one region of interest each.

    The box head runs on `regions` regions of an image.
    """
    box = nn.Sequential(heads.box_head, heads.box_predictor)
    mask = nn.Sequential(heads.mask_head, heads.mask_predictor)
    return [
        DensePart(f"box_head{number}", box, ((1, width, BOX_GRID, BOX_GRID),), regions),
        DensePart(f"mask_head{number}", mask, ((1, width, MASK_GRID, MASK_GRID),), MASK_ROIS),
    ]
