"""Parameters and multiply-adds of a network, counted by fvcore on the real modules, piece by piece."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from torch import nn

from hiri_search.language.net import Net
from hiri_search.nets.pieces import Piece, place

with warnings.catch_warnings():  # fvcore compiles a loss when imported, by what torch now deprecates
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis

CORE = frozenset({"conv", "linear", "matmul", "mm", "addmm", "bmm", "einsum", "attention"})

# What papers, and fvcore by its convention, do not count. Whatever is neither here nor counted is an error:
# a silent zero is how counts go wrong. So nothing that mixes channels or positions may ever stand here.
_ELEMENTWISE = (
    "add add_ sub rsub mul mul_ div div_ neg pow sqrt rsqrt exp clamp_min "
    "gelu relu6 sigmoid silu silu_ tanh hardtanh hardtanh_ hardswish hardswish_"
)
_NORMALISING = "softmax mean sum norm linalg_vector_norm"  # one sum over the elements, nothing weighted
_MOVING = "pad unflatten expand_as repeat clone ones ones_like fill_"
_IDLE = "dropout_ feature_dropout"  # in eval mode
UNCOUNTED = frozenset(
    f"aten::{name}" for group in (_ELEMENTWISE, _NORMALISING, _MOVING, _IDLE) for name in group.split()
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


def count(net: Net, side: int, *, classes: int = 1000) -> Cost:
    """The cost of a network for square inputs of `side` pixels: the sum over its pieces."""
    return sum(count_parts(net, side, classes=classes).values(), ZERO)


def count_parts(net: Net, side: int, *, classes: int = 1000) -> dict[str, Cost]:
    """The cost by part: stem, stage1, down2, stage2, ... head."""
    return {p.name: _piece_cost(p.piece, p.side) * p.times for p in place(net, side, classes=classes)}


@cache
def _piece_cost(piece: Piece, side: int) -> Cost:
    return count_module(piece.build(), (piece.channels, side, side))


def count_module(module: nn.Module, shape: tuple[int, ...]) -> Cost:
    """The cost of any module for one input of `shape` (C, H, W).

    Raises CountError, naming the operators, where something with arithmetic would be missed.
    """
    with _evaluating(module):
        operators = _operators(module, torch.zeros(1, *shape))
    core = sum(number for name, number in operators.items() if name in CORE)
    return Cost(sum(p.numel() for p in module.parameters()), round(operators.total()), round(core))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In eval mode, where dropout and stochastic depth are gone; each submodule as it was afterwards."""
    before = {inner: inner.training for inner in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for inner, training in before.items():
            inner.training = training


def _operators(module: nn.Module, image: torch.Tensor) -> Counter[str]:
    """Multiply-adds by operator."""
    analysis = FlopCountAnalysis(module, image)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        operators = Counter(analysis.by_operator())
        unknown = set(analysis.unsupported_ops()) - UNCOUNTED
    if unknown:
        raise CountError(f"nobody has said how to count {', '.join(sorted(unknown))}; write a handle for it")
    return operators


def _attention_macs(inputs: Iterable[Any], outputs: Iterable[Any]) -> Counter[str]:
    """QK^T and AV of fused attention, which fvcore passes over: B * heads * Nq * Nk * (dk + dv)."""
    query, key, value = ([int(n) for n in v.type().sizes()] for v in list(inputs)[:3])
    return Counter({"attention": prod(query[:-1]) * key[-2] * (query[-1] + value[-1])})
