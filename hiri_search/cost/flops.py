"""Parameters and multiply-adds, counted by fvcore on the real modules, piece by piece."""

from __future__ import annotations

import warnings
from collections import Counter, UserDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cache, partial
from itertools import chain
from math import prod
from typing import Any, TypeAlias

import torch
from torch import nn

from hiri_search.cost.count_cache import CachedNumbers, cache_enabled, cached
from hiri_search.language import Network, SpecError, TimmNetwork
from hiri_search.nets.eval_mode import eval_mode, one_thread
from hiri_search.nets.pieces import IMAGE_CHANNELS, Piece, is_ours, placed_pieces
from hiri_search.networks import build_timm, is_ours_or_timms, timm_builder

with warnings.catch_warnings():  # fvcore compiles a loss at import, with a function that torch now deprecates
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import elementwise_flop_counter

CORE_OPERATORS = frozenset({"conv", "linear", "matmul", "mm", "addmm", "bmm", "einsum", "attention"})

# Operators that papers, and fvcore by its convention, do not count. An operator that is neither counted nor listed here
# is an error, because a silent zero makes counts wrong. Never list an operator that weights channels or positions.
_UNCOUNTED = (
    # elementwise
    "add add_ sub rsub mul mul_ div div_ neg pow square sqrt rsqrt exp cos sin ceil clamp_min addcmul "
    "gelu relu6 leaky_relu_ sigmoid silu silu_ tanh hardtanh hardtanh_ hardsigmoid hardswish hardswish_ "
    "max_pool2d amax ne masked_fill "  # no products and no sums
    "softmax mean sum norm linalg_vector_norm "  # one sum over the elements, without weights
    # data movement
    "pad unflatten reshape_as view_as expand_as repeat repeat_interleave tile clone flip unfold im2col meshgrid "
    "ones ones_like fill_ one_hot "
    "dropout_ feature_dropout"  # nothing in eval mode
)
UNCOUNTED = frozenset(f"aten::{name}" for name in _UNCOUNTED.split())


class CountError(SpecError):
    """An operator has arithmetic, and no handle to count it."""


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


def count(network: Network, side: int, *, classes: int = 1000) -> Cost:
    """Return the cost of a network for square inputs of `side` pixels: the sum over its parts.

    Raises SpecError where the network does not accept such inputs, and CountError as `count_module` does.
    """
    return sum(count_parts(network, side, classes=classes).values(), ZERO)


def count_parts(network: Network, side: int, *, classes: int = 1000) -> dict[str, Cost]:
    """Return the cost of each part: stem, stage1, down2, stage2, ... head.

    The parts of a timm network are its direct submodules, under their own names; the remainder is called `rest`.
    """
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
    by_module = _operators(module, (1, *shape))
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
    return _cost(set(module.parameters()), _operators(module, (1, *shape))[""])


def count_operators(module: nn.Module, *shapes: tuple[int, ...]) -> Counter[str]:
    """Return the multiply-adds of any module by operator, for inputs of these shapes, the batch included.

    Raises CountError as `count_module` does.
    """
    return _operators(module, *shapes)[""]


def _cost(parameters: Iterable[nn.Parameter], operators: Counter[str]) -> Cost:
    core = sum(number for name, number in operators.items() if name in CORE_OPERATORS)
    return Cost(sum(p.numel() for p in parameters), round(operators.total()), round(core))


def _operators(module: nn.Module, *shapes: tuple[int, ...]) -> dict[str, Counter[str]]:
    """Return multiply-adds by operator, for each submodule by its name and for the whole module by an empty name."""
    with eval_mode(module), torch.no_grad(), one_thread(), _without_fast_path():
        analysis = FlopCountAnalysis(module, tuple(map(torch.zeros, shapes))).ancestor_mode("owner")
        analysis.set_op_handle(**OPERATOR_HANDLES)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        operators: dict[str, Counter[str]] = analysis.by_module_and_operator()
        unknown = set(analysis.unsupported_ops()) - UNCOUNTED
    if unknown:
        operators_text = ", ".join(sorted(unknown))
        raise CountError(f"no handle counts {operators_text}; add one to {__name__}.OPERATOR_HANDLES")
    return operators


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Let torch's own Transformer layers call the operators of a training, not a single one that nothing counts."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _sizes(value: Any) -> list[int]:
    return [int(n) for n in value.type().sizes()]


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """QK^T and AV of fused attention, which fvcore ignores: B * heads * Nq * Nk * (dk + dv)."""
    query, key, value = map(_sizes, inputs[:3])
    return Counter({"attention": prod(query[:-1]) * key[-2] * (query[-1] + value[-1])})


def _einsum_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """One multiply-add per combination of the indices of two operands; fvcore's handle rounds to three digits."""
    terms = inputs[0].toIValue().replace(" ", "").partition("->")[0].split(",")
    operands = [_sizes(operand) for operand in inputs[1].node().inputs()]
    if len(terms) != 2 or [len(term) for term in terms] != [len(sizes) for sizes in operands]:
        raise CountError(f"no handle counts an einsum of {','.join(terms)}; write named indices and two operands")
    sizes = dict(zip("".join(terms), chain(*operands), strict=True))
    return Counter({"einsum": prod(sizes.values())})


def _convolution_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A convolution with padding given as a word; fvcore counts only convolutions with numbers as padding."""
    return Counter({"conv": prod(_sizes(outputs[0])) * prod(_sizes(inputs[1])[1:])})


# Added to fvcore's handles by analogy: one multiply-add per input element of a pooling, as for its adaptive pooling,
# and one per weight of an interpolation, as for its bilinear interpolation.
_PER_INPUT = elementwise_flop_counter(1, 0)
Handle: TypeAlias = Callable[[list[Any], list[Any]], Any]


class _Handles(UserDict[str, Handle]):
    """Handles by operator; after a change of the user no count from before it, and none from the disk, is used."""

    changed = False

    def __setitem__(self, operator: str, handle: Handle) -> None:
        super().__setitem__(operator, handle)
        self.changed = True
        for counted in (_piece_cost, _timm_parts):
            counted.cache_clear()


OPERATOR_HANDLES = _Handles()
OPERATOR_HANDLES.data |= {
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::einsum": _einsum_macs,
    "aten::_convolution_mode": _convolution_macs,
    "aten::avg_pool1d": _PER_INPUT,
    "aten::avg_pool2d": _PER_INPUT,
    "aten::col2im": _PER_INPUT,
    "aten::cumsum": _PER_INPUT,
    "aten::upsample_bicubic2d": elementwise_flop_counter(0, 16),
}
