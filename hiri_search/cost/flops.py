"""Parameters and multiply-adds, counted by fvcore on the real modules, piece by piece."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from functools import cache
from itertools import chain
from math import prod
from typing import Any

import torch
from torch import nn

from hiri_search.cost.count_cache import CachedNumbers, cache_enabled, cached
from hiri_search.language import Network, SpecError, TimmNetwork
from hiri_search.nets.eval_mode import eval_mode, one_thread
from hiri_search.nets.pieces import IMAGE_CHANNELS, Piece, placed_pieces
from hiri_search.networks import build_timm, is_ours_or_timms

with warnings.catch_warnings():  # fvcore compiles a loss when imported, by what torch now deprecates
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import elementwise_flop_counter

CORE = frozenset({"conv", "linear", "matmul", "mm", "addmm", "bmm", "einsum", "attention"})

# What papers, and fvcore by its convention, do not count. Whatever is neither here nor counted is an error:
# a silent zero is how counts go wrong. So nothing that weighs channels or positions may ever stand here.
_ELEMENTWISE = (
    "add add_ sub rsub mul mul_ div div_ neg pow square sqrt rsqrt exp cos sin ceil clamp_min addcmul "
    "gelu relu6 leaky_relu_ sigmoid silu silu_ tanh hardtanh hardtanh_ hardsigmoid hardswish hardswish_"
)
_COMPARING = "max_pool2d amax"  # the largest of several: no products and no sums
_NORMALISING = "softmax mean sum norm linalg_vector_norm"  # one sum over the elements, nothing weighted
_MOVING = (
    "pad unflatten reshape_as expand_as repeat repeat_interleave tile clone flip unfold im2col meshgrid "
    "ones ones_like fill_ one_hot"
)
_IDLE = "dropout_ feature_dropout"  # in eval mode
UNCOUNTED = frozenset(
    f"aten::{name}" for group in (_ELEMENTWISE, _COMPARING, _NORMALISING, _MOVING, _IDLE) for name in group.split()
)


class CountError(RuntimeError):
    """An operator with arithmetic that nobody has said how to count."""


@dataclass(frozen=True)
class Cost:
    """What a network, or a piece of one, costs at batch 1."""

    params: int
    macs: int  # multiply-adds of one forward pass, fvcore's for norms and upsampling among them: papers' FLOPs
    core_macs: int  # convolutions, fully connected layers and matrix products only

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs, self.core_macs + other.core_macs)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.params * times, self.macs * times, self.core_macs * times)


ZERO = Cost(0, 0, 0)


def count(network: Network, side: int, *, classes: int = 1000) -> Cost:
    """The cost of a network for square inputs of `side` pixels: the sum over its parts.

    SpecError where it is not made for such inputs; CountError as in `count_module`.
    """
    return sum(count_parts(network, side, classes=classes).values(), ZERO)


def count_parts(network: Network, side: int, *, classes: int = 1000) -> dict[str, Cost]:
    """The cost by part: stem, stage1, down2, stage2, ... head.

    Of a network of timm by the modules that it holds itself, in its words; what belongs to none of them is `rest`.
    """
    if isinstance(network, TimmNetwork):
        return dict(_peer_parts(network, side, classes, cache_enabled()))
    return {p.name: piece_cost(p.piece, p.side) * p.times for p in placed_pieces(network, side, classes=classes)}


def piece_cost(piece: Piece, side: int) -> Cost:
    """The cost of a piece for square maps of `side` pixels. CountError as in `count_module`."""
    return _piece_cost(piece, side, cache_enabled())


@cache  # with `believed`: what was read, and what is counted anew, are kept apart
def _piece_cost(piece: Piece, side: int, believed: bool) -> Cost:
    def found() -> CachedNumbers:
        return {"": astuple(count_module(piece.build(), (piece.channels, side, side)))}

    return Cost(*cached(f"{piece!r} {side}", found)[""])


@cache
def _peer_parts(peer: TimmNetwork, side: int, classes: int, believed: bool) -> dict[str, Cost]:
    def found() -> CachedNumbers:
        return {name: astuple(cost) for name, cost in _found_parts(peer, side, classes).items()}

    numbers = cached(f"{peer!r} {side} {classes}", found) if is_ours_or_timms(peer) else found()
    return {name: Cost(*each) for name, each in numbers.items()}


def _found_parts(peer: TimmNetwork, side: int, classes: int) -> dict[str, Cost]:
    module = build_timm(peer, side, classes=classes)
    try:
        return _module_parts(module, (IMAGE_CHANNELS, side, side))
    except CountError as error:
        raise CountError(f"'{peer}': {error}") from error
    except Exception as error:  # another's code at a user's side: whatever it raises is about this
        said = f"timm says: {type(error).__name__} {error}"
        raise SpecError(f"'{peer}' takes no inputs of {side} pixels; choose another side ({said})") from error


def _module_parts(module: nn.Module, shape: tuple[int, ...]) -> dict[str, Cost]:
    by_module = _operators(module, shape)
    parts: dict[str, Cost] = {}
    seen: set[nn.Parameter] = set()
    for name, child in module.named_children():
        parts[name] = _cost(set(child.parameters()) - seen, by_module[name])
        seen |= set(child.parameters())
    whole = _cost(set(module.parameters()), by_module[""])
    parts["rest"] = whole + sum(parts.values(), ZERO) * -1
    return {name: cost for name, cost in parts.items() if cost != ZERO}


def count_module(module: nn.Module, shape: tuple[int, ...]) -> Cost:
    """The cost of any module for one input of `shape` (C, H, W).

    Raises CountError, naming the operators, where something with arithmetic would be missed.
    """
    return _cost(set(module.parameters()), _operators(module, shape)[""])


def _cost(parameters: Iterable[nn.Parameter], operators: Counter[str]) -> Cost:
    core = sum(number for name, number in operators.items() if name in CORE)
    return Cost(sum(p.numel() for p in parameters), round(operators.total()), round(core))


def _operators(module: nn.Module, shape: tuple[int, ...]) -> dict[str, Counter[str]]:
    """Multiply-adds by operator, of each module within `module` by its name, of the whole by ``."""
    with eval_mode(module), torch.no_grad(), one_thread():
        analysis = FlopCountAnalysis(module, torch.zeros(1, *shape)).ancestor_mode("owner")
        analysis.set_op_handle(**HANDLES)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        operators: dict[str, Counter[str]] = analysis.by_module_and_operator()
        unknown = set(analysis.unsupported_ops()) - UNCOUNTED
    if unknown:
        raise CountError(f"nobody has said how to count {', '.join(sorted(unknown))}; write a handle for it")
    return operators


def _sizes(value: Any) -> list[int]:
    return [int(n) for n in value.type().sizes()]


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """QK^T and AV of fused attention, which fvcore passes over: B * heads * Nq * Nk * (dk + dv)."""
    query, key, value = map(_sizes, inputs[:3])
    return Counter({"attention": prod(query[:-1]) * key[-2] * (query[-1] + value[-1])})


def _einsum_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """One for each combination of the indices of two operands; fvcore's own is rounded to three digits."""
    terms = inputs[0].toIValue().replace(" ", "").partition("->")[0].split(",")
    operands = [_sizes(operand) for operand in inputs[1].node().inputs()]
    if len(terms) != 2 or [len(term) for term in terms] != [len(sizes) for sizes in operands]:
        raise CountError(f"nobody has said how to count an einsum of {','.join(terms)}")
    sizes = dict(zip("".join(terms), chain(*operands), strict=True))
    return Counter({"einsum": prod(sizes.values())})


def _convolution_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A convolution whose padding is a word; fvcore knows only those with numbers."""
    return Counter({"conv": prod(_sizes(outputs[0])) * prod(_sizes(inputs[1])[1:])})


# Beyond those of fvcore: one for each input that is added up, as it has for adaptive pooling; one for each weight of an
# interpolation, as it has for the bilinear one.
_ADDING = elementwise_flop_counter(1, 0)
HANDLES: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::einsum": _einsum_macs,
    "aten::_convolution_mode": _convolution_macs,
    "aten::avg_pool1d": _ADDING,
    "aten::avg_pool2d": _ADDING,
    "aten::col2im": _ADDING,
    "aten::cumsum": _ADDING,
    "aten::upsample_bicubic2d": elementwise_flop_counter(0, 16),
}
