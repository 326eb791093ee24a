"""Costs of dense networks, part by part: a backbone for images of any size, a pyramid, and heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log2

import torch
from torch import nn

from hiri_search.cost.count_cache import CachedNumbers, cached
from hiri_search.cost.operators import CORE_OPERATORS, OPERATOR_HANDLES, count_operators
from hiri_search.language import Backbone, DenseNetwork, TimmNetwork
from hiri_search.language.dense_network import InputSize, height_and_width
from hiri_search.nets.dense.build import build_method
from hiri_search.nets.dense.parts import Shape
from hiri_search.nets.pieces import IMAGE_CHANNELS, body_pieces, is_ours
from hiri_search.networks import build_body, is_ours_or_timms, map_shapes

PRODUCTS = frozenset({"matmul", "bmm", "einsum", "attention"})  # operators that multiply activations, without weights
_PARAMS = "params"  # beside the operators, in the cache


@dataclass(frozen=True)
class DenseCost:
    """Costs of a part of a dense network for one image: parameters, and multiply-adds by operator."""

    params: int
    operators: Mapping[str, float]

    @property
    def macs(self) -> int:
        """Multiply-adds, with norms and upsampling as fvcore counts them."""
        return round(sum(self.operators.values()))

    @property
    def core_macs(self) -> int:
        """Multiply-adds of convolutions, fully connected layers and matrix products only."""
        return round(sum(number for name, number in self.operators.items() if name in CORE_OPERATORS))

    @property
    def product_macs(self) -> int:
        """Multiply-adds of two activations, as those of attention: counters that hook modules do not see them."""
        return round(sum(number for name, number in self.operators.items() if name in PRODUCTS))

    def times(self, runs: int, *, copies: int = 1) -> DenseCost:
        """Return the costs of so many runs of the part, and of so many copies of its parameters."""
        return DenseCost(self.params * copies, {name: number * runs for name, number in self.operators.items()})


def total(parts: Iterable[DenseCost]) -> DenseCost:
    """Return the sum of the costs of parts."""
    params, operators = 0, Counter[str]()
    for part in parts:
        params += part.params
        operators.update(part.operators)
    return DenseCost(params, operators)


def count_dense(network: DenseNetwork, size: InputSize, *, classes: int) -> dict[str, DenseCost]:
    """Return the costs of a dense network for one image of `size`, part by part.

    Heads that run on regions of interest are counted on one of them, and multiplied. Raises SpecError where the
    network does not accept such images, and CountError as `hiri_search.cost.flops.count_module` does.
    """
    height_width, backbone, maps = height_and_width(size), network.backbone, network.method.maps
    shapes = map_shapes(backbone, maps, height_width)
    with torch.device("meta"):  # weights are made where they are counted, and not where the cache has the costs
        behind_body = build_method(network, _Maps(shapes, height_width), classes, side=min(height_width))
    key = f"{network.method.name} {network.width} {network.norms} {classes}"
    return count_body(backbone, maps, height_width) | {
        part.name: _counted(f"{key} {part.name} {part.shapes}", part.module, part.shapes).times(part.times)
        for part in behind_body.parts(shapes)
    }


def count_body(network: Backbone, maps: int, size: tuple[int, int]) -> dict[str, DenseCost]:
    """Return the costs of a backbone up to its last map, part by part; a network of timm is one part, `backbone`."""
    if isinstance(network, TimmNetwork):
        body = partial(build_body, network, maps)
        key = f"{network!r} {maps} {size}" if is_ours_or_timms(network) else ""
        return {"backbone": _counted(key, body, ((1, IMAGE_CHANNELS, *size),))}
    costs: dict[str, DenseCost] = {}
    for name, piece, grid, times in body_pieces(network, *size):
        key = f"{piece!r} {grid}" if is_ours(piece) else ""
        built = partial(piece.build, max(grid))  # the grid matters to kinds of the user alone
        costs[name] = _counted(key, built, ((1, piece.channels, *grid),)).times(times, copies=times)
    return costs


class _Maps(nn.Module):
    """Stands in for a body whose maps have these shapes."""

    def __init__(self, shapes: Sequence[Shape], size: tuple[int, int]) -> None:
        super().__init__()
        self.channels = tuple(shape[1] for shape in shapes)
        self.strides = tuple(2 ** round(log2(size[0] / shape[2])) for shape in shapes)


def _counted(key: str, module: nn.Module | Callable[[], nn.Module], shapes: tuple[Shape, ...]) -> DenseCost:
    """Return the costs of one run of a module; from the cache on disk where there is a key."""

    def count() -> CachedNumbers:
        built = module.to_empty(device="cpu") if isinstance(module, nn.Module) else module()
        params = sum(each.numel() for each in built.parameters())
        operators = count_operators(built, *shapes)
        return {_PARAMS: (params,)} | {name: (round(number),) for name, number in operators.items()}

    numbers = dict(cached(f"dense {key}", count) if key and not OPERATOR_HANDLES.changed else count())
    (params,) = numbers.pop(_PARAMS)
    return DenseCost(params, {name: number for name, (number,) in numbers.items()})
