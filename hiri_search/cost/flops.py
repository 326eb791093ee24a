"""Parameters and multiply-adds, counted by fvcore on the real modules, piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from functools import cache, partial

from torch import nn

from hiri_search.cost.count_cache import CachedNumbers, cache_enabled, cached
from hiri_search.cost.dense import count_dense
from hiri_search.cost.operators import CORE_OPERATORS, OPERATOR_HANDLES, CountError, operators_by_module
from hiri_search.language import DenseNetwork, Network, SpecError, TimmNetwork
from hiri_search.language.dense_network import InputSize, as_network, square_side
from hiri_search.nets.pieces import IMAGE_CHANNELS, Piece, is_ours, placed_pieces
from hiri_search.networks import build_timm, is_ours_or_timms, timm_builder


@dataclass(frozen=True)
class Cost:
    """Costs of a network, or of a piece of one, at batch 1."""

    params: int
    macs: int  # multiply-adds of one forward pass, with norms and upsampling as fvcore counts them: papers' FLOPs
    core_macs: int  # of convolutions, fully connected layers and matrix products only

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs, self.core_macs + other.core_macs)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.params * times, self.macs * times, self.core_macs * times)


ZERO = Cost(0, 0, 0)


def count(network: Network | str, side: InputSize, *, classes: int = 1000) -> Cost:
    """Return the cost of a network, or of its spec, for square inputs of `side` pixels: the sum over its parts.

    The side of a dense network may be `WIDTHxHEIGHT`.

    Raises SpecError where the network does not accept such inputs, and CountError as `count_module` does.
    """
    return sum(count_parts(network, side, classes=classes).values(), ZERO)


def count_parts(network: Network | str, side: InputSize, *, classes: int = 1000) -> dict[str, Cost]:
    """Return the cost of each part: stem, stage1, down2, stage2, ... head.

    The parts of a timm network are its direct submodules, under their own names; the remainder is called `rest`.
    Those of a dense network are the parts of its backbone, and those of its method.
    """
    network = as_network(network)
    if isinstance(network, DenseNetwork):
        parts = count_dense(network, side, classes=classes)
        return {name: Cost(part.params, part.macs, part.core_macs) for name, part in parts.items()}
    side = square_side(side)
    if isinstance(network, TimmNetwork):
        own = None if is_ours_or_timms(network) else timm_builder(network)  # another study may register the same name
        return dict(_timm_parts(network, side, classes, cache_enabled() and not OPERATOR_HANDLES.changed, own))
    return {p.name: piece_cost(p.piece, p.side) * p.times for p in placed_pieces(network, side, classes=classes)}


def piece_cost(piece: Piece, side: int) -> Cost:
    """Return the cost of a piece for square feature maps of `side` pixels; may raise CountError."""
    return _piece_cost(piece, side, cache_enabled() and not OPERATOR_HANDLES.changed)


@cache  # `from_disk` is part of the key: costs read from disk are not used where the disk cache is disabled
def _piece_cost(piece: Piece, side: int, from_disk: bool) -> Cost:
    def count_piece() -> CachedNumbers:
        return {"": astuple(count_module(piece.build(side), (piece.channels, side, side)))}

    # The user's kinds and handles are not part of the cache's key.
    return Cost(*(cached(f"{piece!r} {side}", count_piece) if from_disk and is_ours(piece) else count_piece())[""])


@cache
def _timm_parts(network: TimmNetwork, side: int, classes: int, from_disk: bool, own: object) -> dict[str, Cost]:
    count_parts_of_timm = partial(_count_timm_parts, network, side, classes)
    # The code of networks that other packages register is not part of the cache's key.
    cacheable = from_disk and is_ours_or_timms(network)
    numbers = cached(f"{network!r} {side} {classes}", count_parts_of_timm) if cacheable else count_parts_of_timm()
    return {name: Cost(*counts) for name, counts in numbers.items()}


def _count_timm_parts(network: TimmNetwork, side: int, classes: int) -> CachedNumbers:
    module = build_timm(network, side, classes=classes)
    try:
        return {name: astuple(cost) for name, cost in _module_parts(module, (IMAGE_CHANNELS, side, side)).items()}
    except CountError as error:
        raise CountError(f"'{network}': {error}") from error
    except Exception as error:  # foreign code at a side that the user chose: any error means that the side is wrong
        reason = f"timm says: {type(error).__name__} {error}"
        raise SpecError(f"'{network}' takes no inputs of {side} pixels; choose another side ({reason})") from error


def _module_parts(module: nn.Module, shape: tuple[int, ...]) -> dict[str, Cost]:
    by_module = operators_by_module(module, (1, *shape))
    parts: dict[str, Cost] = {}
    counted: set[nn.Parameter] = set()
    for name, child in module.named_children():
        parts[name] = _cost(set(child.parameters()) - counted, by_module[name])
        counted |= set(child.parameters())
    whole = _cost(set(module.parameters()), by_module[""])
    parts["rest"] = whole + sum(parts.values(), ZERO) * -1
    return {name: cost for name, cost in parts.items() if cost != ZERO}


def count_module(module: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Return the cost of any module for one input of `shape` (C, H, W).

    Raises CountError, with the names of the operators, where an operator has arithmetic and no handle.
    """
    return _cost(set(module.parameters()), operators_by_module(module, (1, *shape))[""])


def _cost(parameters: Iterable[nn.Parameter], operators: Counter[str]) -> Cost:
    core = sum(number for name, number in operators.items() if name in CORE_OPERATORS)
    return Cost(sum(p.numel() for p in parameters), round(operators.total()), round(core))


OPERATOR_HANDLES.on_change.extend([_piece_cost.cache_clear, _timm_parts.cache_clear])
