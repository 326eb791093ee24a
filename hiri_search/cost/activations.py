"""Activation count: elements that one forward pass writes to memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hiri_search.language import DenseNetwork, Network, TimmNetwork
from hiri_search.language.dense_network import InputSize, height_and_width, square_side
from hiri_search.nets.dense.body import body_of
from hiri_search.nets.eval_mode import eval_mode
from hiri_search.nets.pieces import IMAGE_CHANNELS, Piece, placed_pieces
from hiri_search.networks import build, map_shapes


@cache
def activation_count(network: Network, side: InputSize, *, classes: int = 1000) -> int:
    """Number of elements that all operators except views write in the forward pass of one image.

    For our own networks the count is the sum over their pieces. It runs on the meta device, without computation.
    """
    if isinstance(network, DenseNetwork):
        return _dense_activation_count(network, height_and_width(side), classes)
    side = square_side(side)
    if isinstance(network, TimmNetwork):
        with torch.device("meta"):
            module = build(network, side, classes=classes)
        return module_activation_count(module, (IMAGE_CHANNELS, side, side))
    pieces = placed_pieces(network, side, classes=classes)
    return sum(_piece_activation_count(placed.piece, placed.side) * placed.times for placed in pieces)


def _dense_activation_count(network: DenseNetwork, size: tuple[int, int], classes: int) -> int:
    with torch.device("meta"):
        module: Any = build(network, min(size), classes=classes)
    body = body_of(module)
    assert body is not None
    parts = module.parts(map_shapes(network.backbone, network.method.maps, size))
    behind_body: int = sum(part.times * _elements(part.module, *part.shapes) for part in parts)
    return module_activation_count(body, (IMAGE_CHANNELS, *size)) + behind_body


@cache
def _piece_activation_count(piece: Piece, side: int) -> int:
    with torch.device("meta"):
        module = piece.build(side)
    return module_activation_count(module, (piece.channels, side, side))


def module_activation_count(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Activation count of any module for one input of `shape` (C, H, W), on the device of its weights."""
    return _elements(module, (1, *shape))


def _elements(module: nn.Module, *shapes: tuple[int, ...]) -> int:
    device = next((weight.device for weight in module.parameters()), torch.device("meta"))
    inputs, counter = [torch.empty(shape, device=device) for shape in shapes], _ElementCounter()
    with eval_mode(module), torch.no_grad(), counter:
        module(*inputs)
    return counter.elements


class _ElementCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager that counts the elements written by operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.elements += sum(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out
